/** The main thread's end of the loader. A thread that dies is replaced at the next call. */
import { Worker } from 'node:worker_threads';
import { Failure } from '../../shared/errors.ts';
import type { DiskState, FromLoader, ImageSource, LoaderSettings, ToLoader } from './protocol.ts';

export interface LoadedImage {
  image: ArrayBuffer;
  source: ImageSource;
}

type Answer = Extract<FromLoader, { call: number }>;
type Question = { type: 'load'; digest: string } | { type: 'store'; digest: string; sealed: Uint8Array };

export class ImageLoader {
  readonly #settings: LoaderSettings;
  readonly #warn: (message: string) => void;
  readonly #calls = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  #thread: Worker | null = null;
  #call = 0;
  disk: DiskState = { images: 0, bytes: 0, evictions: 0, damaged: 0 };

  constructor(settings: LoaderSettings, warn: (message: string) => void) {
    this.#settings = settings;
    this.#warn = warn;
    this.#thread = this.#start();
  }

  /** Throws Failure 'not_found' when object storage has neither image nor sealed form. */
  async load(digest: string): Promise<LoadedImage> {
    const answer = await this.#ask({ type: 'load', digest });
    if (answer.type !== 'loaded') throw new Error(`load adapter ${digest}: the loader answered ${answer.type}`);
    return { image: answer.image, source: answer.source };
  }

  /** Makes and stores the image of a sealed adapter before its first use. */
  async store(digest: string, sealed: Uint8Array): Promise<void> {
    await this.#ask({ type: 'store', digest, sealed });
  }

  async close(): Promise<void> {
    await this.#thread?.terminate();
  }

  async #ask(question: Question): Promise<Answer> {
    const call = this.#call++;
    const answer = await new Promise<Answer>((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#thread ??= this.#start();
      this.#thread.postMessage({ ...question, call } satisfies ToLoader);
    });
    if (answer.type === 'failed') throw new Failure(answer.failure);
    return answer;
  }

  #start(): Worker {
    const thread = new Worker(new URL('./loader-thread.ts', import.meta.url), { workerData: this.#settings });
    thread.on('message', (message: FromLoader) => {
      if ('disk' in message) this.disk = message.disk;
      if (message.type === 'warning') this.#warn(message.message);
      if (!('call' in message)) return;
      this.#calls.get(message.call)?.resolve(message);
      this.#calls.delete(message.call);
    });
    const onDeath = (why: unknown) => {
      if (this.#thread !== thread) return;
      this.#thread = null;
      const failure = new Failure({ kind: 'internal', message: `load adapter: the loader's thread died: ${String(why)}` });
      for (const { reject } of this.#calls.values()) reject(failure);
      this.#calls.clear();
    };
    thread.on('error', onDeath).on('exit', onDeath);
    return thread;
  }
}
