/**
 * The engine over an encoder: whole texts side by side, each of which becomes one vector. A step is a transaction as in
 * core.ts: plan, execute, commit. Nothing of a text outlives its step, so pages are taken for a step and given back.
 *
 * A text's vector is the same bits whatever else is in the run.
 */
import type { EmbeddingEvent, EngineWork } from '../../shared/contract/engine.ts';
import type { Pooling } from '../models/family.ts';
import type { UsageJournal } from './journal.ts';
import { Meters } from './meters.ts';
import type { Model, RowAdapter } from './model.ts';
import { type PagePool, pagesFor } from './pages.ts';
import { pooled } from './pooling.ts';
import { type Schedulable, Scheduler } from './scheduler.ts';
import { COST } from './tenants.ts';

/** Tokens that fill the machine; a text that is longer has a step of its own. */
const STEP_TOKENS = 512;

/** Pages that one step can need. */
export const encoderPages = (rows: number, context: number): number => pagesFor(Math.max(STEP_TOKENS, context)) + rows;

export interface EncoderParts {
  model: Model;
  /** Of at least `encoderPages`. */
  pool: PagePool;
  /** Texts of one step. */
  rows: number;
  pooling: Pooling;
  /** The resident adapter of that digest, as rows use it; throws when there is none. */
  adapterTable(digest: string): bigint;
  journal: UsageJournal;
  baseRevision: string;
  /** Milliseconds since the epoch, never going back. */
  now(): number;
  /** Receives each step's events, grouped by request, after the journal was written. */
  emit(batches: [string, EmbeddingEvent[]][]): void;
}

interface Running {
  request: EngineWork;
  submitted: number;
  /** When its first text was taken up. */
  begun: number | null;
  /** Texts without a vector yet. */
  open: number;
  ending: 'cancelled' | 'expired' | null;
  promptTokens: number;
}

class Text implements Schedulable {
  readonly of: Running;
  readonly index: number;

  constructor(of: Running, index: number) {
    this.of = of;
    this.index = index;
  }

  get tokens(): readonly number[] {
    return this.of.request.prompts[this.index]!;
  }

  get tenant(): string {
    return this.of.request.account.tenant;
  }

  get weight(): number {
    return this.of.request.tenantWeight;
  }

  get priority(): EngineWork['priority'] {
    return this.of.request.priority;
  }

  get arrived(): number {
    return this.of.submitted;
  }
}

export class EncoderCore {
  readonly meters = new Meters();
  readonly #parts: EncoderParts;
  readonly #scheduler = new Scheduler<Text>();
  readonly #requests = new Map<string, Running>();
  readonly #events = new Map<string, EmbeddingEvent[]>();

  constructor(parts: EncoderParts) {
    this.#parts = parts;
  }

  /** Between two steps no text is half done. */
  readonly active = 0;
  readonly prefilling = 0;

  get queued(): { all: number; batch: number } {
    const batch = this.#scheduler.waiting('batch');
    return { all: batch + this.#scheduler.waiting('interactive'), batch };
  }

  get idle(): boolean {
    return this.#requests.size === 0 && this.#events.size === 0;
  }

  submit(request: EngineWork): void {
    const open = request.prompts.length;
    const running: Running = { request, submitted: this.#parts.now(), begun: null, open, ending: null, promptTokens: 0 };
    this.#requests.set(request.id, running);
    for (let i = 0; i < open; i++) this.#scheduler.add(new Text(running, i));
    this.#parts.journal.start(request, this.#parts.baseRevision);
  }

  cancel(id: string): void {
    const running = this.#requests.get(id);
    if (running) running.ending ??= 'cancelled';
  }

  /** Returns whether a request is done. */
  step(): boolean {
    const began = this.#parts.now();
    const open = this.#requests.size;
    this.#dropEnded(began);
    const texts = this.#plan(began);
    if (texts.length > 0) this.#execute(texts, began);
    this.#flush();
    return this.#requests.size < open;
  }

  #dropEnded(now: number): void {
    for (const running of this.#requests.values()) {
      const { deadline } = running.request;
      if (running.begun === null && deadline !== null && deadline < now) running.ending ??= 'expired';
    }
    if (![...this.#requests.values()].some(({ ending }) => ending)) return;
    for (const text of [...this.#scheduler.allWaiting()]) if (text.of.ending) this.#end(text);
  }

  #plan(now: number): Text[] {
    const texts: Text[] = [];
    for (let left = STEP_TOKENS; texts.length < this.#parts.rows; ) {
      const next = this.#scheduler.next(now, () => true);
      if (!next || (texts.length > 0 && next.tokens.length > left)) break;
      this.#scheduler.start(next, now);
      this.#scheduler.tenants.charge(next.tenant, next.tokens.length * COST.prompt);
      next.of.begun ??= now;
      left -= next.tokens.length;
      texts.push(next);
    }
    return texts;
  }

  #execute(texts: readonly Text[], began: number): void {
    const { model, pool, pooling } = this.#parts;
    const rows = texts.map(({ of, tokens }) => ({
      tokens,
      past: 0,
      pages: Array.from({ length: pagesFor(tokens.length) }, () => pool.take()!),
      adapters: of.request.adapters.map(({ digest, weight }): RowAdapter => ({ table: this.#parts.adapterTable(digest), weight })),
      wanted: tokens.length,
    }));
    const states = model.run(rows);
    for (const { pages } of rows) for (const page of pages) pool.release(page);
    let at = 0;
    for (const text of texts) {
      const count = text.tokens.length;
      this.#commit(text, pooled(states.slice(at, at + count), pooling));
      at += count;
    }
    this.meters.step(rows.length, this.#parts.now() - began);
  }

  #commit(text: Text, values: Float32Array<ArrayBuffer>): void {
    const { of, index, tokens } = text;
    of.promptTokens += tokens.length;
    this.meters.tokens += tokens.length;
    this.meters.prefilledTokens += tokens.length;
    this.#parts.journal.commit(of.request.id, tokens.length, 0, 0);
    this.#emit(of, { type: 'embedding', prompt: index, values });
    this.#end(text);
  }

  #end(text: Text): void {
    const { of } = text;
    const { request, promptTokens, begun, submitted } = of;
    this.#scheduler.end(text, this.#parts.now());
    if (--of.open > 0) return;
    const outcome = of.ending ?? 'finished';
    const usage = { promptTokens, cachedTokens: 0, completionTokens: 0 };
    this.#emit(of, { type: 'done', usage, outcome, ...(begun === null ? {} : { queuedMs: begun - submitted }) });
    this.#parts.journal.end(request.id, outcome);
    this.#requests.delete(request.id);
  }

  #emit({ request }: Running, event: EmbeddingEvent): void {
    const events = this.#events.get(request.id);
    if (events) events.push(event);
    else this.#events.set(request.id, [event]);
  }

  /** Events leave only after the journal holds what they tell. */
  #flush(): void {
    this.#parts.journal.write();
    if (this.#events.size > 0) this.#parts.emit([...this.#events]);
    this.#events.clear();
  }
}
