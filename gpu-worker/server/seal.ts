/**
 * POST /seal: an uploaded package becomes its one served form. Sealing computes, so it has a thread
 * of its own: streams go on meanwhile. Its image for this base and precision is made at once.
 */
import type { ServerResponse } from 'node:http';
import { Worker } from 'node:worker_threads';
import type { BaseModules } from '../../shared/adapters/base.ts';
import { SealRequest, SealResult, sealedKey } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { parseJson, sendJson } from './http.ts';
import type { SealAnswer, SealQuestion } from './seal-thread.ts';

/** All files of a package together: what one upload can hold. */
const PACKAGE_LIMIT = 100_000_000;

/** One thread, started with the first package; packages are sealed one after the other. */
export class Sealer {
  readonly #base: BaseModules;
  #thread: Worker | null = null;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(base: BaseModules) {
    this.#base = base;
  }

  /** `fetch` is called when it is the package's turn, so that one at a time is in memory. */
  seal(fetch: () => Promise<SealQuestion['files']>): Promise<Extract<SealAnswer, { ok: true }>> {
    const answer = this.#queue.then(async () => this.#ask({ files: await fetch() }));
    this.#queue = answer.catch(() => {});
    return answer;
  }

  #ask(question: SealQuestion): Promise<Extract<SealAnswer, { ok: true }>> {
    this.#thread ??= new Worker(new URL('./seal-thread.ts', import.meta.url), { workerData: this.#base });
    const thread = this.#thread;
    return new Promise((resolve, reject) => {
      const settle = () => {
        thread.off('message', onMessage).off('error', onDeath).off('exit', onDeath);
      };
      const onMessage = (answer: SealAnswer) => {
        settle();
        if (answer.ok) resolve(answer);
        else reject(new Failure(answer.failure));
      };
      const onDeath = (why: unknown) => {
        settle();
        this.#thread = null;
        reject(new Failure({ kind: 'internal', message: `seal: the sealing thread died: ${String(why)}` }));
      };
      thread.on('message', onMessage).on('error', onDeath).on('exit', onDeath);
      // A package's bytes lie in buffers of its own: they move instead of being copied.
      thread.postMessage(
        question,
        question.files.map(({ bytes }) => bytes.buffer as ArrayBuffer),
      );
    });
  }

  async close(): Promise<void> {
    await this.#thread?.terminate();
  }
}

/** Stores the image of a sealed adapter, so that its first use computes nothing. */
type StoreImage = (digest: string, sealed: Uint8Array) => Promise<void>;

export function sealHandler(sealer: Sealer, base: BaseModules, objects: ObjectStore, storeImage: StoreImage) {
  return async function seal(body: Uint8Array, response: ServerResponse): Promise<void> {
    const request = parseJson(SealRequest, body, 'seal');
    if (request.base !== base.id) {
      throw new Failure({ kind: 'unavailable', message: `seal: this worker serves ${base.id}, not ${request.base}`, retryAfterSeconds: 1 });
    }
    const total = request.files.reduce((sum, { bytes }) => sum + bytes, 0);
    if (total > PACKAGE_LIMIT) {
      throw new Failure({ kind: 'too_large', message: `seal: expected at most ${PACKAGE_LIMIT} bytes in a package, got ${total}` });
    }
    const file = async ({ name, key, bytes }: SealRequest['files'][number]) => {
      // A copy, since a small object may share its memory with others.
      const content = Uint8Array.from(await objects.get(key, bytes));
      if (content.length === bytes) return { name, bytes: content };
      throw new Failure({ kind: 'upstream', message: `seal: ${name} should have ${bytes} bytes, object ${key} has ${content.length}` });
    };
    const { digest, bytes, card } = await sealer.seal(() => Promise.all(request.files.map(file)));
    const key = sealedKey(digest);
    await Promise.all([objects.put(key, bytes), storeImage(digest, bytes)]);
    sendJson(response, SealResult.parse({ digest, bytes: bytes.length, key, card }));
  };
}
