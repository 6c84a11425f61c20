/**
 * Speculation by prompt lookup: what followed the last time the text went like this is proposed to follow again. The
 * model checks the whole proposal in one step and keeps what it would have said anyway, so nothing but time changes.
 */

/** Tokens that must agree before anything is proposed. */
const LEAST_MATCH = 2;
/** Longer agreements are not told apart. */
const LONGEST_MATCH = 8;
/** How many earlier places are compared. */
const PLACES = 16;
export const LONGEST_DRAFT = 8;

/** Finds drafts in a growing sequence of tokens. */
export class PromptLookup {
  readonly #tokens: readonly number[];
  /** Ends of pairs: the last place where each pair occurred, and from each place the one before. */
  readonly #last = new Map<string, number>();
  readonly #before: number[] = [];
  #indexed = 1;

  /** `tokens` may grow, but must not change. */
  constructor(tokens: readonly number[]) {
    this.#tokens = tokens;
  }

  /** Up to `most` tokens that may come next. */
  draft(most: number): number[] {
    const end = this.#tokens.length - 1;
    if (end < LEAST_MATCH || most <= 0) return [];
    this.#index(end);
    let best = -1;
    let longest = LEAST_MATCH - 1;
    let place = this.#last.get(this.#pair(end));
    for (let i = 0; i < PLACES && place !== undefined && place >= 0 && longest < LONGEST_MATCH; i++) {
      const length = this.#agreement(place, end);
      if (length > longest) [best, longest] = [place, length];
      place = this.#before[place];
    }
    if (best < 0) return [];
    // Where the two overlap, the text repeats itself with this period.
    const period = end - best;
    return Array.from({ length: most }, (_, i) => this.#tokens[best + 1 + (i % period)]!);
  }

  /** Pairs that end before `end`. */
  #index(end: number): void {
    for (; this.#indexed < end; this.#indexed++) {
      const pair = this.#pair(this.#indexed);
      this.#before[this.#indexed] = this.#last.get(pair) ?? -1;
      this.#last.set(pair, this.#indexed);
    }
  }

  #pair(end: number): string {
    return `${this.#tokens[end - 1]} ${this.#tokens[end]}`;
  }

  #agreement(a: number, b: number): number {
    let n = 0;
    while (n < LONGEST_MATCH && a - n >= 0 && this.#tokens[a - n] === this.#tokens[b - n]) n++;
    return n;
  }
}

/** How often drafted tokens turn out right, lately. */
const FIRST_GUESS = 0.5;
const WEIGHT = 0.15;
/** Steps without a draft bring the estimate back towards the first guess, so that another try is made. */
const FORGETTING = 0.01;

export class Acceptance {
  #rate = FIRST_GUESS;

  /** A draft of `drafted` tokens of which the first `accepted` were right. */
  observe(drafted: number, accepted: number): void {
    for (let i = 0; i < Math.min(drafted, accepted + 1); i++) this.#rate += WEIGHT * (Number(i < accepted) - this.#rate);
    if (drafted === 0) this.#rate += FORGETTING * (FIRST_GUESS - this.#rate);
  }

  /**
   * The longest draft whose last token is still worth its time. Token i is right with probability rate^i; checking it
   * takes `tokenMs`, in which the step as it is would have brought `tokensPerMs` · `tokenMs` tokens.
   */
  length(tokensPerMs: number, tokenMs: number): number {
    const cost = tokensPerMs * tokenMs;
    let worth = this.#rate;
    let length = 0;
    while (length < LONGEST_DRAFT && worth > cost) {
      length++;
      worth *= this.#rate;
    }
    return length;
  }
}
