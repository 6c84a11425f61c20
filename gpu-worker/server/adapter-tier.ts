/**
 * Which adapters are resident, and who waits for which.
 *
 *   object storage → disk ─(loader)→ resident ─(acquire)→ in use by running requests
 *
 * A request takes all of its adapters at once or none, so that those who wait hold nothing and running requests
 * always end: nobody waits in a circle. Loads are single-flight by digest and few at a time, those that a request
 * waits for before those that are only expected. Whoever has waited longest has what it needs kept for it and may
 * wait for room; others' loads that find no room stay on disk until it is their turn.
 */

import type { Engine } from '../../shared/contract/engine.ts';
import { Failure } from '../../shared/errors.ts';
import { GreedyDual } from '../adapters/greedy-dual.ts';
import type { LoadedImage } from '../adapters/loader.ts';

/** Images on their way in, outside the budget: so many at most. */
const LOADS = 4;
/** Requests that may wait for adapters. */
const MOST_WAITING = 512;
/** How long one waits, for its loads and for room that running requests hold. */
const WAIT_MS = 30_000;
/** After a request waited so long for room, adapters that are in use all the time get no new users before it is served. */
const STARVING_MS = 1_000;
/** Of the budget, for pinned adapters; what goes beyond is treated like any other. */
const PINNED_SHARE = 0.5;
/** A load from disk in milliseconds: 3, and 1 for each MB. */
const reloadMs = (bytes: number): number => 3 + bytes / 1_000_000;

interface Waiter {
  digests: readonly string[];
  resolve: (release: () => void) => void;
  reject: (error: unknown) => void;
  /** Forgets its timer and its client. */
  end: () => void;
}

interface Shortage {
  digest: string;
  bytes: number;
  since: number;
  /** False: it is no longer its turn. */
  end: (hasRoom: boolean) => void;
}

export interface TierObserver {
  /** A request found an adapter resident, or not. */
  asked(digest: string, isHit: boolean): void;
  loaded(source: LoadedImage['source'], seconds: number): void;
  evicted(): void;
}

export interface AdapterTierOptions {
  engine: Pick<Engine, 'load' | 'unload'>;
  images: { load(digest: string): Promise<LoadedImage> };
  /** Bytes of images that may be resident. */
  budget: number;
  observer: TierObserver;
}

export class AdapterTier {
  readonly #options: AdapterTierOptions;
  /** What is resident, or has its room reserved. */
  readonly #room = new GreedyDual();
  readonly #resident = new Set<string>();
  /** Running requests by adapter. */
  readonly #users = new Map<string, number>();
  #pinned: ReadonlySet<string> = new Set();
  readonly #leaving = new Map<string, Promise<void>>();
  /** Queued and running loads. */
  readonly #loads = new Set<string>();
  #urgent: string[] = [];
  #expected: string[] = [];
  #running = 0;
  /** Oldest first. */
  #waiting: Waiter[] = [];
  /** Loads of the longest waiting request that lack room: other loads leave them what comes free. */
  #short: Shortage[] = [];

  constructor(options: AdapterTierOptions) {
    this.#options = options;
  }

  get state(): { adapters: number; bytes: number; pinned: number; waiting: number } {
    const pinned = [...this.#pinned].filter((digest) => this.#resident.has(digest)).length;
    return { adapters: this.#resident.size, bytes: this.#room.bytes, pinned, waiting: this.#waiting.length };
  }

  /** Starts loads of what a request will need, before it is known when. */
  prefetch(digests: Iterable<string>): void {
    for (const digest of digests) this.#request(digest, this.#expected);
    this.#pump();
  }

  /** Resolves when all are resident; they stay so until the returned function is called. Null once the client has `left` while waiting. */
  acquire(digests: readonly string[], left: AbortSignal): Promise<(() => void) | null> {
    const wanted = [...new Set(digests)];
    for (const digest of wanted) this.#options.observer.asked(digest, this.#resident.has(digest));
    if (this.#mayGo(wanted)) return Promise.resolve(this.#take(wanted));
    if (this.#waiting.length >= MOST_WAITING) {
      const message = `generate: ${MOST_WAITING} requests wait for their adapters, no more may`;
      return Promise.reject(new Failure({ kind: 'rate_limited', message, retryAfterSeconds: 1 }));
    }
    return new Promise((resolve, reject) => {
      const quit = () => {
        this.#leave(waiter);
        resolve(null);
        this.#settle();
      };
      const timer = setTimeout(() => this.#giveUp(waiter), WAIT_MS);
      const end = () => {
        clearTimeout(timer);
        left.removeEventListener('abort', quit);
      };
      const waiter: Waiter = { digests: wanted, resolve, reject, end };
      if (left.aborted) return quit();
      left.addEventListener('abort', quit);
      this.#waiting.push(waiter);
      for (const digest of wanted) this.#request(digest, this.#urgent);
      this.#settle();
    });
  }

  /** Adapters that are loaded now and never leave while they are in this set. */
  pin(digests: ReadonlySet<string>): void {
    this.#pinned = digests;
    this.prefetch(digests);
    this.#settle();
  }

  #mayGo(digests: readonly string[]): boolean {
    const isStarving = this.#short.some(({ since }) => performance.now() - since > STARVING_MS);
    return !isStarving && digests.every((digest) => this.#resident.has(digest));
  }

  #take(digests: readonly string[]): () => void {
    for (const digest of digests) {
      this.#users.set(digest, (this.#users.get(digest) ?? 0) + 1);
      this.#room.use(digest);
    }
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      for (const digest of digests) {
        const users = this.#users.get(digest)! - 1;
        if (users === 0) this.#users.delete(digest);
        else this.#users.set(digest, users);
      }
      this.#settle();
    };
  }

  /** After any change: room that came free goes to the longest waiting, whoever is complete goes, and the next gets its loads. */
  #settle(): void {
    for (const shortage of [...this.#short]) {
      const hasRoom = this.#makeRoom(shortage.digest, shortage.bytes);
      if (!hasRoom && this.#isNext(shortage.digest)) continue;
      this.#short = this.#short.filter((other) => other !== shortage);
      shortage.end(hasRoom);
    }
    for (const waiter of this.#waiting.filter(({ digests }) => this.#mayGo(digests))) {
      this.#leave(waiter);
      waiter.resolve(this.#take(waiter.digests));
    }
    for (const digest of this.#waiting[0]?.digests ?? []) this.#request(digest, this.#urgent);
    this.#pump();
  }

  #leave(waiter: Waiter): void {
    waiter.end();
    this.#waiting = this.#waiting.filter((other) => other !== waiter);
  }

  #giveUp(waiter: Waiter): void {
    this.#leave(waiter);
    const missing = waiter.digests.find((digest) => !this.#resident.has(digest));
    const message = `load adapter ${missing}: not possible within ${WAIT_MS / 1000} s; running requests hold the adapter memory of this worker`;
    waiter.reject(new Failure({ kind: 'unavailable', message, retryAfterSeconds: 1 }));
    this.#settle();
  }

  #fail(digest: string, error: unknown): void {
    for (const waiter of this.#waiting.filter(({ digests }) => digests.includes(digest))) {
      this.#leave(waiter);
      waiter.reject(error);
    }
  }

  #request(digest: string, queue: string[]): void {
    if (this.#resident.has(digest)) return;
    if (this.#loads.has(digest)) {
      // Expected so far, and now waited for.
      const at = queue === this.#urgent ? this.#expected.indexOf(digest) : -1;
      if (at >= 0) this.#urgent.push(...this.#expected.splice(at, 1));
      return;
    }
    this.#loads.add(digest);
    queue.push(digest);
  }

  #pump(): void {
    while (this.#running < LOADS) {
      const digest = this.#urgent.shift() ?? this.#expected.shift();
      if (digest === undefined) return;
      this.#running++;
      this.#load(digest)
        .catch((error: unknown) => this.#fail(digest, error))
        .finally(() => {
          this.#running--;
          this.#loads.delete(digest);
          this.#settle();
        });
    }
  }

  async #load(digest: string): Promise<void> {
    const { images, engine, observer } = this.#options;
    const began = performance.now();
    const { image, source } = await images.load(digest);
    if (!(await this.#takeRoom(digest, image.byteLength))) {
      // Frees it now, not when it is collected.
      image.transfer(0);
      return;
    }
    try {
      await this.#leaving.get(digest);
      await engine.load(digest, image);
    } catch (error) {
      this.#room.remove(digest);
      throw error;
    }
    this.#resident.add(digest);
    observer.loaded(source, (performance.now() - began) / 1000);
  }

  /** False when there is no room and it is not the turn of those who need it. */
  async #takeRoom(digest: string, bytes: number): Promise<boolean> {
    if (this.#makeRoom(digest, bytes)) return true;
    if (!this.#isNext(digest)) return false;
    this.#checkFits(digest, bytes);
    return await new Promise<boolean>((end) => this.#short.push({ digest, bytes, since: performance.now(), end }));
  }

  #isNext = (digest: string): boolean => this.#waiting[0]?.digests.includes(digest) ?? false;

  /** Refuses what no waiting could make fit: the request's own adapters beside the pinned ones. */
  #checkFits(digest: string, bytes: number): void {
    const beside = this.#kept();
    beside.delete(digest);
    const needed = [...beside].reduce((sum, other) => sum + this.#room.bytesOf(other), bytes);
    const { budget } = this.#options;
    if (needed <= budget) return;
    const message = `load adapter ${digest}: with what must stay beside it ${needed} bytes are needed, this worker's adapter memory has ${budget}`;
    throw new Failure({ kind: 'invalid_request', message, param: 'model' });
  }

  /** Never evicted: what the longest waiting needs, and pinned adapters as far as their share of the budget goes. */
  #kept(): Set<string> {
    const kept = new Set(this.#waiting[0]?.digests);
    let left = this.#options.budget * PINNED_SHARE;
    for (const digest of this.#pinned) {
      left -= this.#room.bytesOf(digest);
      if (left < 0) break;
      kept.add(digest);
    }
    return kept;
  }

  /**
   * Reserves room, evicting what is in its way. Whoever is next takes it bit by bit as it comes free; others take all
   * of it or nothing, and nothing at all while the next is short.
   */
  #makeRoom(digest: string, bytes: number): boolean {
    const { budget } = this.#options;
    const isNext = this.#isNext(digest);
    if (this.#short.length > 0 && !isNext) return false;
    const kept = this.#kept();
    const isFree = (other: string) => this.#resident.has(other) && !this.#users.has(other) && !kept.has(other);
    const missing = this.#room.bytes + bytes - budget;
    if (missing > 0 && !isNext) {
      const free = [...this.#resident].filter(isFree).reduce((sum, other) => sum + this.#room.bytesOf(other), 0);
      if (free < missing) return false;
    }
    const wanted = new Set(this.#waiting.flatMap(({ digests }) => digests));
    while (this.#room.bytes + bytes > budget) {
      // What others wait for goes last: they would only load it again.
      const victim = this.#room.evict((other) => isFree(other) && !wanted.has(other)) ?? this.#room.evict(isFree);
      if (victim === null) return false;
      this.#unload(victim);
    }
    this.#room.add(digest, bytes, reloadMs(bytes));
    return true;
  }

  #unload(digest: string): void {
    const { engine, observer } = this.#options;
    this.#resident.delete(digest);
    observer.evicted();
    const gone = engine.unload(digest).finally(() => this.#leaving.delete(digest));
    this.#leaving.set(digest, gone);
    // Whoever loads it again is told; an engine that is gone fails every request anyway.
    gone.catch(() => undefined);
  }
}
