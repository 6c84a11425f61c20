/** What a model family provides: one file of blocks for each, listed in registry.ts. */
import type { Graph, Value } from '../graph/ir.ts';
import type { LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import type { ModelConfig } from './source/config.ts';

/** Linears that read the same activation, with whatever an adapter adds to them; their outputs side by side. */
export type ApplyLinears = (g: Graph, x: Value, specs: readonly LinearSpec[]) => Value;

/** Graph inputs that every decoder has; b sequences of s tokens, n positions whose logits are wanted. */
export interface DecoderInputs {
  /** i64 [b, s] */
  ids: Value;
  /** i32 [b]: position of each sequence's last token. */
  lastIndex: Value;
  /** i32 []: tokens of the longest sequence, these included. */
  total: Value;
  /** i64 [n]: rows of the flattened [b·s] whose logits are wanted. */
  select: Value;
  /** Of layer i: f32 [b, kvHeads, capacity, headDim]. */
  cache: (layer: number) => { key: Value; value: Value };
}

export interface Family {
  /** config.json's model_type. */
  readonly modelType: string;
  /** Every adaptable linear with the basis that `precision` serves it in, in execution order. */
  linears(config: ModelConfig, precision: Precision, weights: WeightSource): LinearSpec[];
  /** Modules that exist but take no adapter. */
  otherModules(config: ModelConfig): string[];
  /** Builds the network; returns logits [n, vocab]. Cache outputs are added to the graph. */
  build(
    g: Graph,
    config: ModelConfig,
    linears: ReadonlyMap<string, LinearSpec>,
    precision: Precision,
    weights: WeightSource,
    inputs: DecoderInputs,
    apply: ApplyLinears,
  ): Value;
}
