/** OLMoE (arXiv:2409.02060): many small experts, and norms over the whole of q and of k. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { experts } from './blocks/experts.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, expertFields } from './source/config.ts';

export const olmoe = family({
  modelType: 'olmoe',
  architecture: 'OlmoeForCausalLM',
  config: z.strictObject({ ...decoderFields, ...expertFields, attention_bias: z.boolean() }),
  defaults: {
    max_position_embeddings: 4096,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    attention_bias: false,
    num_experts: 64,
    num_experts_per_tok: 8,
    norm_topk_prob: false,
  },
  decoder: (c) => {
    const self = attention({
      ...shapeOf(c),
      rotary: rotaryOf(c),
      biasQkv: c.attention_bias,
      biasO: c.attention_bias,
      norms: { of: 'projection', epsilon: c.rms_norm_eps },
    });
    const mixture = experts({
      hidden: c.hidden_size,
      units: c.intermediate_size,
      count: c.num_experts,
      perToken: c.num_experts_per_tok,
      renormalise: c.norm_topk_prob,
      activation: c.hidden_act,
    });
    return {
      layer: () => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: mixture },
      ],
    };
  },
});
