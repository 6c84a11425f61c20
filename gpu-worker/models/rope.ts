/** Tables of rotary positions (arXiv:2104.09864): cos and sin of position · frequency, [positions, dims/2]. */
import { createHash } from 'node:crypto';
import type { Graph, Value } from '../graph/ir.ts';
import type { DecoderConfig, RopeScaling } from './source/config.ts';

/** One way of turning heads by position; layers may differ. */
export interface Rotary {
  /** Channels of a head that are turned: the first ones, i together with i + dims/2. */
  dims: number;
  theta: number;
  scaling: RopeScaling;
  /** Length of the tables. */
  positions: number;
}

/** The rotary positions of a model that turns whole heads and has one kind for all layers. */
export const rotaryOf = (c: DecoderConfig): Rotary => ({
  dims: c.head_dim,
  theta: c.rope_theta,
  scaling: c.rope_scaling,
  positions: c.max_position_embeddings,
});

/** Angle per position of each pair of channels: θ^(−2i/d), stretched as the scaling says (transformers, modeling_rope_utils). */
export function ropeFrequencies({ dims, theta, scaling }: Omit<Rotary, 'positions'>): Float64Array {
  const plain = Float64Array.from({ length: dims / 2 }, (_, i) => theta ** ((-2 * i) / dims));
  if (scaling === null) return plain;
  switch (scaling.rope_type) {
    case 'linear':
      return plain.map((f) => f / scaling.factor);
    case 'dynamic':
      // Stretches only beyond max_position_embeddings, where no sequence gets.
      return plain;
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
    case 'yarn': {
      const share = yarnRamp(dims, theta, scaling);
      return plain.map((f, i) => (f / scaling.factor) * share(i) + f * (1 - share(i)));
    }
    case 'longrope':
      return plain.map((f, i) => f / scaling.short_factor[i]!);
    default:
      return scaling satisfies never;
  }
}

/** YaRN (arXiv:2309.00071): how much of pair i is interpolated, from 0 for the fast pairs to 1 for the slow ones. */
function yarnRamp(dims: number, theta: number, scaling: Extract<RopeScaling, { rope_type: 'yarn' }>): (i: number) => number {
  const { beta_fast, beta_slow, original_max_position_embeddings: original, truncate } = scaling;
  /** The pair that turns this often within the trained context. */
  const pairOf = (turns: number) => (dims * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [pairOf(beta_fast), pairOf(beta_slow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, dims - 1);
  const width = low === high ? 0.001 : high - low;
  return (i) => Math.max(0, Math.min(1, (i - low) / width));
}

/** What cos and sin are multiplied by, which scales the scores of turned channels by its square. */
export function ropeMagnitude(scaling: RopeScaling): number {
  return scaling?.rope_type === 'yarn' || scaling?.rope_type === 'longrope' ? scaling.attention_factor : 1;
}

export function ropeTable(rotary: Rotary, fn: (angle: number) => number): Float32Array {
  const frequencies = ropeFrequencies(rotary);
  const magnitude = ropeMagnitude(rotary.scaling);
  const table = new Float32Array(rotary.positions * frequencies.length);
  for (let p = 0, at = 0; p < rotary.positions; p++) for (const f of frequencies) table[at++] = magnitude * fn(p * f);
  return table;
}

/** The tables as weights, shared by all layers that turn alike. */
export function rotaryTables(g: Graph, rotary: Rotary): { cos: Value; sin: Value; dims: number } {
  const dims = [rotary.positions, rotary.dims / 2];
  const name = `rope.${createHash('sha256').update(JSON.stringify(rotary)).digest('hex').slice(0, 8)}`;
  const table = (leaf: 'cos' | 'sin') => g.weight(`${name}.${leaf}`, 'f32', dims, () => ropeTable(rotary, Math[leaf]));
  return { cos: table('cos'), sin: table('sin'), dims: rotary.dims };
}
