/** Llama (arXiv:2302.13971): pre-norm decoder, rotary positions, grouped-query attention, SwiGLU. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields } from './source/config.ts';

export const llama = family({
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  config: z.strictObject({ ...decoderFields, attention_bias: z.boolean(), mlp_bias: z.boolean() }),
  defaults: {
    max_position_embeddings: 2048,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    attention_bias: false,
    mlp_bias: false,
  },
  decoder: (c) => {
    const self = attention({ ...shapeOf(c), rotary: rotaryOf(c), biasQkv: c.attention_bias, biasO: c.attention_bias });
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act, bias: c.mlp_bias });
    return {
      layer: () => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: mlp },
      ],
    };
  },
});
