/**
 * 8-bit rows by 8-bit columns. Weights have one scale for each output, activations one for each row:
 *
 *   y = (q_x − 128) · q_W ∘ (s_row s_column),   q_x = round(x / s_row) + 128
 *
 * The sum is exact in 32-bit integers, so a row gives the same bits whatever shares its batch.
 * After a norm every row has unit mean square and, rotated, is nearly Gaussian: s_row is then a constant.
 */
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import { type LinearSpec, servedWeight } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';

/** Largest magnitude that a normalised activation keeps, in standard deviations; what lies beyond saturates. */
const CLIP = 4;

interface QuantizedRows {
  values: Value;
  scale: Value;
  /** [..., 1], or null where `scale` says it all. */
  rowScale: Value | null;
}

export function int8(): Precision {
  const quantized = new WeakMap<Graph, Map<string, QuantizedRows>>();

  function rows(g: Graph, x: Value, normalised: boolean): QuantizedRows {
    const known = quantized.get(g) ?? new Map<string, QuantizedRows>();
    quantized.set(g, known);
    const q = known.get(x.name) ?? (normalised ? constantScale(g, x) : scaleByRow(g, x));
    known.set(x.name, q);
    return q;
  }

  return {
    name: 'int8',
    revision: '1',
    rotated: true,
    linear(g, x, spec, weights, normalised) {
      const { values, scale, rowScale } = rows(g, x, normalised);
      const { weight, columnScale } = quantizedWeight(g, spec, weights);
      const zero = g.weight(`zeros.${spec.out}`, 'i8', [spec.out], () => new Int8Array(spec.out));
      const y = ops.matmulInteger(g, values, scale, g.scalar('u8', 128), weight, columnScale, zero, 'matmul');
      return rowScale ? ops.mul(g, y, rowScale, 'rescaled') : y;
    },
  };
}

function constantScale(g: Graph, x: Value): QuantizedRows {
  const scale = g.scalar('f32', CLIP / 127);
  return { values: ops.quantize(g, x, scale, g.scalar('u8', 128)), scale, rowScale: null };
}

function scaleByRow(g: Graph, x: Value): QuantizedRows {
  const one = g.scalar('f32', 1);
  const rowScale = ops.mul(g, ops.rowMax(g, ops.abs(g, x)), g.scalar('f32', 1 / 127), 'row_scale');
  return { values: ops.quantize(g, ops.div(g, x, rowScale), one, g.scalar('u8', 128)), scale: one, rowScale };
}

/** Two weights of the file come from one quantisation, so it runs once for both. */
function quantizedWeight(g: Graph, spec: LinearSpec, weights: WeightSource): { weight: Value; columnScale: Value } {
  let made: ReturnType<typeof quantizeColumns> | null = null;
  const make = () => {
    made ??= quantizeColumns(servedWeight(weights.tensor(`${spec.path}.weight`), spec), spec.in, spec.out);
    return made;
  };
  const weight = g.weight(spec.path, 'i8', [spec.in, spec.out], () => make().q);
  const columnScale = g.weight(`${spec.path}.scale`, 'f32', [spec.out], () => {
    const { scales } = make();
    made = null;
    return scales;
  });
  return { weight, columnScale };
}

/** [k, n] → symmetric 8-bit levels and one scale for each column. */
export function quantizeColumns(w: Float32Array, k: number, n: number): { q: Int8Array; scales: Float32Array } {
  const scales = new Float32Array(n);
  for (let i = 0; i < k; i++) for (let j = 0; j < n; j++) scales[j] = Math.max(scales[j]!, Math.abs(w[i * n + j]!));
  for (let j = 0; j < n; j++) scales[j] = scales[j]! / 127 || 1;
  const q = new Int8Array(k * n);
  for (let i = 0; i < k; i++) for (let j = 0; j < n; j++) q[i * n + j] = Math.round(w[i * n + j]! / scales[j]!);
  return { q, scales };
}
