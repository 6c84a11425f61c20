/** One vector of length 1 for a text, from the hidden states of its tokens. */
import type { Pooling } from '../models/family.ts';
import { scaledToOne } from '../tensor/unit-length.ts';

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
