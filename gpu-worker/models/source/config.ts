/**
 * What the network of a base model looks like, under the names of Hugging Face's config.json: what all networks, and
 * what all decoders have. A family adds its own fields (models/<family>.ts); read-config.ts reads and checks the whole.
 */
import { z } from 'zod';

export const size = (max: number) => z.number().int().positive().max(max);
const tokenIds = z.array(z.number().int().nonnegative());
const context = size(1 << 24);

/** How rotary frequencies are stretched beyond the trained context; null: not at all. */
export const RopeScaling = z
  .discriminatedUnion('rope_type', [
    z.strictObject({ rope_type: z.literal('linear'), factor: z.number().positive() }),
    z.strictObject({ rope_type: z.literal('dynamic'), factor: z.number().positive() }),
    z.strictObject({
      rope_type: z.literal('llama3'),
      factor: z.number().positive(),
      low_freq_factor: z.number().positive(),
      high_freq_factor: z.number().positive(),
      original_max_position_embeddings: context,
    }),
    z.strictObject({
      rope_type: z.literal('yarn'),
      factor: z.number().positive(),
      beta_fast: z.number().positive(),
      beta_slow: z.number().positive(),
      original_max_position_embeddings: context,
      truncate: z.boolean(),
      attention_factor: z.number().positive(),
    }),
    /** Only as far as the short factors reach: the model's original context. */
    z.strictObject({
      rope_type: z.literal('longrope'),
      short_factor: z.array(z.number().positive()),
      attention_factor: z.number().positive(),
    }),
  ])
  .nullable();
export type RopeScaling = z.infer<typeof RopeScaling>;

/** Activations of gated units. */
const Activation = z.enum(['silu', 'gelu_pytorch_tanh']);
export type Activation = z.infer<typeof Activation>;

/** Fields of every network. */
export const networkFields = {
  /** The family; the registry has an entry for each. */
  model_type: z.string(),
  hidden_size: size(1 << 16),
  num_hidden_layers: size(1024),
  num_attention_heads: size(1024),
  num_key_value_heads: size(1024),
  head_dim: size(1024),
  intermediate_size: size(1 << 20),
  vocab_size: size(1 << 22),
  max_position_embeddings: context,
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
};

/** The part that all share; a family's own fields are read through its schema. */
export const ModelConfig = z.looseObject(networkFields);
/** What only decoders have is there in theirs. */
export type ModelConfig = z.infer<z.ZodObject<typeof networkFields>> & Partial<Omit<DecoderConfig, 'hidden_act'>>;

/** Fields of every decoder. */
export const decoderFields = {
  ...networkFields,
  hidden_act: Activation,
  rms_norm_eps: z.number().positive().max(1),
  rope_theta: z.number().positive(),
  rope_scaling: RopeScaling,
  tie_word_embeddings: z.boolean(),
};
export type DecoderConfig = z.infer<z.ZodObject<typeof decoderFields>>;

/** Positions that a query sees in layers of sliding attention, its own included; null: all. */
export const slidingWindow = context.nullable();

/** Of families whose layers differ in what they see. */
export const windowFields = {
  sliding_window: slidingWindow,
  layer_types: z.array(z.enum(['full_attention', 'sliding_attention'])),
};

/** The window of a layer; 0: it sees everything. */
export const windowOf = (c: z.infer<z.ZodObject<typeof windowFields>>, layer: number): number =>
  c.layer_types[layer] === 'sliding_attention' ? (c.sliding_window ?? 0) : 0;

type Json = Readonly<Record<string, unknown>>;

/** `layer_types` of configs that lack it. */
export function everyLayer(json: Json, slides: (layer: number) => boolean): string[] {
  const layers = size(1024).catch(0).parse(json['num_hidden_layers']);
  return Array.from({ length: layers }, (_, i) => (slides(i) ? 'sliding_attention' : 'full_attention'));
}

/** Qwen's rule: layers from `max_window_layers` on have the window, if any has. */
export function windowsAbove(json: Json): Json {
  const used = json['use_sliding_window'] === true;
  return {
    sliding_window: used ? json['sliding_window'] : null,
    layer_types: json['layer_types'] ?? everyLayer(json, (i) => used && i >= Number(json['max_window_layers'])),
  };
}

/** Of mixtures of experts. */
export const topExperts = { num_experts: size(1024), num_experts_per_tok: size(64) };

export const expertFields = {
  ...topExperts,
  /** Whether the weights of the chosen experts are scaled to sum to one. */
  norm_topk_prob: z.boolean(),
};

/** Of mixtures that have an ordinary MLP in some layers. */
export const sparseFields = {
  moe_intermediate_size: size(1 << 20),
  decoder_sparse_step: size(1024),
  mlp_only_layers: z.array(z.number().int().nonnegative()),
};

/** Whether a layer has experts. */
export const isSparse = (c: z.infer<z.ZodObject<typeof sparseFields>>, layer: number): boolean =>
  !c.mlp_only_layers.includes(layer) && (layer + 1) % c.decoder_sparse_step === 0;
