/** Choosing the next token from one row of logits. Pure: a row's outcome depends on nothing but the row, the options and the seed. */
import type { TokenLogprob } from '../../shared/contract/engine.ts';

/** Random numbers in [0, 1): PCG-XSH-RR 64/32 (O'Neill 2014), one independent stream for each sequence. */
export class Random {
  #state: bigint;
  readonly #increment: bigint;

  constructor(seed: number, stream: number) {
    this.#increment = (BigInt.asUintN(63, BigInt(stream)) << 1n) | 1n;
    this.#state = BigInt.asUintN(64, BigInt(seed) + this.#increment);
    this.next();
  }

  next(): number {
    const s = this.#state;
    this.#state = BigInt.asUintN(64, s * 6364136223846793005n + this.#increment);
    const xored = Number(BigInt.asUintN(32, ((s >> 18n) ^ s) >> 27n));
    const turn = Number(s >> 59n);
    return (((xored >>> turn) | (xored << (-turn & 31))) >>> 0) / 2 ** 32;
  }
}

/**
 * Index of the largest, the first of equal ones. Floats above zero order like the integers of their bits, and integers
 * are compared faster; a row without one above zero is compared as floats.
 */
export function argmax(logits: Float32Array): number {
  const bits = new Int32Array(logits.buffer, logits.byteOffset, logits.length);
  let [a, b, c, d] = [0, 0, 0, 0];
  const whole = bits.length - (bits.length % 4);
  for (let i = 0; i < whole; i += 4) {
    if (bits[i]! > a) a = bits[i]!;
    if (bits[i + 1]! > b) b = bits[i + 1]!;
    if (bits[i + 2]! > c) c = bits[i + 2]!;
    if (bits[i + 3]! > d) d = bits[i + 3]!;
  }
  for (let i = whole; i < bits.length; i++) if (bits[i]! > a) a = bits[i]!;
  const max = Math.max(a, b, c, d);
  return max > 0 ? bits.indexOf(max) : argmaxOfFloats(logits);
}

function argmaxOfFloats(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Indices of the k largest, best first; equal values in index order. */
export function topIndices(logits: Float32Array, k: number): number[] {
  if (k <= 0) return [];
  const heap: number[] = [];
  // `worst` stands before `better` at the heap's root: smaller value first, then larger index.
  const below = (a: number, b: number) => logits[a]! < logits[b]! || (logits[a]! === logits[b]! && a > b);
  const sink = (at: number) => {
    for (;;) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < heap.length && below(heap[child]!, heap[least]!)) least = child;
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least]!, heap[at]!];
      at = least;
    }
  };
  for (let i = 0; i < logits.length; i++) {
    if (heap.length < k) {
      heap.push(i);
      if (heap.length === k) for (let j = (k >> 1) - 1; j >= 0; j--) sink(j);
    } else if (logits[i]! > logits[heap[0]!]!) {
      heap[0] = i;
      sink(0);
    }
  }
  return heap.sort((a, b) => (below(b, a) ? -1 : 1));
}

/** log Σ exp of the row. */
export function logSumExp(logits: Float32Array): number {
  let max = logits[0]!;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > max) max = logits[i]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - max);
  return max + Math.log(sum);
}

/** Log-probabilities of the model's own distribution, before temperature and truncation. */
export function tokenLogprob(logits: Float32Array, id: number, top: number): TokenLogprob {
  const total = logSumExp(logits);
  return { id, logprob: logits[id]! - total, top: topIndices(logits, top).map((i) => ({ id: i, logprob: logits[i]! - total })) };
}

export interface Sampling {
  temperature: number;
  topP: number;
  topK: number;
}

/** Temperature, then top-k, then top-p, then a draw; temperature 0 takes the largest. */
export function sample(logits: Float32Array, { temperature, topP, topK }: Sampling, random: Random): number {
  if (temperature === 0) return argmax(logits);
  const u = random.next();
  const weights = softmaxWeights(logits, temperature);
  if (topK === 0 && topP === 1) return draw(weights, null, u);
  if (topK === 0) return draw(weights, nucleus(weights, topP), u);
  const best = topIndices(weights, topK);
  return draw(weights, best.slice(0, count(weights, best, topP * sumOf(weights, best))), u);
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
function draw(weights: Float32Array, candidates: readonly number[] | null, u: number): number {
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
