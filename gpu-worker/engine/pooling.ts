/** One vector of length 1 for a text, from the hidden states of its tokens. */
import type { Pooling } from '../models/family.ts';

/** Keeps a vector of zeros what it is. */
const LEAST_LENGTH = 1e-12;

export function pooled(states: readonly Float32Array[], pooling: Pooling): Float32Array<ArrayBuffer> {
  switch (pooling) {
    case 'cls':
      return scaledToOne(states[0]!);
    case 'mean': {
      // The length is brought to one anyway: a sum will do.
      const sum = new Float64Array(states[0]!.length);
      for (const state of states) for (let i = 0; i < sum.length; i++) sum[i]! += state[i]!;
      return scaledToOne(sum);
    }
    default:
      return pooling satisfies never;
  }
}

/** The vector's direction. */
export function scaledToOne(values: ArrayLike<number>): Float32Array<ArrayBuffer> {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += values[i]! ** 2;
  const length = Math.max(Math.sqrt(squares), LEAST_LENGTH);
  return Float32Array.from({ length: values.length }, (_, i) => values[i]! / length);
}
