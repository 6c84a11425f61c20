/** Mistral (arXiv:2310.06825): llama whose layers all see a sliding window. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, slidingWindow } from './source/config.ts';

export const mistral = family({
  modelType: 'mistral',
  architecture: 'MistralForCausalLM',
  config: z.strictObject({ ...decoderFields, sliding_window: slidingWindow }),
  defaults: {
    max_position_embeddings: 131072,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    sliding_window: 4096,
  },
  decoder: (c) => {
    const self = attention({ ...shapeOf(c), rotary: rotaryOf(c), window: c.sliding_window ?? 0 });
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act });
    return {
      layer: () => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: mlp },
      ],
    };
  },
});
