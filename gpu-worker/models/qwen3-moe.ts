/** Qwen3-MoE (arXiv:2505.09388): qwen3 with a mixture of experts. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { experts } from './blocks/experts.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, expertFields, isSparse, sparseFields } from './source/config.ts';

export const qwen3Moe = family({
  modelType: 'qwen3_moe',
  architecture: 'Qwen3MoeForCausalLM',
  config: z.strictObject({ ...decoderFields, ...expertFields, ...sparseFields, attention_bias: z.boolean() }),
  defaults: {
    max_position_embeddings: 32768,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    attention_bias: false,
    use_sliding_window: false,
    sliding_window: 4096,
    num_experts_per_tok: 8,
    norm_topk_prob: false,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    moe_intermediate_size: 768,
  },
  // transformers 5 writes num_local_experts, what is on the hub has num_experts.
  read: (json) => ({ num_experts: json['num_local_experts'] ?? json['num_experts'] }),
  decoder: (c) => {
    const self = attention({
      ...shapeOf(c),
      rotary: rotaryOf(c),
      biasQkv: c.attention_bias,
      biasO: c.attention_bias,
      norms: { of: 'head', epsilon: c.rms_norm_eps },
    });
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    const mixture = experts({
      hidden: c.hidden_size,
      units: c.moe_intermediate_size,
      count: c.num_experts,
      perToken: c.num_experts_per_tok,
      renormalise: c.norm_topk_prob,
      activation: c.hidden_act,
    });
    return {
      layer: (i) => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: isSparse(c, i) ? mixture : mlp },
      ],
    };
  },
});
