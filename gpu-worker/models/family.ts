/** What a model family provides: one file for each, listed in registry.ts. */
import type { z } from 'zod';
import type { Graph, Value } from '../graph/ir.ts';
import { type Decoder, DecoderModel } from './decoder.ts';
import { fp32 } from './fp32.ts';
import type { LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import type { decoderFields, ModelConfig } from './source/config.ts';

/**
 * Linears that read the same activation, with their biases and whatever adapters add; their outputs side by side.
 * `weights` replaces the checkpoint where a linear's weight has another name there.
 */
export type ApplyLinears = (g: Graph, x: Value, specs: readonly LinearSpec[], weights?: WeightSource) => Value;

/** Graph inputs that every decoder has: T tokens of R rows, n of which are wanted. */
export interface DecoderInputs {
  /** i64 [T] */
  ids: Value;
  /** i32 [R, 3]: first token, tokens, tokens before them. */
  rows: Value;
  /** i32 [R, P]: where in the pools each 32 positions of a row lie. */
  pages: Value;
  /** i64 [n]: tokens whose logits are wanted. */
  select: Value;
  /** Keys and values of layer i, updated in place: [pages, 2·kvHeads·32·headDim]. */
  pool: (layer: number) => Value;
}

type Json = Record<string, unknown>;
type Shape = typeof decoderFields & Record<string, z.ZodType>;

interface Definition<S extends Shape> {
  /** config.json's model_type. */
  modelType: string;
  /** The class in transformers that computes the same. */
  architecture: string;
  /** Its config: the fields of every decoder and its own. A feature that none of them names is refused. */
  config: z.ZodObject<S, z.core.$strict>;
  /** What transformers takes for fields that config.json lacks. */
  defaults: Json;
  /** Fields that are not called the same in config.json (`defaults` filled in). */
  read?: (json: Json, source: string) => Json;
  decoder(config: z.infer<z.ZodObject<S, z.core.$strict>>): Decoder;
}

/** What the engine asks of a family. */
export interface Family {
  readonly modelType: string;
  readonly architecture: string;
  /** Parses this family's configs, its own fields included. */
  readonly config: z.ZodType<ModelConfig>;
  /** Names of all fields of its configs. */
  readonly fields: readonly string[];
  readonly defaults: Json;
  read(json: Json, source: string): Json;
  /** Every adaptable linear with the basis that `precision` serves it in, in execution order. */
  linears(config: ModelConfig, precision: Precision, weights: WeightSource): LinearSpec[];
  /** Modules that exist but take no adapter. */
  otherModules(config: ModelConfig): string[];
  /** Linears, with adapters or not, that newer versions of transformers hold as bare parameters. */
  bareParameters(config: ModelConfig): string[];
  /** Name → shape of every parameter, under Hugging Face's names. */
  parameters(config: ModelConfig): Map<string, number[]>;
  /** Builds the network; returns logits [n, vocab]. */
  build(g: Graph, config: ModelConfig, precision: Precision, weights: WeightSource, inputs: DecoderInputs, apply: ApplyLinears): Value;
}

const NO_WEIGHTS: WeightSource = {
  tensor(name) {
    throw new Error(`${name} was read for the shape of the network`);
  },
};

/** A family reads its own fields through its schema, so that the registry can hold configs of any shape. */
export function family<S extends Shape>({ read, decoder, config: schema, ...names }: Definition<S>): Family {
  const model = (config: ModelConfig, precision: Precision, weights: WeightSource) =>
    new DecoderModel(config, decoder(schema.parse(config)), precision, weights);
  const outline = (config: ModelConfig) => model(config, fp32(), NO_WEIGHTS);
  return {
    ...names,
    config: schema as unknown as Family['config'],
    fields: Object.keys(schema.shape),
    read: read ?? (() => ({})),
    linears: (config, precision, weights) => model(config, precision, weights).linears,
    otherModules: (config) => outline(config).otherModules,
    bareParameters: (config) => outline(config).bareParameters,
    parameters: (config) => outline(config).parameters,
    build: (g, config, precision, weights, inputs, apply) => model(config, precision, weights).build(g, inputs, apply),
  };
}
