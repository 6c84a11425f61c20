/** Phi-3 and Phi-4-mini (arXiv:2404.14219): llama with q, k and v in one module, gate and up in another. */
import { z } from 'zod';
import { attention, shapeOf } from './blocks/attention.ts';
import { gatedMlp } from './blocks/gated-mlp.ts';
import { family } from './family.ts';
import { rotaryOf } from './rope.ts';
import { decoderFields, slidingWindow } from './source/config.ts';

export const phi3 = family({
  modelType: 'phi3',
  architecture: 'Phi3ForCausalLM',
  config: z.strictObject({ ...decoderFields, sliding_window: slidingWindow, partial_rotary_factor: z.number().positive().max(1) }),
  defaults: {
    max_position_embeddings: 4096,
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    sliding_window: null,
  },
  decoder: (c) => {
    const dims = Math.trunc(c.head_dim * c.partial_rotary_factor);
    const self = attention({ ...shapeOf(c), rotary: { ...rotaryOf(c), dims }, window: c.sliding_window ?? 0, fused: true });
    const mlp = gatedMlp({ hidden: c.hidden_size, units: c.intermediate_size, activation: c.hidden_act, fused: true });
    return {
      layer: () => [
        { norm: 'input_layernorm', block: self },
        { norm: 'post_attention_layernorm', block: mlp },
      ],
    };
  },
});
