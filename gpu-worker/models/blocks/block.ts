/**
 * The parts that layers are made of. A block reads a norm of the residual stream and leaves what is added to it;
 * families put blocks together, decoder.ts gives each its place.
 */
import type { Graph, Value } from '../../graph/ir.ts';
import type { StepInputs } from '../family.ts';
import type { Basis, LinearSpec } from '../linear.ts';
import type { Precision, WeightSource } from '../precision.ts';

/** Where a block stands, and the bases of what it reads and writes. */
export interface Site {
  /** Module path of the layer, e.g. "model.layers.3". */
  path: string;
  input: Basis;
  output: Basis;
  /** Whether activations inside the block are turned to suit the precision. */
  rotated: boolean;
}

export interface Block {
  /** Last part of the names of its nodes. */
  name: string;
  /** In execution order. */
  linears: readonly LinearSpec[];
  /** Of the linears, those that newer versions of transformers hold as bare parameters: module paths. */
  bareParameters?: readonly string[];
  /** Norms inside: module path → width of the gain. */
  norms: ReadonlyMap<string, number>;
  build(b: Building, x: Value): Value;
}

export type MakeBlock = (site: Site) => Block;

/** What blocks build with. */
export interface Building {
  g: Graph;
  /** Index of the layer. */
  layer: number;
  inputs: StepInputs;
  precision: Precision;
  weights: WeightSource;
  /** y = [W₁ x | W₂ x | …] with what adapters add: linears that read the same activation, side by side. */
  linear(x: Value, ...specs: LinearSpec[]): Value;
  /** A linear's entry in adapters' tables. */
  numberOf(path: string): number;
  /** The gain of a norm inside a block, as it multiplies. */
  gain(path: string, width: number): Value;
}
