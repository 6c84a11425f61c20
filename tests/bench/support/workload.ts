/** What users send: lengths, popularity of adapters, arrivals. Reproducible from a seed. */
import type { Random } from './random.ts';

/** In (0, 1). */
export const uniform = (random: Random): number => random.next() / 2 ** 32;

const exponential = (random: Random): number => -Math.log(uniform(random));

/** Box–Muller. */
const normal = (random: Random): number => Math.sqrt(2 * exponential(random)) * Math.cos(2 * Math.PI * uniform(random));

/**
 * Lengths in tokens as in conversations shared from ChatGPT: log-normal with the means that the vLLM paper gives
 * (arXiv:2309.06180: 161 in, 338 out) and the long tail of that set. `scale` shortens both alike for small machines.
 */
export function conversation(random: Random, scale: number): { prompt: number; generated: number } {
  const draw = (mean: number, sigma: number) => Math.exp(Math.log(mean * scale) - sigma ** 2 / 2 + sigma * normal(random));
  const clamp = (tokens: number, most: number) => Math.max(4, Math.min(Math.round(most * scale), Math.round(tokens)));
  return { prompt: clamp(draw(161, 1.1), 2048), generated: clamp(draw(338, 0.9), 1024) };
}

/** Draws 0…n−1 with probability ∝ 1/(i + 1)^s. */
export function zipf(n: number, s: number): (random: Random) => number {
  const cumulative: number[] = [];
  let total = 0;
  for (let i = 0; i < n; i++) {
    total += (i + 1) ** -s;
    cumulative.push(total);
  }
  return (random) => {
    const at = uniform(random) * total;
    let [low, high] = [0, n - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle]! < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** Milliseconds from the start at which `count` requests of a Poisson process arrive, `rate` a second. */
export function arrivals(random: Random, rate: number, count: number): number[] {
  let at = 0;
  return Array.from({ length: count }, () => {
    at += (exponential(random) / rate) * 1000;
    return at;
  });
}

/** (Σx)² / (n Σx²): 1 when all get the same, 1/n when one gets everything (Jain, Chiu, Hawe 1984). */
export function jain(shares: readonly number[]): number {
  const sum = shares.reduce((a, b) => a + b, 0);
  return sum ** 2 / (shares.length * shares.reduce((a, b) => a + b * b, 0));
}
