/**
 * 8-bit rows by 8-bit columns. Weights have one scale for each output, activations one for each row:
 *
 *   y = (q_x − 128) · q_W ∘ (s_row s_column),   q_x = round(x / s_row) + 128,   s_row = max|x| / 127
 *
 * The sum is exact in 32-bit integers, so a row gives the same bits whatever shares its batch.
 */
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import { type LinearSpec, servedWeight } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';

const ZERO_POINT = 128;
const LEVELS = 127;

/** x = values / LEVELS · largest, row by row. */
interface QuantizedRows {
  values: Value;
  /** Largest magnitude of each row, [..., 1]. */
  largest: Value;
}

export function int8(): Precision {
  const quantized = new WeakMap<Graph, Map<string, QuantizedRows>>();

  /** Linears that read the same activation share its quantisation. */
  function rows(g: Graph, x: Value): QuantizedRows {
    const known = quantized.get(g) ?? new Map<string, QuantizedRows>();
    quantized.set(g, known);
    const q = known.get(x.name) ?? quantizeRows(g, x);
    known.set(x.name, q);
    return q;
  }

  return {
    name: 'int8',
    revision: '1',
    rotated: true,
    linear(g, x, spec, weights) {
      const { values, largest } = rows(g, x);
      const { weight, columnScale } = quantizedWeight(g, spec, weights);
      const zeros = g.weight(`zeros.${spec.out}`, 'i8', [spec.out], () => new Int8Array(spec.out));
      const unit = g.scalar('f32', 1 / LEVELS);
      return ops.mul(
        g,
        ops.matmulInteger(g, values, unit, g.scalar('u8', ZERO_POINT), weight, columnScale, zeros, 'matmul'),
        largest,
        'rescaled',
      );
    },
  };
}

/** A row of zeros divides by zero; whatever levels that gives, its scale of zero makes zeros of them. */
function quantizeRows(g: Graph, x: Value): QuantizedRows {
  const largest = ops.rowMax(g, ops.abs(g, x));
  return { values: ops.quantize(g, ops.div(g, x, largest), g.scalar('f32', 1 / LEVELS), g.scalar('u8', ZERO_POINT)), largest };
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
  for (let j = 0; j < n; j++) scales[j] = scales[j]! / LEVELS || 1;
  const q = new Int8Array(k * n);
  for (let i = 0; i < k; i++) for (let j = 0; j < n; j++) q[i * n + j] = Math.round(w[i * n + j]! / scales[j]!);
  return { q, scales };
}
