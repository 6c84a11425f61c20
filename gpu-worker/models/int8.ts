/**
 * 8-bit rows by 8-bit columns. Weights have one scale for each output, activations one for each row:
 *
 *   y = (q_x − 128) · q_W ∘ (s_row s_column),   q_x = round(x / s_row) + 128,   s_row = max|x| / 127
 *
 * The sum is exact in 32-bit integers, so a row gives the same bits whatever shares its batch. Rows are quantised where
 * they are made (kernels/rows.c).
 */
import type { Graph, Value } from '../graph/ir.ts';
import { addNormQuantize, finishLinear, gatedUnits, type QuantizedRows, quantizeRows } from '../graph/kernels.ts';
import * as ops from '../graph/ops.ts';
import { jointName, jointWeight, jointWidth, type LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';

const ZERO_POINT = 128;
const LEVELS = 127;
/** Keeps the last levels of a column from chasing errors that they are too few to undo. */
const EPSILON = 1e-2;

export function int8(): Precision {
  const quantized = new WeakMap<Graph, Map<string, QuantizedRows>>();

  /** Linears that read the same activation share its quantisation; most come quantised from where they are made. */
  function rowsOf(g: Graph): Map<string, QuantizedRows> {
    const known = quantized.get(g) ?? new Map<string, QuantizedRows>();
    quantized.set(g, known);
    return known;
  }

  /** The 8-bit rows of an activation, made here unless they came with it. */
  function quantizedOnce(g: Graph, x: Value): QuantizedRows {
    const rows = rowsOf(g).get(x.name) ?? quantizeRows(g, x);
    rowsOf(g).set(x.name, rows);
    return rows;
  }

  function product(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource): { y: Value; rowScale: Value } {
    const rows = quantizedOnce(g, x);
    const { weight, columnScale } = quantizedWeight(g, specs, weights);
    const width = jointWidth(specs);
    const zeros = g.weight(`zeros.${width}`, 'i8', [width], () => new Int8Array(width));
    const unit = g.scalar('f32', 1 / LEVELS);
    const y = ops.matmulInteger(g, rows.values, unit, g.scalar('u8', ZERO_POINT), weight, columnScale, zeros, 'matmul');
    return { y, rowScale: rows.largest };
  }

  return {
    name: 'int8',
    revision: '4',
    rotated: true,
    storage: 'f16',
    product,
    linear(g, x, specs, weights, finish) {
      const { y, rowScale } = product(g, x, specs, weights);
      return finishLinear(g, y, x, rowScale, finish);
    },
    cut(g, x, pick, counts, groups) {
      const { values, largest } = quantizedOnce(g, x);
      const picked = (rows: Value) => (pick ? ops.gatherRows(g, rows, pick, 'picked') : rows);
      const scales = ops.splitRows(g, picked(largest), counts, groups);
      const parts = ops.splitRows(g, picked(values), counts, groups);
      for (const [i, part] of parts.entries()) rowsOf(g).set(part.name, { values: part, largest: scales[i]! });
      return parts;
    },
    norm(g, stream, delta, gain, epsilon, read) {
      const { norm, sum, quantized: rows } = addNormQuantize(g, stream, delta, gain, epsilon, read);
      if (rows) rowsOf(g).set(norm.name, rows);
      return { norm, sum };
    },
    gatedUnits(g, gateUp, activation, signs) {
      const { units, quantized: rows } = gatedUnits(g, gateUp, activation, signs, true);
      rowsOf(g).set(units.name, rows!);
      return units;
    },
  };
}

/** Two weights of the file come from one quantisation, so it runs once for both. */
function quantizedWeight(g: Graph, specs: readonly LinearSpec[], weights: WeightSource): { weight: Value; columnScale: Value } {
  const [k, n] = [specs[0]!.in, jointWidth(specs)];
  let made: ReturnType<typeof quantizeColumns> | null = null;
  const make = () => {
    const joint = () => jointWeight(specs, ({ path }) => weights.tensor(`${path}.weight`));
    made ??= quantizeColumns(joint(), k, n, loudDirections(specs[0]!));
    return made;
  };
  const name = jointName(specs);
  const weight = g.weight(name, 'i8', [k, n], () => make().q);
  const columnScale = g.weight(`${name}.scale`, 'f32', [n], () => {
    const { scales } = make();
    made = null;
    return scales;
  });
  return { weight, columnScale };
}

/** Where the loud channels of a linear's input point to in the served basis: unit vectors, [d][in]. */
function loudDirections({ in: width, input }: LinearSpec): Float32Array[] {
  return (input.loud?.() ?? []).map((channel) => {
    const direction = new Float32Array(width);
    direction[channel] = 1;
    input.rotation?.apply(direction);
    return direction;
  });
}

/**
 * [k, n] → symmetric 8-bit levels and one scale for each column.
 *
 * Along `directions` (rows of U [d, k]) inputs are large, so errors E there would be heard most: each level is chosen
 * after taking back, by least squares over the levels still to come, what the levels before it did to U·E:
 *
 *   q_i = round((w_i − u_iᵀ M_i⁻¹ p) / s),   p = Σ_{j<i} u_j E_j,   M_i = ε + Σ_{j≥i} u_j u_jᵀ
 */
export function quantizeColumns(
  w: Float32Array,
  k: number,
  n: number,
  directions: readonly Float32Array[] = [],
): { q: Int8Array; scales: Float32Array } {
  const scales = columnScales(w, k, n);
  const q = new Int8Array(k * n);
  const gains = feedbackGains(directions, k);
  /** p of every column: [d][n]. */
  const error = directions.map(() => new Float32Array(n));
  const target = new Float32Array(n);
  for (let i = 0; i < k; i++) {
    target.set(w.subarray(i * n, (i + 1) * n));
    for (let d = 0; d < error.length; d++) {
      const gain = gains[i * error.length + d]!;
      const p = error[d]!;
      for (let j = 0; j < n; j++) target[j]! -= gain * p[j]!;
    }
    for (let j = 0; j < n; j++) {
      const level = Math.max(-LEVELS, Math.min(LEVELS, Math.round(target[j]! / scales[j]!)));
      q[i * n + j] = level;
      target[j] = level * scales[j]! - w[i * n + j]!;
    }
    for (let d = 0; d < error.length; d++) {
      const u = directions[d]![i]!;
      const p = error[d]!;
      for (let j = 0; j < n; j++) p[j]! += u * target[j]!;
    }
  }
  return { q, scales };
}

function columnScales(w: Float32Array, k: number, n: number): Float32Array {
  const scales = new Float32Array(n);
  for (let i = 0; i < k; i++) for (let j = 0; j < n; j++) scales[j] = Math.max(scales[j]!, Math.abs(w[i * n + j]!));
  return scales.map((largest) => largest / LEVELS || 1);
}

/** u_iᵀ M_i⁻¹ for every i, [k, d]; M_i⁻¹ grows backwards from 1/ε by the Sherman–Morrison formula. */
function feedbackGains(directions: readonly Float32Array[], k: number): Float32Array {
  const d = directions.length;
  const gains = new Float32Array(k * d);
  const inverse = Float64Array.from({ length: d * d }, (_, at) => (at % (d + 1) === 0 ? 1 / EPSILON : 0));
  const product = new Float64Array(d);
  for (let i = k - 1; i >= 0; i--) {
    let norm = 1;
    for (let a = 0; a < d; a++) {
      product[a] = 0;
      for (let b = 0; b < d; b++) product[a]! += inverse[a * d + b]! * directions[b]![i]!;
      norm += product[a]! * directions[a]![i]!;
    }
    for (let a = 0; a < d; a++) {
      for (let b = 0; b < d; b++) inverse[a * d + b]! -= (product[a]! * product[b]!) / norm;
      gains[i * d + a] = product[a]! / norm;
    }
  }
  return gains;
}
