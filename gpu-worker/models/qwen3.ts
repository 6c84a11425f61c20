/** Qwen3 (arXiv:2505.09388): llama with norms of each head's q and k. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, windowFields, windowOf, windowsAbove } from './source/config.ts';

export const qwen3 = family({
  modelType: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  config: z.strictObject({ ...decoderFields, ...windowFields, attention_bias: z.boolean() }),
  defaults: {
    max_position_embeddings: 32768,
    head_dim: 128,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    attention_bias: false,
    use_sliding_window: false,
    sliding_window: 4096,
    max_window_layers: 28,
  },
  read: windowsAbove,
  decoder: (c) => {
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    const options = {
      ...shapeOf(c),
      rotary: rotaryOf(c),
      biasQkv: c.attention_bias,
      biasO: c.attention_bias,
      norms: { of: 'head', epsilon: c.rms_norm_eps },
    } as const;
    return {
      layer: (i) => [
        { norm: 'input_layernorm', block: attention({ ...options, window: windowOf(c, i) }) },
        { norm: 'post_attention_layernorm', block: mlp },
      ],
    };
  },
});
