/**
 * What the network of a base model looks like, under the names of Hugging Face's config.json.
 * Whatever would change the arithmetic and is not honoured is refused by name while parsing.
 */
import { z } from 'zod';
import { Failure } from '../../../shared/errors.ts';

const size = (max: number) => z.number().int().positive().max(max);
const tokenIds = z.array(z.number().int().nonnegative());

/** How rotary frequencies are stretched beyond the trained context; null: not at all. */
export const RopeScaling = z
  .discriminatedUnion('rope_type', [
    z.strictObject({ rope_type: z.literal('linear'), factor: z.number().positive() }),
    z.strictObject({
      rope_type: z.literal('llama3'),
      factor: z.number().positive(),
      low_freq_factor: z.number().positive(),
      high_freq_factor: z.number().positive(),
      original_max_position_embeddings: size(1 << 24),
    }),
  ])
  .nullable();
export type RopeScaling = z.infer<typeof RopeScaling>;

export const ModelConfig = z
  .strictObject({
    /** The model families that can be served; the family registry has an entry for each. */
    model_type: z.enum(['llama']),
    hidden_size: size(1 << 16),
    num_hidden_layers: size(1024),
    num_attention_heads: size(1024),
    num_key_value_heads: size(1024),
    head_dim: size(1024),
    intermediate_size: size(1 << 20),
    vocab_size: size(1 << 22),
    max_position_embeddings: size(1 << 24),
    hidden_act: z.enum(['silu']),
    rms_norm_eps: z.number().positive().max(1),
    rope_theta: z.number().positive(),
    rope_scaling: RopeScaling,
    tie_word_embeddings: z.boolean(),
    attention_bias: z.boolean(),
    mlp_bias: z.boolean(),
    bos_token_id: tokenIds,
    eos_token_id: tokenIds,
  })
  .refine((c) => c.num_attention_heads % c.num_key_value_heads === 0, 'num_attention_heads must be a multiple of num_key_value_heads')
  .refine((c) => c.head_dim % 2 === 0, 'head_dim must be even: rotary positions turn pairs');
export type ModelConfig = z.infer<typeof ModelConfig>;

/** Checks a config made by a loader; `source` is what it came from. */
export function checkConfig(source: string, candidate: Record<string, unknown>): ModelConfig {
  const parsed = ModelConfig.safeParse(candidate);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const name = issue.path.join('.');
  const message =
    name === ''
      ? `${source}: ${issue.message}`
      : `${source}: ${name}: ${issue.message}, got ${JSON.stringify(candidate[String(issue.path[0])])}`;
  throw new Failure({ kind: issue.code === 'invalid_value' ? 'unsupported' : 'invalid_request', message });
}

/** Fields whose other values name features that no family here computes. */
const REFUSED: Record<string, (value: unknown) => boolean> = {
  quantization_config: (value) => value !== null,
  partial_rotary_factor: (value) => value !== 1 && value !== null,
  use_sliding_window: (value) => value === true,
  sliding_window: (value) => value !== null,
  is_encoder_decoder: (value) => value === true,
};

const record = z.record(z.string(), z.unknown());
const oneOrMany = z
  .union([z.number(), z.array(z.number())])
  .nullish()
  .transform((ids) => (typeof ids === 'number' ? [ids] : (ids ?? [])));

/** Reads rotary parameters in the new form (`rope_parameters`) or the old (`rope_theta` beside `rope_scaling`). */
function ropeOf(source: string, json: Record<string, unknown>): { rope_theta: unknown; rope_scaling: unknown } {
  const given = json['rope_parameters'] ?? json['rope_scaling'] ?? {};
  const parsed = record.safeParse(given);
  if (!parsed.success) {
    throw new Failure({ kind: 'invalid_request', message: `${source}: rope_parameters: expected an object, got ${JSON.stringify(given)}` });
  }
  // `type` is the name that configs before transformers 4.43 use; some carry both.
  const { rope_theta, rope_type, type, ...rest } = parsed.data;
  const kind = rope_type ?? type ?? 'default';
  const theta = rope_theta ?? json['rope_theta'] ?? 10000;
  if (kind !== 'default' && kind !== 'linear' && kind !== 'llama3') {
    const message = `${source}: rope_type: expected one of default, linear, llama3, got ${JSON.stringify(kind)}`;
    throw new Failure({ kind: 'unsupported', message });
  }
  if (kind !== 'default') return { rope_theta: theta, rope_scaling: { rope_type: kind, ...rest } };
  if (typeof rest['partial_rotary_factor'] === 'number' && rest['partial_rotary_factor'] !== 1) {
    throw new Failure({
      kind: 'unsupported',
      message: `${source}: partial_rotary_factor ${rest['partial_rotary_factor']} is not supported`,
    });
  }
  return { rope_theta: theta, rope_scaling: null };
}

/**
 * A config.json, with generation_config.json for the end-of-text ids when there is one (chat models
 * list their end-of-turn token only there). Absent fields take LlamaConfig's defaults.
 */
export function parseHfConfig(source: string, json: Record<string, unknown>, generation: Record<string, unknown> | null): ModelConfig {
  const unsupported = (name: string, expected: string) =>
    new Failure({ kind: 'unsupported', message: `${source}: ${name}: ${expected}, got ${JSON.stringify(json[name])}` });
  const family = ModelConfig.shape.model_type.safeParse(json['model_type']);
  if (!family.success) throw unsupported('model_type', `expected one of ${ModelConfig.shape.model_type.options.join(', ')}`);
  const architectures = json['architectures'];
  if (Array.isArray(architectures) && !architectures.includes('LlamaForCausalLM'))
    throw unsupported('architectures', 'expected LlamaForCausalLM');
  for (const [name, refuses] of Object.entries(REFUSED)) {
    if (json[name] !== undefined && refuses(json[name])) throw unsupported(name, 'not supported');
  }
  const heads = json['num_attention_heads'];
  const hidden = json['hidden_size'];
  const headDim = typeof hidden === 'number' && typeof heads === 'number' ? hidden / heads : undefined;
  const ids = (value: unknown) => oneOrMany.catch([-1]).parse(value);
  const eos = new Set([...ids(json['eos_token_id']), ...ids(generation?.['eos_token_id'])]);
  return checkConfig(source, {
    model_type: family.data,
    hidden_size: hidden,
    num_hidden_layers: json['num_hidden_layers'],
    num_attention_heads: heads,
    num_key_value_heads: json['num_key_value_heads'] ?? heads,
    head_dim: json['head_dim'] ?? headDim,
    intermediate_size: json['intermediate_size'],
    vocab_size: json['vocab_size'],
    max_position_embeddings: json['max_position_embeddings'] ?? 2048,
    hidden_act: json['hidden_act'] ?? 'silu',
    rms_norm_eps: json['rms_norm_eps'] ?? 1e-6,
    ...ropeOf(source, json),
    tie_word_embeddings: json['tie_word_embeddings'] ?? false,
    attention_bias: json['attention_bias'] ?? false,
    mlp_bias: json['mlp_bias'] ?? false,
    bos_token_id: ids(json['bos_token_id']),
    eos_token_id: [...eos],
  });
}
