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

/** Sets the logits of forbidden tokens to −∞. Tokens beyond the mask's end are forbidden. */
export function applyMask(logits: Float32Array, mask: Int32Array): void {
  for (let word = 0; word * 32 < logits.length; word++) {
    const bits = mask[word] ?? 0;
    const start = word * 32;
    const end = Math.min(start + 32, logits.length);
    if (bits === 0) logits.fill(Number.NEGATIVE_INFINITY, start, end);
    else if (bits !== -1) for (let i = start; i < end; i++) if (!((bits >>> (i - start)) & 1)) logits[i] = Number.NEGATIVE_INFINITY;
  }
}
