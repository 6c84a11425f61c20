/**
 * Names for the content of KV pages. A page's keys and values depend on every token before its end, on the adapters
 * and their weights, and on the base; its name is a hash of all that, chained from page to page. The tenant is part
 * of the first link, so that nobody finds, or can time, what another tenant computed; adapters stand in it by digest,
 * so that a new version finds nothing of the old one's.
 */
import { createHash } from 'node:crypto';
import type { EngineRequest } from '../../shared/contract/engine.ts';
import { PAGE_TOKENS, type PagePool } from './pages.ts';

const hash = (...parts: (string | Uint8Array)[]): string => {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(part);
  return sum.digest('base64');
};

/** The first link: what keys and values depend on besides tokens. */
export const scopeOf = (request: Pick<EngineRequest, 'account' | 'adapters'>, baseRevision: string, precision: string): string =>
  hash(JSON.stringify([request.account.tenant, request.adapters.map(({ digest, weight }) => [digest, weight]), baseRevision, precision]));

/** The names of one sequence's full pages, hashed once each as they are asked for. */
export class PageKeys {
  readonly #scope: string;
  readonly #tokens: readonly number[];
  readonly #keys: string[] = [];

  /** `tokens` may grow, but must not change. */
  constructor(scope: string, tokens: readonly number[]) {
    this.#scope = scope;
    this.#tokens = tokens;
  }

  at(page: number): string {
    if ((page + 1) * PAGE_TOKENS > this.#tokens.length) throw new RangeError(`page ${page} is not full with ${this.#tokens.length} tokens`);
    for (let i = this.#keys.length; i <= page; i++) {
      const tokens = Int32Array.from(this.#tokens.slice(i * PAGE_TOKENS, (i + 1) * PAGE_TOKENS));
      this.#keys.push(hash(this.#keys[i - 1] ?? this.#scope, new Uint8Array(tokens.buffer)));
    }
    return this.#keys[page]!;
  }
}

/** Pages that hold the beginning of a sequence, at most `most` of them. */
export function findPrefix(pool: PagePool, keys: PageKeys, most: number): number[] {
  const pages: number[] = [];
  while (pages.length < most) {
    const page = pool.find(keys.at(pages.length));
    if (page === undefined) break;
    pages.push(page);
  }
  return pages;
}
