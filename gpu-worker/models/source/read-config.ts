/**
 * From config.json to the config of a family. Whatever would change the arithmetic and is not honoured is refused
 * by name while parsing.
 */
import { z } from 'zod';
import { Failure } from '../../../shared/errors.ts';
import { FAMILIES, familyOf } from '../registry.ts';
import { decoderFields, type ModelConfig } from './config.ts';
import { readRope, ropeParameters, servedPositions } from './rope-config.ts';

/** Checks a config made by a loader; `source` is what it came from. */
export function checkConfig(source: string, candidate: Record<string, unknown> & Pick<ModelConfig, 'model_type'>): ModelConfig {
  const parsed = familyOf(candidate).config.superRefine(checkHeads).superRefine(checkRotary).safeParse(candidate);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const name = issue.path.join('.');
  const message =
    name === ''
      ? `${source}: ${issue.message}`
      : `${source}: ${name}: ${issue.message}, got ${JSON.stringify(candidate[String(issue.path[0])])}`;
  throw new Failure({ kind: issue.code === 'invalid_value' ? 'unsupported' : 'invalid_request', message });
}

function checkHeads(c: ModelConfig, context: z.RefinementCtx): void {
  if (c.num_attention_heads % c.num_key_value_heads !== 0)
    context.addIssue('num_attention_heads must be a multiple of num_key_value_heads');
  if (c.head_dim % 2 !== 0) context.addIssue('head_dim must be even: rotary positions turn pairs');
}

/** Of decoders: what is turned by position are pairs, each with a factor of its own under longrope. */
const Turned = z.object({ rope_scaling: decoderFields.rope_scaling, partial_rotary_factor: z.number().default(1), head_dim: z.number() });

function checkRotary(c: ModelConfig, context: z.RefinementCtx): void {
  const turned = Turned.safeParse(c).data;
  if (!turned) return;
  const dims = Math.trunc(turned.head_dim * turned.partial_rotary_factor);
  if (dims % 2 !== 0) context.addIssue(`partial_rotary_factor: expected an even number of channels, got ${dims}`);
  const { rope_scaling: scaling } = turned;
  if (scaling?.rope_type === 'longrope' && scaling.short_factor.length !== dims / 2)
    context.addIssue(`rope_scaling.short_factor: expected ${dims / 2} numbers, got ${scaling.short_factor.length}`);
}

/** Values of fields that name features which only families with such a field compute. */
const REFUSED: Record<string, (value: unknown, json: Record<string, unknown>) => boolean> = {
  quantization_config: (value) => value !== null,
  partial_rotary_factor: (value) => value !== 1 && value !== null,
  sliding_window: (value, json) => value !== null && json['use_sliding_window'] !== false,
  use_bidirectional_attention: (value) => value === true,
  clip_qkv: (value) => value !== null,
  is_encoder_decoder: (value) => value === true,
};

const oneOrMany = z
  .union([z.number(), z.array(z.number())])
  .nullish()
  .transform((ids) => (typeof ids === 'number' ? [ids] : (ids ?? [])));

/**
 * A config.json, with generation_config.json for the end-of-text ids when there is one (chat models
 * list their end-of-turn token only there). Absent fields take the defaults of the family's class in transformers.
 */
export function parseHfConfig(source: string, given: Record<string, unknown>, generation: Record<string, unknown> | null): ModelConfig {
  const unsupported = (name: string, expected: string, value: unknown) =>
    new Failure({ kind: 'unsupported', message: `${source}: ${name}: ${expected}, got ${JSON.stringify(value)}` });
  const modelType = given['model_type'];
  const family = typeof modelType === 'string' ? FAMILIES.get(modelType) : undefined;
  if (!family) throw unsupported('model_type', `expected one of ${[...FAMILIES.keys()].join(', ')}`, modelType);
  const architectures = given['architectures'];
  if (Array.isArray(architectures) && !architectures.includes(family.architecture))
    throw unsupported('architectures', `expected ${family.architecture}`, architectures);

  const json: Record<string, unknown> = { ...family.defaults, ...given };
  const ropeGiven = ropeParameters(json);
  const nested = ropeGiven !== null && typeof ropeGiven === 'object' ? (ropeGiven as Record<string, unknown>) : {};
  if (json['partial_rotary_factor'] === undefined) json['partial_rotary_factor'] = nested['partial_rotary_factor'] ?? 1;
  for (const [name, refuses] of Object.entries(REFUSED)) {
    if (!family.fields.includes(name) && json[name] !== undefined && refuses(json[name], json))
      throw unsupported(name, 'not supported', json[name]);
  }

  const heads = json['num_attention_heads'];
  const hidden = json['hidden_size'];
  const headDim = typeof hidden === 'number' && typeof heads === 'number' ? hidden / heads : undefined;
  const ids = (value: unknown) => oneOrMany.catch([-1]).parse(value);
  const fields = {
    model_type: family.modelType,
    hidden_size: hidden,
    num_hidden_layers: json['num_hidden_layers'],
    num_attention_heads: heads,
    num_key_value_heads: json['num_key_value_heads'] ?? heads,
    head_dim: json['head_dim'] ?? headDim,
    intermediate_size: json['intermediate_size'],
    vocab_size: json['vocab_size'],
    max_position_embeddings: servedPositions(json),
    hidden_act: json['hidden_act'],
    rms_norm_eps: json['rms_norm_eps'],
    ...Object.fromEntries(family.fields.filter((name) => !(name in decoderFields)).map((name) => [name, json[name]])),
    ...readRope(source, ropeGiven, json),
    ...family.read(json, source),
    tie_word_embeddings: json['tie_word_embeddings'],
    bos_token_id: ids(json['bos_token_id']),
    eos_token_id: [...new Set([...ids(json['eos_token_id']), ...ids(generation?.['eos_token_id'])])],
  };
  const own = Object.entries(fields).filter(([name]) => family.fields.includes(name));
  return checkConfig(source, { ...Object.fromEntries(own), model_type: family.modelType });
}
