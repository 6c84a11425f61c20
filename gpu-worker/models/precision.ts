/** The numeric form in which a base's linears are served. One for the whole stack; it never depends on the batch. */
import type { Graph, Value } from '../graph/ir.ts';
import type { LinearSpec } from './linear.ts';

export type PrecisionName = 'fp32' | 'int8';

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
  /** y = x · [W₁ | W₂ | …]: linears that read the same activation, their outputs side by side. */
  linear(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource): Value;
}
