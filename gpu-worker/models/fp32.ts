/** The reference: every linear in float32, the checkpoint's own basis. */
import * as ops from '../graph/ops.ts';
import { jointName, jointWeight, jointWidth } from './linear.ts';
import type { Precision } from './precision.ts';

export const fp32 = (): Precision => ({
  name: 'fp32',
  revision: '2',
  rotated: false,
  linear(g, x, specs, weights) {
    const dims = [specs[0]!.in, jointWidth(specs)];
    const w = g.weight(jointName(specs), 'f32', dims, () => jointWeight(specs, ({ path }) => weights.tensor(`${path}.weight`)));
    return ops.matmul(g, x, w);
  },
});
