/** The numeric form in which a base's linears are served. One for the whole stack; it never depends on the batch. */
import type { Graph, Value } from '../graph/ir.ts';
import type { Activation, Finish } from '../graph/kernels.ts';
import type { LinearSpec } from './linear.ts';

export type PrecisionName = 'fp32' | 'int8' | 'int4';

/** The source of weights while a graph is built: only called for names that the cache lacks. */
export interface WeightSource {
  tensor(name: string): Float32Array;
}

export interface Precision {
  readonly name: PrecisionName;
  /** Changes when the cached weights of an earlier version must not be used. */
  readonly revision: string;
  /** Whether families fold rotations and norm gains into the weights (models/rotation.ts). */
  readonly rotated: boolean;
  /** Element type of keys and values, and of adapters' factors. */
  readonly storage: 'f32' | 'f16';
  /** x · [W₁ | W₂ | …] [tokens, Σ out], finished: linears that read the same activation, their outputs side by side. */
  linear(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource, finish: Finish): Value;
  /** As `linear` with nothing on top; what comes still lacks the factor of each row (null: one). */
  product(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource): { y: Value; rowScale: Value | null };
  /**
   * Rows of x [tokens, in], or those that `pick` i64 [n] names, in groups one after another; `counts` i64 [groups] has the
   * rows of each. What comes is for `product` only.
   */
  cut(g: Graph, x: Value, pick: Value | null, counts: Value, groups: number): Value[];
  /** sum = stream + delta, and its RMS norm; `read`: linears read the norm as it is. */
  norm(g: Graph, stream: Value, delta: Value | null, gain: Value, epsilon: number, read: boolean): { norm: Value; sum: Value };
  /** act(gate) ∘ up of [gate | up], then turned in blocks (`signs`, see graph/kernels.ts), for the linear that reads them. */
  gatedUnits(g: Graph, gateUp: Value, activation: Activation, signs: Value | null): Value;
}
