/** Temperature, min_p, top_k, top_p and the draw: from logits to one token, in the order that vLLM documents. */
import { argmax, topIndices } from './order.ts';
import type { Random } from './random.ts';

export interface DrawOptions {
  /** 0: the likeliest token, and nothing is drawn. */
  temperature: number;
  minP: number;
  topK: number;
  topP: number;
}

/** Logits of −∞ stand for tokens that must not come; at least one must be above. */
export function draw(logits: Float32Array, { temperature, minP, topK, topP }: DrawOptions, random: Random): number {
  if (temperature === 0) return argmax(logits);
  const u = random.next();
  const weights = softmaxWeights(logits, temperature);
  if (minP > 0) for (let i = 0; i < weights.length; i++) if (weights[i]! < minP) weights[i] = 0;
  if (topK === 0 && topP === 1) return pick(weights, null, u);
  if (topK === 0) return pick(weights, nucleus(weights, topP), u);
  const best = topIndices(weights, topK);
  return pick(weights, best.slice(0, count(weights, best, topP * sumOf(weights, best))), u);
}

/** exp((x − max) / temperature) of every logit. */
function softmaxWeights(logits: Float32Array, temperature: number): Float32Array {
  const max = logits[argmax(logits)]!;
  const weights = new Float32Array(logits.length);
  for (let i = 0; i < logits.length; i++) weights[i] = Math.exp((logits[i]! - max) / temperature);
  return weights;
}

const sumOf = (weights: Float32Array, indices: readonly number[]): number => indices.reduce((sum, i) => sum + weights[i]!, 0);

/** Indices, heaviest first, whose weights make up at least `topP` of the total. */
function nucleus(weights: Float32Array, topP: number): number[] {
  const target = topP * weights.reduce((a, b) => a + b, 0);
  // Most of the vocabulary weighs nothing: sort only what is above a floor, and lower the floor until it suffices.
  for (let floor = 1e-2; ; floor *= 1e-3) {
    const indices: number[] = [];
    for (let i = 0; i < weights.length; i++) if (weights[i]! >= floor) indices.push(i);
    if (floor < 1e-30 || sumOf(weights, indices) >= target) {
      const sorted = indices.sort((a, b) => weights[b]! - weights[a]! || a - b);
      return sorted.slice(0, count(weights, sorted, target));
    }
  }
}

/** How many of the sorted candidates reach `target`; at least one. */
function count(weights: Float32Array, sorted: readonly number[], target: number): number {
  let mass = 0;
  let n = 0;
  while (n < sorted.length && (n === 0 || mass < target)) mass += weights[sorted[n++]!]!;
  return n;
}

/** The candidate at which the running sum passes u · total; null stands for all. */
function pick(weights: Float32Array, candidates: readonly number[] | null, u: number): number {
  const total = candidates ? sumOf(weights, candidates) : weights.reduce((a, b) => a + b, 0);
  let rest = u * total;
  const length = candidates?.length ?? weights.length;
  let last = candidates?.[0] ?? 0;
  for (let n = 0; n < length; n++) {
    const i = candidates ? candidates[n]! : n;
    if (weights[i] === 0) continue;
    last = i;
    rest -= weights[i]!;
    if (rest < 0) return i;
  }
  return last;
}
