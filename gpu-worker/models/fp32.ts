/** The reference: every linear in float32, the checkpoint's own basis. */
import type { Graph, Value } from '../graph/ir.ts';
import { addNormQuantize, finishLinear, gatedUnits } from '../graph/kernels.ts';
import * as ops from '../graph/ops.ts';
import { jointName, jointWeight, jointWidth, type LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';

function product(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource): Value {
  const dims = [specs[0]!.in, jointWidth(specs)];
  const w = g.weight(jointName(specs), 'f32', dims, () => jointWeight(specs, ({ path }) => weights.tensor(`${path}.weight`)));
  return ops.matmul(g, x, w);
}

export const fp32 = (): Precision => ({
  name: 'fp32',
  revision: '3',
  rotated: false,
  storage: 'f32',
  product: (g, x, specs, weights) => ({ y: product(g, x, specs, weights), rowScale: null }),
  linear: (g, x, specs, weights, finish) => finishLinear(g, product(g, x, specs, weights), x, null, finish),
  cut: (g, x, pick, counts, groups) => ops.splitRows(g, pick ? ops.gatherRows(g, x, pick, 'picked') : x, counts, groups),
  norm: (g, stream, delta, gain, epsilon) => addNormQuantize(g, stream, delta, gain, epsilon, false),
  gatedUnits: (g, gateUp, activation, signs) => gatedUnits(g, gateUp, activation, signs, false).units,
});
