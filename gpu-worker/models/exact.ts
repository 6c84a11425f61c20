/**
 * Products in float32 whose rows do not depend on how many there are, in every precision: ONNX Runtime multiplies a lone
 * row in another order than several, so all rows are computed in pairs.
 */
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import { jointName, jointWeight, jointWidth, type LinearSpec } from './linear.ts';
import type { WeightSource } from './precision.ts';

/** x [tokens, in] · [W₁ | W₂ | …] → [tokens, Σ out] */
export function exactProduct(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource): Value {
  const [width, tokens] = [jointWidth(specs), x.dims[0]!];
  const w = g.weight(jointName(specs), 'f32', [specs[0]!.in, width], () =>
    jointWeight(specs, ({ path }) => weights.tensor(`${path}.weight`)),
  );
  const twice = ops.reshape(g, ops.matmul(g, ops.concatRows(g, [x, x]), w), [2, -1, width], [2, tokens, width]);
  return ops.gatherRows(g, twice, g.scalar('i64', 0), 'once');
}
