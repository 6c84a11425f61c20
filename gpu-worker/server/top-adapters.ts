/**
 * Which adapters get metrics of their own: the most used ones, so that a platform of thousands of adapters keeps a few
 * dozen series. Uses fade, by half in an hour; whoever overtakes the least used of the named takes its place. Pure.
 */

const HALF_LIFE_MS = 3_600_000;
/** Adapters that are counted without being named, as many times the named ones. */
const CANDIDATES = 20;
/** What takes a named one's place has this many times its uses, so that equals do not alternate. */
const LEAD = 1.5;

interface Count {
  uses: number;
  at: number;
}

export class TopAdapters {
  readonly #limit: number;
  readonly #named = new Map<string, Count>();
  /** Least recently used first. */
  readonly #candidates = new Map<string, Count>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Counts a use. `isNamed`: it has metrics of its own; `dropped` has no longer. */
  use(digest: string, now: number): { isNamed: boolean; dropped: string | null } {
    const known = this.#named.get(digest) ?? this.#candidates.get(digest) ?? { uses: 0, at: now };
    const count = { uses: faded(known, now) + 1, at: now };
    if (this.#named.has(digest) || this.#named.size < this.#limit) {
      this.#candidates.delete(digest);
      this.#named.set(digest, count);
      return { isNamed: true, dropped: null };
    }
    this.#candidates.delete(digest);
    let least: [string, number] | null = null;
    for (const [name, other] of this.#named) {
      const uses = faded(other, now);
      if (!least || uses < least[1]) least = [name, uses];
    }
    if (least && count.uses > LEAD * least[1]) {
      this.#named.delete(least[0]);
      this.#named.set(digest, count);
      return { isNamed: true, dropped: least[0] };
    }
    this.#candidates.set(digest, count);
    if (this.#candidates.size > this.#limit * CANDIDATES) this.#candidates.delete(this.#candidates.keys().next().value!);
    return { isNamed: false, dropped: null };
  }
}

const faded = ({ uses, at }: Count, now: number): number => uses * 0.5 ** ((now - at) / HALF_LIFE_MS);
