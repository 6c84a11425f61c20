/** Scans over one row of logits: the largest, the k largest, the log of the sum of exponentials. */
import type { TokenLogprob } from '../../../shared/contract/engine.ts';

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

/** Log-probabilities of the model's own distribution: before bias, penalties, grammar, temperature and truncation. */
export function tokenLogprob(logits: Float32Array, id: number, top: number): TokenLogprob {
  const total = logSumExp(logits);
  return { id, logprob: logits[id]! - total, top: topIndices(logits, top).map((i) => ({ id: i, logprob: logits[i]! - total })) };
}
