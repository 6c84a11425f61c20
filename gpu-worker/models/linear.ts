/**
 * A linear of the base as it is served: its place, its shape, and the changes of basis that a precision folded
 * into it. Base weights and adapter factors go through the same folds, so an adapter meets the basis it expects.
 */
import type { Rotation } from './rotation.ts';

/** How an activation differs from the checkpoint's: served = (original ∘ gain) · rotation. */
export interface Basis {
  gain: Float32Array | null;
  rotation: Rotation | null;
  /** Channels of the original basis that carry most of the energy, found on demand; absent where none stands out. */
  loud?: () => readonly number[];
}

export const ORIGINAL: Basis = { gain: null, rotation: null };

export interface LinearSpec {
  /** Module path in the checkpoint, e.g. "model.layers.0.self_attn.q_proj". */
  path: string;
  in: number;
  out: number;
  bias: boolean;
  /** Whether it makes the logits: forms of few bits spend more on it. */
  head?: true;
  /** Computed in float32 whatever the precision. */
  exact?: boolean;
  /** Basis of x; `gain` here multiplies the weight's columns: W' = W diag(gain) R. */
  input: Basis;
  /** Basis of y: y' = (y ∘ gain) R. */
  output: Basis;
}

/** Brings the rows of `data` [rows, width] into a basis, in place. A rotation narrower than a row turns it block by block. */
export function intoBasis(data: Float32Array, width: number, basis: Basis): void {
  const { gain, rotation } = basis;
  if (gain) {
    if (gain.length !== width) throw new RangeError(`gain of ${gain.length} channels on rows of ${width}`);
    for (let at = 0; at < data.length; at += width) for (let i = 0; i < width; i++) data[at + i]! *= gain[i]!;
  }
  rotation?.apply(data);
}

/** [rows, columns] → [columns, rows], in blocks that stay in cache. */
export function transpose(
  data: Float32Array,
  rows: number,
  columns: number,
  out: Float32Array = new Float32Array(data.length),
): Float32Array {
  const block = 32;
  for (let r0 = 0; r0 < rows; r0 += block) {
    for (let c0 = 0; c0 < columns; c0 += block) {
      const r1 = Math.min(rows, r0 + block);
      const c1 = Math.min(columns, c0 + block);
      for (let r = r0; r < r1; r++) for (let c = c0; c < c1; c++) out[c * rows + r] = data[r * columns + c]!;
    }
  }
  return out;
}

/** The served weight, transposed for x · W: [in, out]. `weight` [out, in] is consumed. */
function servedWeight(weight: Float32Array, spec: LinearSpec): Float32Array {
  intoBasis(weight, spec.in, spec.input);
  const transposed = transpose(weight, spec.out, spec.in);
  intoBasis(transposed, spec.out, spec.output);
  return transposed;
}

/** Name of the weight of linears that are computed side by side: the first one's path, then the others' last parts. */
export const jointName = ([first, ...others]: readonly LinearSpec[]): string =>
  [first!.path, ...others.map(({ path }) => path.slice(path.lastIndexOf('.') + 1))].join('+');

export const jointWidth = (specs: readonly LinearSpec[]): number => specs.reduce((sum, { out }) => sum + out, 0);

/** Served weights of linears that read the same activation, side by side: [in, Σ out]. `read` gives each weight to consume. */
export function jointWeight(specs: readonly LinearSpec[], read: (spec: LinearSpec) => Float32Array): Float32Array {
  const width = jointWidth(specs);
  const rows = specs[0]!.in;
  const joint = new Float32Array(rows * width);
  let column = 0;
  for (const spec of specs) {
    const weight = servedWeight(read(spec), spec);
    for (let row = 0; row < rows; row++) joint.set(weight.subarray(row * spec.out, (row + 1) * spec.out), row * width + column);
    column += spec.out;
  }
  return joint;
}

/** Served biases side by side, [Σ out]; zeros where a linear has none. `read` gives each bias to consume. */
export function jointBias(specs: readonly LinearSpec[], read: (spec: LinearSpec) => Float32Array): Float32Array {
  const joint = new Float32Array(jointWidth(specs));
  let at = 0;
  for (const spec of specs) {
    if (spec.bias) {
      const bias = read(spec);
      intoBasis(bias, spec.out, spec.output);
      joint.set(bias, at);
    }
    at += spec.out;
  }
  return joint;
}
