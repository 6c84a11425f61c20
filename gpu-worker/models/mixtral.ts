/** Mixtral (arXiv:2401.04088): mistral with a mixture of experts for the MLP. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { experts } from './blocks/experts.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, slidingWindow, topExperts } from './source/config.ts';

const NAMES = { router: 'block_sparse_moe.gate', experts: 'block_sparse_moe.experts', gate: 'w1', up: 'w3', down: 'w2' };

export const mixtral = family({
  modelType: 'mixtral',
  architecture: 'MixtralForCausalLM',
  config: z.strictObject({ ...decoderFields, ...topExperts, sliding_window: slidingWindow }),
  defaults: {
    max_position_embeddings: 131072,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 1_000_000,
    tie_word_embeddings: false,
    sliding_window: null,
    num_local_experts: 8,
    num_experts_per_tok: 2,
  },
  read: (json) => ({ num_experts: json['num_local_experts'] }),
  decoder: (c) => {
    const self = attention({ ...shapeOf(c), rotary: rotaryOf(c), window: c.sliding_window ?? 0 });
    const mixture = experts({
      hidden: c.hidden_size,
      units: c.intermediate_size,
      count: c.num_experts,
      perToken: c.num_experts_per_tok,
      renormalise: true,
      activation: c.hidden_act,
      names: NAMES,
    });
    return {
      layer: () => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: mixture },
      ],
    };
  },
});
