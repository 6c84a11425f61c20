/**
 * Which adapters are resident on the host. A request pins what it uses; loading is single-flight by
 * digest, from disk, else from object storage; the least recently used unpinned adapters leave when
 * the budget is full.
 */
import type { Engine } from '../../shared/contract/engine.ts';
import { sealedKey } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { type DiskCache, sha256 } from '../storage/disk-cache.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/** Sealed bytes on their way in, outside the budget: so many fetches at most. */
const FETCHES = 4;
/** How long a load waits for room that running requests hold. */
const ROOM_WAIT_MS = 30_000;

interface Entry {
  bytes: number;
  pins: number;
  ready: Promise<void>;
}

export interface AdapterTierOptions {
  engine: Pick<Engine, 'load' | 'unload'>;
  disk: DiskCache;
  objects: ObjectStore;
  /** Sealed bytes that may be resident. */
  budget: number;
}

export class AdapterTier {
  readonly #options: AdapterTierOptions;
  /** In order of use: the first is the one used longest ago. */
  readonly #entries = new Map<string, Entry>();
  readonly #leaving = new Map<string, Promise<void>>();
  #bytes = 0;
  #fetching = 0;
  #waiting: (() => void)[] = [];

  constructor(options: AdapterTierOptions) {
    this.#options = options;
  }

  /** Resolves when all are resident; they stay so until the returned function is called. */
  async acquire(digests: string[]): Promise<() => void> {
    const pinned: Entry[] = [];
    const release = () => {
      for (const entry of pinned.splice(0)) entry.pins--;
      this.#wake();
    };
    try {
      for (const digest of new Set(digests)) {
        const entry = this.#pin(digest);
        pinned.push(entry);
        await entry.ready;
      }
    } catch (error) {
      release();
      throw error;
    }
    return release;
  }

  #pin(digest: string): Entry {
    const entry = this.#entries.get(digest) ?? { bytes: 0, pins: 0, ready: Promise.resolve() };
    const isNew = !this.#entries.delete(digest);
    this.#entries.set(digest, entry);
    entry.pins++;
    if (isNew) {
      entry.ready = this.#load(digest, entry).catch((error: unknown) => {
        this.#entries.delete(digest);
        this.#bytes -= entry.bytes;
        this.#wake();
        throw error;
      });
    }
    return entry;
  }

  async #load(digest: string, entry: Entry): Promise<void> {
    while (this.#fetching >= FETCHES) await this.#change();
    this.#fetching++;
    try {
      const { disk, engine } = this.#options;
      const cached = await disk.get(digest);
      const sealed = cached ?? (await this.#download(digest));
      await this.#takeRoom(sealed.length, digest, entry);
      await this.#leaving.get(digest);
      await Promise.all([engine.load(digest, sealed), cached ?? disk.put(digest, sealed)]);
    } finally {
      this.#fetching--;
      this.#wake();
    }
  }

  async #download(digest: string): Promise<Uint8Array> {
    const { objects, budget } = this.#options;
    const sealed = await objects.get(sealedKey(digest), budget);
    const got = sha256(sealed);
    if (got !== digest) {
      throw new Failure({ kind: 'internal', message: `load adapter ${digest}: the stored object has SHA-256 ${got}` });
    }
    return sealed;
  }

  async #takeRoom(bytes: number, digest: string, entry: Entry): Promise<void> {
    const deadline = AbortSignal.timeout(ROOM_WAIT_MS);
    while (this.#bytes + bytes > this.#options.budget) {
      const idle = [...this.#entries].find(([, entry]) => entry.pins === 0);
      if (idle) this.#evict(...idle);
      else if (deadline.aborted) {
        const message = `load adapter ${digest}: running requests hold the whole adapter memory of this worker`;
        throw new Failure({ kind: 'unavailable', message, retryAfterSeconds: 1 });
      } else await this.#change(deadline);
    }
    // In the same turn as the check, or two loads would take the same room.
    entry.bytes = bytes;
    this.#bytes += bytes;
  }

  #evict(digest: string, entry: Entry): void {
    this.#entries.delete(digest);
    this.#bytes -= entry.bytes;
    const gone = this.#options.engine.unload(digest).finally(() => this.#leaving.delete(digest));
    this.#leaving.set(digest, gone);
  }

  /** Resolves at the next release, or at the deadline. */
  #change(deadline?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      deadline?.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
