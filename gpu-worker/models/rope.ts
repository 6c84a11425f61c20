/** Tables of rotary positions: cos and sin of position · frequency, [positions, headDim/2]. */
import type { ModelConfig } from './source/config.ts';

type RopeConfig = Pick<ModelConfig, 'head_dim' | 'rope_theta' | 'rope_scaling' | 'max_position_embeddings'>;

/** Angle per position of each pair of channels: θ^(−2i/d), stretched as rope_scaling says (transformers, modeling_rope_utils). */
export function ropeFrequencies(config: RopeConfig): Float64Array {
  const { head_dim: d, rope_theta: theta, rope_scaling: scaling } = config;
  const plain = Float64Array.from({ length: d / 2 }, (_, i) => theta ** ((-2 * i) / d));
  if (scaling === null) return plain;
  switch (scaling.rope_type) {
    case 'linear':
      return plain.map((f) => f / scaling.factor);
    case 'llama3': {
      const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = scaling;
      return plain.map((f) => {
        const wavelength = (2 * Math.PI) / f;
        if (wavelength < original / high) return f;
        if (wavelength > original / low) return f / factor;
        const smooth = (original / wavelength - low) / (high - low);
        return ((1 - smooth) * f) / factor + smooth * f;
      });
    }
    default:
      return scaling satisfies never;
  }
}

export function ropeTable(config: RopeConfig, fn: (angle: number) => number): Float32Array {
  const frequencies = ropeFrequencies(config);
  const table = new Float32Array(config.max_position_embeddings * frequencies.length);
  for (let p = 0, at = 0; p < config.max_position_embeddings; p++) for (const f of frequencies) table[at++] = fn(p * f);
  return table;
}
