/**
 * The main thread's end of the grammar threads. A grammar of a request is first compiled in a thread that may be killed
 * when it takes too long; only then one of two others compiles it to serve it: grammars that compile quickly in the
 * first, slow ones in the second, so that ordinary ones never wait long for any other. Tenants take turns.
 *
 *     prepare ─▶ trial ─▶ quick or slow        engine ─ states ─▶ quick ─ what it has not compiled ─▶ slow
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { Grammar } from '../../../shared/contract/engine.ts';
import { Failure } from '../../../shared/errors.ts';
import type { FromGrammarThread, GrammarError, GrammarThreadSettings, ToGrammarThread } from './protocol.ts';
import { keyOf } from './protocol.ts';
import { Turns } from './turns.ts';
import type { Vocabulary } from './vocabulary.ts';

/** For compiling on a busy machine; ordinary schemas take a hundredth of it. */
const LIMIT_MS = 10_000;
/** What rows of other grammars may be held up by. */
const QUICK_MS = 100;
/** Grammars known to compile; at most as many as a thread keeps. */
const KNOWN = 64;
/** Grammars of one tenant that wait to be compiled: he waits behind himself only, and a full batch may have one a row. */
const WAITING = 64;

type Compiled = Extract<FromGrammarThread, { type: 'compiled' }>;

export class Grammars {
  /** For GrammarStates in the engine thread, to be moved there. */
  readonly port: MessagePort;
  readonly #settings: GrammarThreadSettings;
  readonly #onError: (error: Error) => void;
  readonly #statesPort: MessagePort;
  readonly #turns = new Turns(WAITING);
  readonly #known = new Set<string>();
  readonly #preparing = new Map<string, Promise<void>>();
  #trial: GrammarThread | null = null;
  #serving: { quick: GrammarThread; slow: GrammarThread } | null = null;

  /** `onError`: a thread that serves broke, and with it every answer that follows a grammar. */
  constructor({ basePath }: { basePath: string }, onError: (error: Error) => void) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.#statesPort = port2;
    this.#settings = { basePath, vocabulary: null };
    this.#onError = onError;
  }

  /** Compiles the grammar unless that was done lately. Throws Failure with `param` response_format or tools if it cannot be honoured. */
  prepare(grammar: Grammar, tenant: string): Promise<void> {
    const key = keyOf(grammar);
    if (this.#known.has(key)) {
      this.#remember(key);
      return Promise.resolve();
    }
    const running = this.#preparing.get(key);
    if (running) return running;
    const preparing = this.#turns.take(tenant, () => this.#prepare(grammar)).then(() => this.#remember(key));
    const forget = () => void this.#preparing.delete(key);
    preparing.then(forget, forget);
    this.#preparing.set(key, preparing);
    return preparing;
  }

  async #prepare(grammar: Grammar): Promise<void> {
    // What breaks in a trial is the answer to the trial.
    this.#trial ??= new GrammarThread(this.#settings, () => undefined);
    const { error, milliseconds } = await this.#trial.compile(grammar, LIMIT_MS);
    this.#settings.vocabulary ??= await this.#trial.vocabulary;
    if (error?.kind === 'broken') {
      await this.#trial.close();
      this.#trial = null;
    }
    if (error) throw failureOf(grammar, error);
    const { quick, slow } = this.#serve();
    const served = await (milliseconds <= QUICK_MS ? quick : slow).compile(grammar, null);
    if (served.error) throw new Error(`compile a grammar for the second time: ${served.error.message}`);
  }

  #serve(): { quick: GrammarThread; slow: GrammarThread } {
    if (this.#serving) return this.#serving;
    const [quick, slow] = [new GrammarThread(this.#settings, this.#onError), new GrammarThread(this.#settings, this.#onError)];
    const { port1, port2 } = new MessageChannel();
    slow.send({ type: 'serve', port: port2 }, [port2]);
    quick.send({ type: 'pass on', port: port1 }, [port1]);
    quick.send({ type: 'serve', port: this.#statesPort }, [this.#statesPort]);
    this.#serving = { quick, slow };
    return this.#serving;
  }

  #remember(key: string): void {
    this.#known.delete(key);
    this.#known.add(key);
    const [oldest] = this.#known;
    if (this.#known.size > KNOWN) this.#known.delete(oldest!);
  }

  async close(): Promise<void> {
    const threads = [this.#trial, this.#serving?.quick, this.#serving?.slow];
    await Promise.all(threads.map((thread) => thread?.close()));
    this.#statesPort.close();
  }
}

function failureOf(grammar: Grammar, { kind, message }: GrammarError): Failure {
  const param = grammar.kind === 'structural_tag' ? 'tools' : 'response_format';
  if (kind === 'unsupported') return new Failure({ kind, message: `${param}: ${message}`, param });
  return new Failure({ kind: 'invalid_request', message: `${param}: ${message}`, param });
}

/** A grammar thread and the calls that it has yet to answer. */
class GrammarThread {
  readonly #worker: Worker;
  readonly #ready = Promise.withResolvers<Vocabulary | null>();
  readonly #calls = new Map<number, (answer: Compiled) => void>();
  readonly #onError: (error: Error) => void;
  #call = 0;
  #failure: string | null = null;

  constructor(settings: GrammarThreadSettings, onError: (error: Error) => void) {
    this.#onError = onError;
    this.#worker = new Worker(new URL('./thread.ts', import.meta.url), { workerData: settings });
    this.#worker.on('message', (message: FromGrammarThread) => this.#receive(message));
    this.#worker.on('error', (error: unknown) => this.#break(error instanceof Error ? error : new Error(String(error))));
    this.#worker.on('exit', () => this.#break(new Error('a grammar thread ended')));
  }

  /** null: the thread did not come so far. */
  get vocabulary(): Promise<Vocabulary | null> {
    return this.#ready.promise;
  }

  send(message: ToGrammarThread, moved: MessagePort[] = []): void {
    this.#worker.postMessage(message, moved);
  }

  /** Answers 'broken' after `limit` milliseconds; null: waits for as long as it takes. */
  async compile(grammar: Grammar, limit: number | null): Promise<Compiled> {
    await this.#ready.promise;
    if (this.#failure !== null) return brokenAnswer(this.#failure);
    const call = ++this.#call;
    const answered = Promise.withResolvers<Compiled>();
    this.#calls.set(call, answered.resolve);
    this.send({ type: 'compile', call, grammar });
    const late = () => this.#answerAll(`too complex: it takes more than ${Number(limit) / 1000} s to compile`);
    const timer = limit === null ? undefined : setTimeout(late, limit);
    try {
      return await answered.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    this.#failure ??= 'the grammar threads were closed';
    await this.#worker.terminate();
  }

  #receive(message: FromGrammarThread): void {
    switch (message.type) {
      case 'ready':
        this.#ready.resolve(message.vocabulary);
        break;
      case 'compiled':
        this.#calls.get(message.call)?.(message);
        this.#calls.delete(message.call);
        break;
      default:
        message satisfies never;
    }
  }

  #break(error: Error): void {
    const expected = this.#failure !== null;
    this.#failure ??= error.message;
    this.#ready.resolve(null);
    this.#answerAll(this.#failure);
    if (!expected) this.#onError(error);
  }

  #answerAll(message: string): void {
    for (const answer of this.#calls.values()) answer(brokenAnswer(message));
    this.#calls.clear();
  }
}

const brokenAnswer = (message: string): Compiled => ({ type: 'compiled', call: 0, milliseconds: 0, error: { kind: 'broken', message } });
