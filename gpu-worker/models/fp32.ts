/** The reference: every linear in float32, the checkpoint's own basis. */
import { addNormQuantize, gatedUnits } from '../graph/kernels.ts';
import * as ops from '../graph/ops.ts';
import { jointName, jointWeight, jointWidth } from './linear.ts';
import type { Precision } from './precision.ts';

export const fp32 = (): Precision => ({
  name: 'fp32',
  revision: '3',
  rotated: false,
  storage: 'f32',
  product(g, x, specs, weights) {
    const dims = [specs[0]!.in, jointWidth(specs)];
    const w = g.weight(jointName(specs), 'f32', dims, () => jointWeight(specs, ({ path }) => weights.tensor(`${path}.weight`)));
    return { y: ops.matmul(g, x, w), rowScale: null };
  },
  cut: (g, x, pick, counts, groups) => ops.splitRows(g, pick ? ops.gatherRows(g, x, pick, 'picked') : x, counts, groups),
  norm: (g, stream, delta, gain, epsilon) => addNormQuantize(g, stream, delta, gain, epsilon, false),
  gatedUnits: (g, gateUp, activation, signs) => gatedUnits(g, gateUp, activation, signs, false).units,
});
