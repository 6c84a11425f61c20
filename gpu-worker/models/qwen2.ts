/** Qwen2 and Qwen2.5 (arXiv:2407.10671): llama with biases on q, k and v. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, windowFields, windowOf, windowsAbove } from './source/config.ts';

export const qwen2 = family({
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  config: z.strictObject({ ...decoderFields, ...windowFields }),
  defaults: {
    max_position_embeddings: 32768,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    use_sliding_window: false,
    sliding_window: 4096,
    max_window_layers: 28,
  },
  read: windowsAbove,
  decoder: (c) => {
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    return {
      layer: (i) => [
        { norm: 'input_layernorm', block: attention({ ...shapeOf(c), rotary: rotaryOf(c), window: windowOf(c, i), biasQkv: true }) },
        { norm: 'post_attention_layernorm', block: mlp },
      ],
    };
  },
});
