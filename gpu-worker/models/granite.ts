/** Granite 3 (IBM, 2024): llama with factors on embedding, scores, what blocks add, and logits. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields } from './source/config.ts';

const factor = z.number().positive();

export const granite = family({
  modelType: 'granite',
  architecture: 'GraniteForCausalLM',
  config: z.strictObject({
    ...decoderFields,
    attention_bias: z.boolean(),
    mlp_bias: z.boolean(),
    embedding_multiplier: factor,
    attention_multiplier: factor,
    residual_multiplier: factor,
    logits_scaling: factor,
  }),
  defaults: {
    max_position_embeddings: 2048,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    attention_bias: false,
    mlp_bias: false,
    embedding_multiplier: 1,
    attention_multiplier: 1,
    residual_multiplier: 1,
    logits_scaling: 1,
  },
  decoder: (c) => {
    const bias = { biasQkv: c.attention_bias, biasO: c.attention_bias };
    const self = attention({ ...shapeOf(c), rotary: rotaryOf(c), scale: c.attention_multiplier, ...bias });
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act, bias: c.mlp_bias });
    return {
      embeddingScale: c.embedding_multiplier,
      residualScale: c.residual_multiplier,
      logitScale: 1 / c.logits_scaling,
      layer: () => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: mlp },
      ],
    };
  },
});
