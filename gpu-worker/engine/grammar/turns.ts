/** One piece of work at a time, tenants in turn, so that one who brings much waits behind himself. */
import { Failure } from '../../../shared/errors.ts';

const RETRY_SECONDS = 1;

export class Turns {
  readonly #limit: number;
  /** In the order of their turns; a tenant with nothing waiting has none. */
  readonly #waiting = new Map<string, (() => Promise<void>)[]>();
  #working = false;

  /** `limit`: pieces of one tenant that may wait. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  take(tenant: string, work: () => Promise<void>): Promise<void> {
    const own = this.#waiting.get(tenant) ?? [];
    if (own.length >= this.#limit) {
      const message = `${own.length} grammars of this tenant wait to be compiled, at most ${this.#limit} may`;
      return Promise.reject(new Failure({ kind: 'rate_limited', message, retryAfterSeconds: RETRY_SECONDS }));
    }
    const done = Promise.withResolvers<void>();
    own.push(() => work().then(done.resolve, done.reject));
    this.#waiting.set(tenant, own);
    if (!this.#working) void this.#run();
    return done.promise;
  }

  async #run(): Promise<void> {
    this.#working = true;
    for (let [first] = this.#waiting; first; [first] = this.#waiting) {
      const [tenant, own] = first;
      const work = own.shift()!;
      this.#waiting.delete(tenant);
      // Behind those of others.
      if (own.length > 0) this.#waiting.set(tenant, own);
      await work();
    }
    this.#working = false;
  }
}
