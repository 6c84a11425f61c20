/** Stop strings over a growing text: text that could still become one is held back, and the first match ends it. */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = '';

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Adds text; returns what may be shown. `hit`: a stop string was completed, and everything from it on is dropped. */
  push(text: string): { text: string; hit: boolean } {
    if (this.#stops.length === 0) return { text, hit: false };
    const all = this.#held + text;
    const match = firstComplete(all, this.#stops);
    if (match) {
      this.#held = '';
      return { text: all.slice(0, match.start), hit: true };
    }
    const keep = Math.max(...this.#stops.map((stop) => overlap(all, stop)));
    this.#held = all.slice(all.length - keep);
    return { text: all.slice(0, all.length - keep), hit: false };
  }

  /** What was held back; the text has ended. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

/** The stop string that is complete first (of those complete at one place, the longest): the same however the text was cut. */
function firstComplete(text: string, stops: readonly string[]): { start: number; end: number } | null {
  let first: { start: number; end: number } | null = null;
  for (const stop of stops) {
    const start = text.indexOf(stop);
    const end = start + stop.length;
    if (start >= 0 && (!first || end < first.end || (end === first.end && start < first.start))) first = { start, end };
  }
  return first;
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n--) if (text.endsWith(stop.slice(0, n))) return n;
  return 0;
}
