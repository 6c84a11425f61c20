/**
 * Gemma 3, text only (arXiv:2503.19786): as Gemma 2 with norms of each head's q and k instead of the soft caps, and
 * other rotary positions in layers with a sliding window than in the others, one in six.
 */
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, everyLayer, windowFields, windowOf } from './source/config.ts';
import { readRope, ropeParameters } from './source/rope-config.ts';

const cap = z.number().positive().nullable();

export const gemma3 = family({
  modelType: 'gemma3_text',
  architecture: 'Gemma3ForCausalLM',
  config: z.strictObject({
    ...decoderFields,
    ...windowFields,
    attention_bias: z.boolean(),
    query_pre_attn_scalar: z.number().positive(),
    attn_logit_softcapping: cap,
    final_logit_softcapping: cap,
    /** θ of layers with a sliding window; the other fields of rotary positions are the other layers'. */
    rope_local_base_freq: z.number().positive(),
  }),
  defaults: {
    max_position_embeddings: 131072,
    head_dim: 256,
    hidden_activation: 'gelu_pytorch_tanh',
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000,
    rope_local_base_freq: 10000,
    tie_word_embeddings: true,
    attention_bias: false,
    query_pre_attn_scalar: 256,
    attn_logit_softcapping: null,
    final_logit_softcapping: null,
    sliding_window: 4096,
    sliding_window_pattern: 6,
  },
  read: (json, source) => ({
    hidden_act: json['hidden_activation'],
    layer_types: json['layer_types'] ?? everyLayer(json, (i) => (i + 1) % Number(json['sliding_window_pattern']) !== 0),
    ...ropes(json, source),
  }),
  decoder: (c) => {
    const global = rotaryOf(c);
    const local = { ...global, theta: c.rope_local_base_freq, scaling: null };
    const options = {
      ...shapeOf(c),
      scale: c.query_pre_attn_scalar ** -0.5,
      softcap: c.attn_logit_softcapping ?? 0,
      biasQkv: c.attention_bias,
      biasO: c.attention_bias,
      norms: { of: 'head', epsilon: c.rms_norm_eps },
    } as const;
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    return {
      gainOffset: 1,
      embeddingScale: Math.sqrt(c.hidden_size),
      logitCap: c.final_logit_softcapping ?? 0,
      layer: (i) => [
        {
          norm: 'input_layernorm',
          block: attention({ ...options, rotary: windowOf(c, i) > 0 ? local : global, window: windowOf(c, i) }),
          postNorm: 'post_attention_layernorm',
        },
        { norm: 'pre_feedforward_layernorm', block: mlp, postNorm: 'post_feedforward_layernorm' },
      ],
    };
  },
});

/** Newer configs hold the parameters of both kinds of layers, older ones the local θ beside those of the others. */
function ropes(json: Record<string, unknown>, source: string): Record<string, unknown> {
  const given = ropeParameters(json);
  const byKind = z.object({ full_attention: z.unknown(), sliding_attention: z.unknown() }).safeParse(given).data;
  if (!byKind) return readRope(source, given, json);
  const { rope_theta, rope_scaling } = readRope(source, byKind.sliding_attention, { rope_theta: json['rope_local_base_freq'] });
  if (rope_scaling !== null)
    throw new Failure({ kind: 'unsupported', message: `${source}: rope_parameters.sliding_attention: expected rope_type default` });
  return { ...readRope(source, byKind.full_attention, json), rope_local_base_freq: rope_theta };
}
