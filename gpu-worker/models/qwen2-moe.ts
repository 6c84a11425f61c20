/** Qwen1.5-MoE and Qwen2-MoE (arXiv:2407.10671): qwen2 with a mixture of experts, one of them shared by all tokens. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { experts } from './blocks/experts.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, expertFields, isSparse, size, sparseFields, windowFields, windowOf, windowsAbove } from './source/config.ts';

export const qwen2Moe = family({
  modelType: 'qwen2_moe',
  architecture: 'Qwen2MoeForCausalLM',
  config: z.strictObject({
    ...decoderFields,
    ...windowFields,
    ...expertFields,
    ...sparseFields,
    shared_expert_intermediate_size: size(1 << 20),
    qkv_bias: z.boolean(),
  }),
  defaults: {
    max_position_embeddings: 32768,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    use_sliding_window: false,
    sliding_window: 4096,
    max_window_layers: 28,
    num_experts: 60,
    num_experts_per_tok: 4,
    norm_topk_prob: false,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
    moe_intermediate_size: 1408,
    shared_expert_intermediate_size: 5632,
    qkv_bias: true,
  },
  read: windowsAbove,
  decoder: (c) => {
    const options = { ...shapeOf(c), rotary: rotaryOf(c), biasQkv: c.qkv_bias };
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    const mixture = experts({
      hidden: c.hidden_size,
      units: c.moe_intermediate_size,
      count: c.num_experts,
      perToken: c.num_experts_per_tok,
      renormalise: c.norm_topk_prob,
      activation: c.hidden_act,
      shared: c.shared_expert_intermediate_size,
    });
    return {
      layer: (i) => [
        { norm: 'input_layernorm', block: attention({ ...options, window: windowOf(c, i) }) },
        { norm: 'post_attention_layernorm', block: isSparse(c, i) ? mixture : mlp },
      ],
    };
  },
});
