/**
 * What leaves a full cache: GreedyDual-Size-Frequency (Cherkasova, HPL-98-69R1). Each entry has the priority
 *
 *   clock + uses · cost / bytes
 *
 * and the lowest leaves; the clock rises to the priority of whoever left, so that former popularity fades. It weighs
 * recency, frequency, size and what it costs to get the entry back. Pure: it keeps numbers, not bytes.
 */

interface Entry {
  bytes: number;
  /** Of getting it back, in any unit. */
  cost: number;
  uses: number;
  priority: number;
}

export class GreedyDual {
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #clock = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  bytesOf(key: string): number {
    return this.#entries.get(key)?.bytes ?? 0;
  }

  /** Adds an unused entry, or changes the size and cost of one. */
  add(key: string, bytes: number, cost: number): void {
    this.#put(key, { bytes, cost, uses: this.#entries.get(key)?.uses ?? 0 });
  }

  use(key: string): void {
    const entry = this.#entries.get(key);
    if (entry) this.#put(key, { ...entry, uses: entry.uses + 1 });
  }

  #put(key: string, { bytes, cost, uses }: Omit<Entry, 'priority'>): void {
    this.#bytes += bytes - this.bytesOf(key);
    this.#entries.set(key, { bytes, cost, uses, priority: this.#clock + (uses * cost) / Math.max(1, bytes) });
  }

  remove(key: string): void {
    this.#bytes -= this.bytesOf(key);
    this.#entries.delete(key);
  }

  /** Removes and answers the entry that is missed least among those that may go; null when none may. */
  evict(mayGo: (key: string) => boolean = () => true): string | null {
    let victim: string | null = null;
    let lowest = Number.POSITIVE_INFINITY;
    for (const [key, { priority }] of this.#entries) {
      if (priority >= lowest || !mayGo(key)) continue;
      victim = key;
      lowest = priority;
    }
    if (victim === null) return null;
    this.#clock = Math.max(this.#clock, lowest);
    this.remove(victim);
    return victim;
  }
}
