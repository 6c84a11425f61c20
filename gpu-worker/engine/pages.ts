/**
 * The pages of the KV pool: which are held by sequences, which are only kept because their content may be wanted
 * again, and which are free. Numbers only; the memory itself is kv-pool.ts's.
 *
 *   free ──take──▶ held ──release, last holder──▶ free, or idle if the page has a key
 *                   ▲ └──────────── retain ◀──────────────┤
 *                   └─ take, when nothing is free: the one idle for longest loses its key
 */

import { PAGE_TOKENS } from '../graph/kernels.ts';

export { PAGE_TOKENS };

export const pagesFor = (tokens: number): number => Math.ceil(tokens / PAGE_TOKENS);

export class PagePool {
  readonly total: number;
  readonly #holders: Uint32Array;
  readonly #free: number[];
  readonly #keys: (string | undefined)[];
  readonly #byKey = new Map<string, number>();
  /** In the order in which they became idle. */
  readonly #idle = new Set<number>();

  constructor(total: number) {
    this.total = total;
    this.#holders = new Uint32Array(total);
    this.#keys = Array.from({ length: total }, () => undefined);
    // The lowest numbers go first: memory is committed as it is touched.
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i);
  }

  /** Pages without a holder whose content can still be found. */
  get idle(): number {
    return this.#idle.size;
  }

  /** Pages that some sequence holds. */
  get held(): number {
    return this.total - this.available;
  }

  /** Pages that `take` could give. */
  get available(): number {
    return this.#free.length + this.#idle.size;
  }

  /** A page with one holder and any content; undefined when all are held. */
  take(): number | undefined {
    const page = this.#free.pop() ?? this.#evict();
    if (page !== undefined) this.#holders[page] = 1;
    return page;
  }

  #evict(): number | undefined {
    for (const page of this.#idle) {
      this.#idle.delete(page);
      this.#byKey.delete(this.#keys[page]!);
      this.#keys[page] = undefined;
      return page;
    }
    return undefined;
  }

  retain(page: number): void {
    this.#idle.delete(page);
    this.#holders[page]!++;
  }

  release(page: number): void {
    if (this.#holders[page] === 0) throw new Error(`release of page ${page}: nobody holds it`);
    if (--this.#holders[page]! > 0) return;
    if (this.#keys[page] === undefined) this.#free.push(page);
    else this.#idle.add(page);
  }

  /** From now on a held page can be found by its content's key, unless another page has the same content. */
  publish(page: number, key: string): void {
    if (this.#keys[page] !== undefined || this.#byKey.has(key)) return;
    this.#keys[page] = key;
    this.#byKey.set(key, page);
  }

  find(key: string): number | undefined {
    return this.#byKey.get(key);
  }
}
