/**
 * A model without arithmetic: keys and values are the tokens themselves, logits are hashes of everything that a
 * position can see through its page table. Whatever reads a wrong page, a stale one or a draft's leftovers, says
 * something else. Two tokens of context weigh most, so that texts repeat themselves and drafts come true.
 */
import type { Model, Row } from '../../../gpu-worker/engine/model.ts';
import { PAGE_TOKENS } from '../../../gpu-worker/engine/pages.ts';

export const VOCABULARY = 40;

const mix = (hash: number, value: number): number => {
  let h = Math.imul(hash ^ value, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
};
const unit = (hash: number): number => (hash >>> 0) / 2 ** 32;

/** Logits after a text. */
export function logitsAfter(text: readonly number[], adapters: Row['adapters']): Float32Array {
  let seed = 7;
  for (const { table, weight } of adapters) seed = mix(mix(seed, Number(table)), weight * 1000);
  const near = text.slice(-2).reduce((hash, token) => mix(hash, token % 8), seed);
  const whole = text.reduce(mix, mix(seed, text.length));
  return Float32Array.from({ length: VOCABULARY }, (_, v) => 4 * unit(mix(near, v)) + 0.05 * unit(mix(whole, v)));
}

export class HashModel implements Model {
  /** Token in each position of each page, −1 where nothing was written. */
  readonly #memory: Int32Array;
  /** Steps so far, each with the number of rows and of tokens. */
  readonly steps: { rows: number; tokens: number }[] = [];
  /** Called before each run. */
  onRun: (rows: readonly Row[]) => void = () => {};

  constructor(pages: number) {
    this.#memory = new Int32Array(pages * PAGE_TOKENS).fill(-1);
  }

  run(rows: readonly Row[]): Float32Array[] {
    this.onRun(rows);
    this.steps.push({ rows: rows.length, tokens: rows.reduce((sum, { tokens }) => sum + tokens.length, 0) });
    const at = ({ pages }: Row, position: number) => {
      const page = pages[Math.floor(position / PAGE_TOKENS)];
      if (page === undefined) throw new Error(`position ${position} has no page`);
      return page * PAGE_TOKENS + (position % PAGE_TOKENS);
    };
    for (const row of rows)
      row.tokens.forEach((token, i) => {
        this.#memory[at(row, row.past + i)] = token;
      });
    return rows.flatMap((row) => {
      const seen = Array.from({ length: row.past + row.tokens.length }, (_, position) => this.#memory[at(row, position)]!);
      const first = seen.length - row.wanted;
      return Array.from({ length: row.wanted }, (_, i) => logitsAfter(seen.slice(0, first + i + 1), row.adapters));
    });
  }
}
