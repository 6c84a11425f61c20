/** What the sampler sees of a grammar: which tokens may come next, as one bit for each. */

export type Allowed =
  /** Bit i % 32 of word i / 32 is token i's. Valid until the next `accept`. */
  { type: 'some'; mask: Int32Array } | { type: 'pending' } | { type: 'failed'; message: string };

/** Where one sequence stands in its grammar. */
export interface GrammarState {
  allowed(): Allowed;
  /** Only of a token that was allowed. */
  accept(id: number): void;
  close(): void;
}

/**
 * Copies the logits of allowed tokens, and makes all others −∞. Returns whether there are any. A mask mostly allows
 * almost nothing (between values) or almost everything (inside a string): both are quick this way.
 */
export function copyAllowed(mask: Int32Array, from: Float32Array, to: Float32Array): boolean {
  to.fill(Number.NEGATIVE_INFINITY);
  let any = false;
  for (let word = 0; word < mask.length; word++) {
    let bits = mask[word]!;
    if (bits === 0) continue;
    any = true;
    const start = word * 32;
    if (bits === -1) {
      for (let i = start; i < start + 32; i++) to[i] = from[i]!;
    } else {
      for (; bits !== 0; bits &= bits - 1) {
        const i = start + 31 - Math.clz32(bits & -bits);
        to[i] = from[i]!;
      }
    }
  }
  return any;
}
