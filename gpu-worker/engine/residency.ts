/**
 * A sequence's keys and values in the pool: which pages it holds, how many of its tokens are computed, and what of it
 * others may find. Pages that are found are shared and only read: a sequence writes beyond them.
 */
import { PAGE_TOKENS, type PagePool, pagesFor } from './pages.ts';
import { findPrefix, PageKeys } from './prefix-cache.ts';

export class Residency {
  /** Page i holds positions i · PAGE_TOKENS and up. */
  readonly pages: number[] = [];
  /** Tokens from the beginning whose keys and values are in the pages. */
  computed = 0;
  readonly #tokens: readonly number[];
  readonly #keys: PageKeys;
  /** Full pages that have been published, or were found. */
  #published = 0;

  /** `tokens` may grow, but must not change. */
  constructor(tokens: readonly number[], scope: string) {
    this.#tokens = tokens;
    this.#keys = new PageKeys(scope, tokens);
  }

  /** Pages that a prefix may fill: the last token is always computed, for its logits are wanted. */
  get #sharable(): number {
    return Math.floor((this.#tokens.length - 1) / PAGE_TOKENS);
  }

  /** Whether `other`, which is being computed, is about to compute a page that this one could share. */
  couldShare(other: Residency): boolean {
    const page = other.#published;
    if (page >= this.#sharable || (page + 1) * PAGE_TOKENS > other.#tokens.length) return false;
    return this.#keys.at(page) === other.#keys.at(page);
  }

  /**
   * Takes pages for all tokens, found ones first if `share`; false, and nothing changes, unless `spare` more would be
   * left. Afterwards `computed` tells how much was found.
   */
  enter(pool: PagePool, share: boolean, spare: number): boolean {
    const found = share ? findPrefix(pool, this.#keys, this.#sharable) : [];
    for (const page of found) pool.retain(page);
    const wanted = pagesFor(this.#tokens.length) - found.length;
    this.pages.push(...found);
    if (pool.available < wanted + spare) {
      this.leave(pool);
      return false;
    }
    for (let i = 0; i < wanted; i++) this.pages.push(pool.take()!);
    this.#published = found.length;
    this.computed = found.length * PAGE_TOKENS;
    return true;
  }

  /** Has pages for `tokens` tokens in the end, if the pool has them. */
  grow(pool: PagePool, tokens: number): boolean {
    while (this.pages.length < pagesFor(tokens)) {
      const page = pool.take();
      if (page === undefined) return false;
      this.pages.push(page);
    }
    return true;
  }

  /** Lets others find the pages that are full. */
  publish(pool: PagePool): void {
    for (; (this.#published + 1) * PAGE_TOKENS <= this.computed; this.#published++)
      pool.publish(this.pages[this.#published]!, this.#keys.at(this.#published));
  }

  /** Holds nothing any more. The end goes first when room is needed: it is of no use without what comes before it. */
  leave(pool: PagePool): void {
    for (const page of this.pages.splice(0).reverse()) pool.release(page);
    this.computed = 0;
    this.#published = 0;
  }
}
