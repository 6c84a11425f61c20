/** What a model family provides: one file for each, listed in registry.ts. */
import { z } from 'zod';
import type { Graph, Value } from '../graph/ir.ts';
import { type Decoder, DecoderModel } from './decoder.ts';
import { fp32 } from './fp32.ts';
import type { LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';
import type { DecoderConfig, decoderFields, ModelConfig } from './source/config.ts';

/**
 * Linears that read the same activation, with their biases and whatever adapters add; their outputs side by side.
 * `weights` replaces the checkpoint where a linear's weight has another name there.
 */
export type ApplyLinears = (g: Graph, x: Value, specs: readonly LinearSpec[], weights?: WeightSource) => Value;

/** Graph inputs: T tokens of R rows, n of which are wanted. */
export interface StepInputs {
  /** i64 [T] */
  ids: Value;
  /** i32 [R, 3]: first token, tokens, tokens before them. */
  rows: Value;
  /** i64 [R, M, 2]: address of an adapter's table, or 0; bits of the float32 weight. */
  adapters: Value;
  /** i32 [R, P]: where in the pools each 32 positions of a row lie. */
  pages: Value;
  /** i64 [n]: tokens whose logits, or last hidden states, are wanted. */
  select: Value;
  /** i64 [T]: of each token in its row; only where a network asks for it. */
  positions: () => Value;
  /** Pool i of keys and values, updated in place: [pages, 2·kvHeads·32·headDim]. */
  pool: (i: number) => Value;
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

/** How the vectors of a text's tokens become one: their mean, or the first one's. */
export const Pooling = z.enum(['mean', 'cls']);
export type Pooling = z.infer<typeof Pooling>;

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
  /** Linears that are no modules everywhere: newer versions of transformers hold them as bare parameters. */
  bareParameters(config: ModelConfig): string[];
  /** Name → shape of every parameter, under Hugging Face's names. */
  parameters(config: ModelConfig): Map<string, number[]>;
  /** Whether files may carry this tensor though nothing here is computed from it. */
  isLeftOut(name: string, config: ModelConfig): boolean;
  /** Pools of keys and values. */
  pools(config: ModelConfig): number;
  /** Null: a decoder, whose output are logits over the vocabulary. An encoder's are hidden states. */
  pooling: ((config: ModelConfig) => Pooling) | null;
  /** Builds the network; returns its output [n, vocab or hidden]. */
  build(g: Graph, config: ModelConfig, precision: Precision, weights: WeightSource, inputs: StepInputs, apply: ApplyLinears): Value;
}

/** Numbers that a network has for each wanted token. */
export const outputWidth = ({ pooling }: Family, { hidden_size, vocab_size }: ModelConfig): number =>
  pooling === null ? vocab_size : hidden_size;

const NO_WEIGHTS: WeightSource = {
  tensor(name) {
    throw new Error(`${name} was read for the shape of the network`);
  },
};

/** A family of decoders. It reads its own fields through its schema, so that the registry can hold configs of any shape. */
export function family<S extends Shape>({ read, decoder, config: schema, ...names }: Definition<S>): Family {
  const model = (config: ModelConfig, precision: Precision, weights: WeightSource) =>
    new DecoderModel(config as DecoderConfig, decoder(schema.parse(config)), precision, weights);
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
    // Rotary tables of old checkpoints, and the second copy of a tied embedding, which transformers overwrites.
    isLeftOut: (name, config) =>
      name.endsWith('.self_attn.rotary_emb.inv_freq') || ((config as DecoderConfig).tie_word_embeddings && name === 'lm_head.weight'),
    pools: (config) => config.num_hidden_layers,
    pooling: null,
    build: (g, config, precision, weights, inputs, apply) => model(config, precision, weights).build(g, inputs, apply),
  };
}
