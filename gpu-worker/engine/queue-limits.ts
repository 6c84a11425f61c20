/**
 * How many sequences may run or wait, in all and of one tenant. A tenant may hold as many places as it leaves free: one
 * alone gets half of them, two a third each, and whoever comes next always finds some.
 */
import { Failure } from '../../shared/errors.ts';

/** How long a client refused for a full queue should wait. */
const RETRY_SECONDS = 1;

export class QueueLimits {
  readonly #places: number;
  readonly #held = new Map<string, number>();
  #all = 0;

  /** `rows` run at once, and so many sequences of one tenant may wait besides. */
  constructor(rows: number, queue: number) {
    this.#places = 2 * (rows + queue);
  }

  /** Takes places for a request's sequences, or throws Failure. */
  take(tenant: string, sequences: number): void {
    const most = this.#places / 2;
    if (sequences > most)
      throw new Failure({ kind: 'invalid_request', message: `prompts times n: at most ${most}, got ${sequences}`, param: 'n' });
    const own = this.#held.get(tenant) ?? 0;
    const free = this.#places - this.#all;
    if (own + sequences > free - sequences)
      throw new Failure({
        kind: 'rate_limited',
        message: `the queue is full: ${this.#all} sequences run or wait, ${own} of them yours, and ${sequences} more would leave too few places for others`,
        retryAfterSeconds: RETRY_SECONDS,
      });
    this.#held.set(tenant, own + sequences);
    this.#all += sequences;
  }

  giveBack(tenant: string, sequences: number): void {
    this.#all -= sequences;
    const left = this.#held.get(tenant)! - sequences;
    if (left > 0) this.#held.set(tenant, left);
    else this.#held.delete(tenant);
  }
}
