/** The main thread's end of the engine: starts its thread and turns messages into calls and callbacks. */
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import type { EmbeddingEvent, Engine, EngineEvent, EngineRequest, EngineStats, EngineWork, Grammar } from '../../shared/contract/engine.ts';
import type { BaseInfo, Task } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { parsePrecision } from '../models/precisions.ts';
import { openCheckpoint } from '../models/source/checkpoint.ts';
import { Grammars } from './grammar/grammars.ts';
import type { AnyEvent, EngineSettings, EngineStart, FromEngine, ToEngine } from './protocol.ts';
import { QueueLimits } from './queue-limits.ts';

export interface EngineOptions {
  basePath: string;
  /** fp32, int8 or auto. */
  precision: string;
  /** Root of state; served weights are cached under <home>/cache/bases. */
  home: string;
  journalPath: string;
  threads?: number;
  /** Sequences that run side by side. */
  rows?: number | undefined;
  /** Tokens of one sequence; the limits of the base and of the memory for keys and values hold as well. */
  context?: number;
  /** Sequences of one tenant that may wait beyond those that run. */
  queue?: number;
  /** Bytes for keys and values. */
  kvBytes?: number | undefined;
  /** How long a step may take while others wait for their next token, in milliseconds. */
  stepMs?: number | undefined;
  /** Whether text that repeats itself is drafted ahead where that pays. */
  speculation?: boolean;
}

const DEFAULT_ROWS = 32;
/** Texts of an encoder are quickly done, and one request has many. */
const DEFAULT_QUEUE: Record<Task, number> = { generate: 512, embed: 4096 };
const DEFAULT_STEP_MS = 40;
/** Share of the machine's memory for keys and values. */
const KV_SHARE = 0.25;

interface Outstanding {
  request: EngineWork;
  sequences: number;
  onEvents: (events: AnyEvent[]) => void;
}

export async function openEngine(options: EngineOptions): Promise<Engine> {
  // A base that cannot be opened is refused here: an error that leaves a thread has lost its kind.
  await openCheckpoint(options.basePath);
  const rows = options.rows ?? DEFAULT_ROWS;
  const settings: EngineSettings = {
    basePath: options.basePath,
    precision: parsePrecision(options.precision),
    cacheFolder: path.join(options.home, 'cache', 'bases'),
    journalPath: options.journalPath,
    threads: options.threads ?? availableParallelism(),
    rows,
    kvBytes: options.kvBytes ?? totalmem() * KV_SHARE,
    context: options.context ?? null,
    stepMs: options.stepMs ?? DEFAULT_STEP_MS,
    speculation: options.speculation ?? true,
  };
  const grammarsBroke = Promise.withResolvers<Error>();
  const grammars = new Grammars({ basePath: options.basePath }, grammarsBroke.resolve);
  const { port } = grammars;
  const thread = new Worker(new URL('./thread.ts', import.meta.url), {
    workerData: { settings, grammars: port } satisfies EngineStart,
    transferList: [port],
  });
  const { base } = await new Promise<Extract<FromEngine, { type: 'ready' }>>((resolve, reject) => {
    thread.once('error', reject);
    thread.once('message', (message: FromEngine) => {
      thread.removeListener('error', reject);
      if (message.type === 'ready') resolve(message);
      else reject(new Error(`engine thread: expected it to be ready first, got ${message.type}`));
    });
  }).catch(async (cause: unknown) => {
    await Promise.all([thread.terminate(), grammars.close()]);
    throw cause;
  });
  const client = new EngineClient(base, new QueueLimits(rows, options.queue ?? DEFAULT_QUEUE[base.task]), thread, grammars);
  void grammarsBroke.promise.then((error) => client.break(error));
  return client;
}

class EngineClient implements Engine {
  readonly base: BaseInfo;
  readonly #queue: QueueLimits;
  readonly #thread: Worker;
  readonly #grammars: Grammars;
  readonly #outstanding = new Map<string, Outstanding>();
  readonly #calls = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  readonly #resident = new Map<string, Promise<void>>();
  /** Adapters that the engine thread has. */
  readonly #loaded = new Set<string>();
  /** How many running requests hold each adapter. */
  readonly #held = new Map<string, number>();
  #call = 0;
  #broken: Error | null = null;

  constructor(base: BaseInfo, queue: QueueLimits, thread: Worker, grammars: Grammars) {
    this.base = base;
    this.#queue = queue;
    this.#thread = thread;
    this.#grammars = grammars;
    thread.on('message', (message: FromEngine) => this.#receive(message));
    thread.on('error', (error: unknown) => this.break(error instanceof Error ? error : new Error(String(error))));
    thread.on('exit', () => this.break(new Error('the engine was closed')));
  }

  load(digest: string, image: ArrayBuffer): Promise<void> {
    const known = this.#resident.get(digest);
    if (known) return known;
    const loading = this.#load(digest, image);
    this.#resident.set(digest, loading);
    loading.catch(() => this.#resident.delete(digest));
    return loading;
  }

  async #load(digest: string, image: ArrayBuffer): Promise<void> {
    await this.#ask((call) => this.#send({ type: 'add', call, digest, image }, [image]));
    this.#loaded.add(digest);
  }

  isResident(digest: string): boolean {
    return this.#loaded.has(digest);
  }

  async unload(digest: string): Promise<void> {
    if (this.#held.has(digest)) throw new Error(`unload adapter ${digest}: a request is using it`);
    const loading = this.#resident.get(digest);
    if (!loading) return;
    await loading.catch(() => undefined);
    if (!this.#resident.delete(digest)) return;
    this.#loaded.delete(digest);
    await this.#ask((call) => this.#send({ type: 'remove', call, digest }));
  }

  async prepareGrammar(grammar: Grammar, tenant: string): Promise<void> {
    if (!this.base.has_tokenizer) {
      const message = `generate with ${this.base.id}: this base has no tokenizer, so there is no text to hold to a grammar`;
      throw new Failure({ kind: 'unsupported', message, param: 'response_format' });
    }
    await this.#grammars.prepare(grammar, tenant);
  }

  submit(request: EngineRequest, onEvents: (events: EngineEvent[]) => void): { cancel(): void } {
    this.#check('generate', request);
    this.#checkLengths(request);
    if (request.grammar && request.sampling.ignoreEos) {
      const message = 'ignore_eos: an answer that is held to a format or to tools ends where its grammar does';
      throw new Failure({ kind: 'invalid_request', message, param: 'ignore_eos' });
    }
    this.#begin({ type: 'submit', request }, request.n, onEvents as Outstanding['onEvents']);
    return { cancel: () => this.#send({ type: 'cancel', id: request.id }) };
  }

  embed(request: EngineWork, onEvents: (events: EmbeddingEvent[]) => void): { cancel(): void } {
    this.#check('embed', request);
    const context = this.base.context_length;
    const long = request.prompts.find(({ length }) => length > context);
    if (long) {
      const message = `This model's maximum context length is ${context} tokens; the input has ${long.length}`;
      throw new Failure({ kind: 'invalid_request', message, param: 'input', code: 'context_length_exceeded' });
    }
    this.#begin({ type: 'embed', request }, 1, onEvents as Outstanding['onEvents']);
    return { cancel: () => this.#send({ type: 'cancel', id: request.id }) };
  }

  #begin(message: Extract<ToEngine, { type: 'submit' | 'embed' }>, n: number, onEvents: Outstanding['onEvents']): void {
    const { request } = message;
    const sequences = request.prompts.length * n;
    this.#queue.take(request.account.tenant, sequences);
    this.#outstanding.set(request.id, { request, sequences, onEvents });
    for (const { digest } of request.adapters) this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1);
    this.#send(message);
  }

  #check(task: Task, { prompts, adapters }: EngineWork): void {
    if (this.#broken) throw new Failure({ kind: 'internal', message: `${task}: the engine is not running: ${this.#broken.message}` });
    const { id, vocab_size, task: served } = this.base;
    if (served !== task) throw new Failure({ kind: 'unsupported', message: `${task} with ${id}: this base does not`, param: 'model' });
    const param = task === 'embed' ? 'input' : 'prompt';
    const refuse = (message: string) => new Failure({ kind: 'invalid_request', message: `${param}: ${message}`, param });
    for (const prompt of prompts) {
      if (prompt.length === 0) throw refuse('expected at least one token, got none');
      const foreign = prompt.find((token) => token >= vocab_size);
      if (foreign !== undefined) throw refuse(`token ids are below ${vocab_size}, got ${foreign}`);
    }
    for (const { digest } of adapters)
      if (!this.#loaded.has(digest)) throw new Failure({ kind: 'internal', message: `${task}: adapter ${digest} is not resident` });
  }

  #checkLengths({ prompts, sampling }: EngineRequest): void {
    const { context_length: context } = this.base;
    for (const prompt of prompts) {
      const asked = sampling.maxTokens ?? 0;
      const atLeast = sampling.maxTokens === null ? 1 : 0;
      if (prompt.length + Math.max(asked, atLeast) > context) {
        const message = `This model's maximum context length is ${context} tokens; the request has ${prompt.length} in the prompt and asks for ${sampling.maxTokens ?? 'at least 1'} in the completion`;
        throw new Failure({ kind: 'invalid_request', message, param: 'messages', code: 'context_length_exceeded' });
      }
    }
  }

  stats(): Promise<EngineStats> {
    return this.#ask((call) => this.#send({ type: 'stats', call }));
  }

  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.#thread.once('exit', resolve));
    this.#send({ type: 'close' });
    await Promise.all([exited, this.#grammars.close()]);
  }

  #send(message: ToEngine, handedOver: ArrayBuffer[] = []): void {
    this.#thread.postMessage(message, handedOver);
  }

  #ask<T>(post: (call: number) => void): Promise<T> {
    if (this.#broken) return Promise.reject(this.#broken);
    const call = ++this.#call;
    return new Promise<T>((resolve, reject) => {
      this.#calls.set(call, { resolve: resolve as (value: never) => void, reject });
      post(call);
    });
  }

  #settle(call: number, how: (call: { resolve: (value: never) => void; reject: (error: Error) => void }) => void): void {
    const waiting = this.#calls.get(call);
    this.#calls.delete(call);
    if (waiting) how(waiting);
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case 'events':
        for (const [id, events] of message.batches) this.#deliver(id, events);
        break;
      case 'done':
        this.#settle(message.call, (call) => call.resolve(undefined as never));
        break;
      case 'stats':
        this.#settle(message.call, (call) => call.resolve(message.stats as never));
        break;
      case 'ready':
        break;
      default:
        message satisfies never;
    }
  }

  #deliver(id: string, events: AnyEvent[]): void {
    const outstanding = this.#outstanding.get(id);
    if (!outstanding) return;
    if (events.at(-1)?.type === 'done') {
      this.#outstanding.delete(id);
      this.#queue.giveBack(outstanding.request.account.tenant, outstanding.sequences);
      for (const { digest } of outstanding.request.adapters) {
        const held = this.#held.get(digest)! - 1;
        if (held > 0) this.#held.set(digest, held);
        else this.#held.delete(digest);
      }
    }
    outstanding.onEvents(events);
  }

  /** A thread has failed: nothing is accepted any more, and what runs ends as failed. */
  break(error: Error): void {
    if (this.#broken) return;
    this.#broken = error;
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
    for (const id of [...this.#outstanding.keys()])
      this.#deliver(id, [
        { type: 'done', usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }, outcome: 'failed', error: error.message },
      ]);
  }
}
