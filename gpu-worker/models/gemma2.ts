/**
 * Gemma 2 (arXiv:2408.00118): norms before and after every block, gains stored as w for 1 + w, an embedding scaled
 * by √hidden, soft caps on scores and logits, every other layer with a sliding window.
 */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, everyLayer, windowFields, windowOf } from './source/config.ts';

const cap = z.number().positive().nullable();

export const gemma2 = family({
  modelType: 'gemma2',
  architecture: 'Gemma2ForCausalLM',
  config: z.strictObject({
    ...decoderFields,
    ...windowFields,
    attention_bias: z.boolean(),
    query_pre_attn_scalar: z.number().positive(),
    attn_logit_softcapping: cap,
    final_logit_softcapping: cap,
  }),
  defaults: {
    max_position_embeddings: 8192,
    head_dim: 256,
    hidden_activation: 'gelu_pytorch_tanh',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
    attention_bias: false,
    query_pre_attn_scalar: 256,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
    sliding_window: 4096,
  },
  read: (json) => ({
    hidden_act: json['hidden_activation'],
    layer_types: json['layer_types'] ?? everyLayer(json, (i) => i % 2 === 0),
  }),
  decoder: (c) => {
    const options = {
      ...shapeOf(c),
      rotary: rotaryOf(c),
      scale: c.query_pre_attn_scalar ** -0.5,
      softcap: c.attn_logit_softcapping ?? 0,
      biasQkv: c.attention_bias,
      biasO: c.attention_bias,
    };
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    return {
      gainOffset: 1,
      embeddingScale: Math.sqrt(c.hidden_size),
      logitCap: c.final_logit_softcapping ?? 0,
      layer: (i) => [
        {
          norm: 'input_layernorm',
          block: attention({ ...options, window: windowOf(c, i) }),
          postNorm: 'post_attention_layernorm',
        },
        { norm: 'pre_feedforward_layernorm', block: mlp, postNorm: 'post_feedforward_layernorm' },
      ],
    };
  },
});
