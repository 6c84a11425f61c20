/**
 * The engine: continuous batching over one base, each sequence with its own adapters. A step is a transaction:
 *
 *   plan     drop what ended, admit who is next, share out the step's time: one token (and a draft) for every row that
 *            decodes, chunks of the prompts of others
 *   execute  one run of the model over all rows
 *   commit   choose tokens, count, publish full pages, write the journal; only then events leave
 *
 * A row's tokens are the same bits whatever else is in the run and however its prompt is cut, so nothing here has to
 * be careful about company: sequences join, give way and resume at any step.
 */
import type { EngineEvent, EngineRequest } from '../../shared/contract/engine.ts';
import type { TextTokenizer } from '../tokenizer/tokenizer.ts';
import { CostModel, type StepWork } from './cost-model.ts';
import type { GrammarStates } from './grammar/states.ts';
import type { UsageJournal } from './journal.ts';
import { Meters } from './meters.ts';
import type { Model, Row, RowAdapter } from './model.ts';
import type { PagePool } from './pages.ts';
import { scopeOf } from './prefix-cache.ts';
import { TokenChooser } from './sampling/chooser.ts';
import { tokenLogprob } from './sampling/order.ts';
import { Random } from './sampling/random.ts';
import { Scheduler } from './scheduler.ts';
import { type Running, Sequence } from './sequence.ts';
import { planChunks } from './step-plan.ts';
import { COST } from './tenants.ts';

export interface CoreParts {
  model: Model;
  pool: PagePool;
  /** Sequences that run at once. */
  rows: number;
  /** Tokens of one sequence; they fit the pool. */
  context: number;
  /** How long a step may take while others wait for their next token. */
  stepMs: number;
  speculation: boolean;
  /** The resident adapter of that digest, as rows use it; throws when there is none. */
  adapterTable(digest: string): bigint;
  tokenizer: TextTokenizer | null;
  grammars: Pick<GrammarStates, 'open'>;
  eos: ReadonlySet<number>;
  journal: UsageJournal;
  baseRevision: string;
  precision: string;
  /** Milliseconds since the epoch, never going back. */
  now(): number;
  /** Receives each step's events, grouped by request, after the journal was written. */
  emit(batches: [string, EngineEvent[]][]): void;
}

/** A row of the step being made. */
interface Planned {
  sequence: Sequence;
  /** Pending tokens that it computes. */
  count: number;
  /** Tokens proposed to come after them. */
  draft: readonly number[];
}

export class EngineCore {
  readonly meters = new Meters();
  readonly #parts: CoreParts;
  readonly #scheduler = new Scheduler<Sequence>();
  readonly #costs = new CostModel();
  readonly #requests = new Map<string, Running>();
  readonly #events = new Map<string, EngineEvent[]>();
  #begun = false;

  constructor(parts: CoreParts) {
    this.#parts = parts;
  }

  get active(): number {
    return this.#scheduler.running.size;
  }

  get prefilling(): number {
    return [...this.#scheduler.running].filter((sequence) => sequence.prefilling).length;
  }

  get queued(): { all: number; batch: number } {
    const batch = this.#scheduler.waiting('batch');
    return { all: batch + this.#scheduler.waiting('interactive'), batch };
  }

  get idle(): boolean {
    return this.#requests.size === 0 && this.#events.size === 0;
  }

  submit(request: EngineRequest): void {
    const { context, tokenizer, journal, baseRevision, precision } = this.#parts;
    const count = request.prompts.length * request.n;
    const running: Running = {
      request,
      scope: scopeOf(request, baseRevision, precision),
      seed: request.sampling.seed ?? Math.floor(Math.random() * 2 ** 53),
      submitted: this.#parts.now(),
      begun: null,
      firstToken: null,
      open: count,
      ending: null,
      usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 },
      scores: new Map(),
    };
    this.#requests.set(request.id, running);
    for (let i = 0; i < count; i++) this.#scheduler.add(new Sequence(running, i, context, tokenizer));
    journal.start(request, baseRevision);
  }

  cancel(id: string): void {
    const running = this.#requests.get(id);
    if (running) running.ending ??= { outcome: 'cancelled' };
  }

  /** Returns whether a sequence got its first token. */
  step(): boolean {
    const began = this.#parts.now();
    this.#begun = false;
    this.#dropEnded(began);
    this.#admit(began);
    const rows = this.#plan(began);
    if (rows.length > 0) this.#execute(rows, began);
    this.#flush();
    return this.#begun;
  }

  // plan

  #dropEnded(now: number): void {
    for (const running of this.#requests.values()) {
      const { deadline } = running.request;
      if (running.begun === null && deadline !== null && deadline < now) running.ending ??= { outcome: 'expired' };
    }
    if (![...this.#requests.values()].some(({ ending }) => ending)) return;
    for (const sequence of [...this.#scheduler.running, ...this.#scheduler.allWaiting()])
      if (sequence.of.ending) this.#end(sequence, 'cancelled', '');
  }

  #admit(now: number): void {
    const { rows, pool } = this.#parts;
    const { running } = this.#scheduler;
    const ready = (sequence: Sequence) => {
      for (const other of running) if (sequence.gainsFrom(other)) return false;
      return true;
    };
    for (;;) {
      const next = this.#scheduler.next(now, ready);
      if (!next) return;
      // Rows grow: who enters beside others leaves a page for each of them.
      const spare = running.size;
      if (running.size < rows && next.kv.enter(pool, !next.mustScore, spare)) {
        this.#begin(next, now);
        continue;
      }
      const replaced = this.#scheduler.replaceable(next, now);
      if (!replaced) return;
      this.#giveWay(replaced, now);
    }
  }

  #begin(sequence: Sequence, now: number): void {
    const { of } = sequence;
    this.#scheduler.start(sequence, now);
    of.begun ??= now;
    sequence.advanced = now;
    if (!sequence.chooser) {
      const { sampling, grammar } = of.request;
      const state = grammar && this.#parts.grammars.open(grammar);
      sequence.chooser = new TokenChooser(sampling, sequence.prompt, state, new Random(of.seed, sequence.index));
      const found = sequence.kv.computed;
      this.#scheduler.tenants.charge(sequence.tenant, found * COST.cached + (sequence.prompt.length - found) * COST.prompt);
    }
    sequence.scoring = sequence.mustScore ? [null] : null;
    this.#countPrompt(sequence, 'found');
  }

  /** The sequence with the least right loses its row and its pages, though not what it has said: it resumes later. */
  #giveWay(sequence: Sequence, now: number): void {
    sequence.kv.leave(this.#parts.pool);
    this.#scheduler.yield(sequence, now);
    this.meters.preemptions++;
  }

  #plan(now: number): Planned[] {
    const { running } = this.#scheduler;
    for (const sequence of [...running])
      while (running.has(sequence) && !sequence.kv.grow(this.#parts.pool, sequence.tokens.length))
        this.#giveWay(this.#scheduler.victim(), now);
    const decoding = [...running].filter((sequence) => sequence.pending === 1);
    const prefills = [...running].filter((sequence) => sequence.pending > 1);
    const attended = decoding.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const work: StepWork = { decoding: decoding.length, prompt: 0, attended };
    const rows = decoding.map((sequence): Planned => ({ sequence, count: 1, draft: this.#draft(sequence, work) }));
    const chunks = planChunks(
      prefills.map((sequence) => ({
        priority: sequence.priority,
        remaining: sequence.pending,
        past: sequence.kv.computed,
        limit: sequence.largestChunk,
        advanced: sequence.advanced,
      })),
      work,
      this.#parts.stepMs,
      this.#costs,
      now,
    );
    for (const [i, sequence] of prefills.entries()) {
      if (chunks[i] === 0) continue;
      sequence.advanced = now;
      rows.push({ sequence, count: chunks[i]!, draft: [] });
    }
    return rows;
  }

  /** As many tokens as are worth the time that checking them adds to a step with that much work, and as have pages. */
  #draft(sequence: Sequence, work: StepWork): number[] {
    const { speculation, pool } = this.#parts;
    const { tokens, lookup, acceptance, kv } = sequence;
    if (!speculation || !sequence.begun) return [];
    const perMs = work.decoding / this.#costs.milliseconds(work);
    const worth = acceptance.length(perMs, this.#costs.decodingToken(tokens.length));
    const draft = lookup.draft(Math.min(worth, sequence.maxTokens - sequence.generated - 1));
    while (draft.length > 0 && !kv.grow(pool, tokens.length + draft.length)) draft.pop();
    return draft;
  }

  // execute and commit

  #execute(planned: readonly Planned[], began: number): void {
    const rows = planned.map((row) => this.#rowOf(row));
    const work = workOf(rows);
    const logits = this.#parts.model.run(rows);
    let at = 0;
    for (const [i, row] of planned.entries()) {
      const own = logits.slice(at, at + rows[i]!.wanted);
      at += rows[i]!.wanted;
      this.#commit(row, own);
    }
    const milliseconds = this.#parts.now() - began;
    this.#costs.learn(work, milliseconds);
    this.meters.step(rows.length, milliseconds);
  }

  #rowOf({ sequence, count, draft }: Planned): Row {
    const { tokens, kv, of } = sequence;
    const end = kv.computed + count;
    const completes = end === tokens.length;
    return {
      tokens: [...tokens.slice(kv.computed, end), ...draft],
      past: kv.computed,
      pages: kv.pages,
      adapters: of.request.adapters.map(({ digest, weight }): RowAdapter => ({ table: this.#parts.adapterTable(digest), weight })),
      wanted: sequence.scoring ? count : completes ? 1 + draft.length : 0,
    };
  }

  #commit({ sequence, count, draft }: Planned, logits: readonly Float32Array[]): void {
    const { kv, tokens, scoring } = sequence;
    if (sequence.prefilling) this.meters.prefilledTokens += count;
    this.meters.draftedTokens += draft.length;
    const start = kv.computed;
    kv.computed += count;
    this.#countPrompt(sequence, 'computed');
    if (scoring) {
      const { logprobs } = sequence.of.request.sampling;
      for (const [i, row] of logits.entries()) {
        const next = sequence.prompt[start + i + 1];
        if (next !== undefined) scoring.push(tokenLogprob(row, next, logprobs!));
      }
    }
    if (kv.computed < tokens.length || sequence.maxTokens === 0) kv.publish(this.#parts.pool);
    if (kv.computed < tokens.length) return;
    if (!sequence.begun) this.#tellPrompt(sequence);
    if (sequence.maxTokens === 0) this.#end(sequence, 'length', '');
    else this.#take(sequence, scoring ? logits.slice(-1) : logits, draft);
  }

  #tellPrompt(sequence: Sequence): void {
    const { of, prompt, scoring } = sequence;
    if (scoring) of.scores.set(sequence.promptIndex, scoring);
    sequence.scoring = null;
    sequence.begun = true;
    if (!of.request.sampling.echo) return;
    const text = this.#parts.tokenizer?.decode(prompt) ?? '';
    const logprobs = of.scores.get(sequence.promptIndex) ?? null;
    this.#emit(of, { type: 'prompt', sequence: sequence.index, ids: [...prompt], text, logprobs });
  }

  /**
   * Chooses tokens row by row for as long as they are what was drafted: each row of logits follows from the tokens
   * before it, so this is what one step a token would have given.
   */
  #take(sequence: Sequence, logits: readonly Float32Array[], draft: readonly number[]): void {
    const { of, kv, acceptance } = sequence;
    const { ignoreEos, logprobs: wanted } = of.request.sampling;
    const ids: number[] = [];
    const logprobs = [];
    let shown = '';
    let ending: { reason: 'stop' | 'length'; text: string } | null = null;
    for (const [i, row] of logits.entries()) {
      const choice = sequence.chooser!.choose(row);
      if (choice.type === 'failed') of.ending ??= { outcome: 'failed', error: choice.message };
      if (choice.type !== 'token') break;
      const { id, logprob } = choice;
      const ends = !ignoreEos && this.#parts.eos.has(id);
      const { text, hit } = sequence.push(id, !ends);
      ids.push(id);
      shown += text;
      if (logprob) logprobs.push(logprob);
      if (hit) ending = { reason: 'stop', text: '' };
      else if (ends) ending = { reason: 'stop', text: sequence.flush() };
      else if (sequence.generated >= sequence.maxTokens) ending = { reason: 'length', text: sequence.flush() };
      if (ending || id !== draft[i]) break;
    }
    // The last token's own keys and values are never there yet, nor are those of drafts that were wrong.
    kv.computed = sequence.tokens.length - 1;
    kv.publish(this.#parts.pool);
    const accepted = Math.max(0, ids.length - 1);
    acceptance.observe(draft.length, accepted);
    this.meters.acceptedTokens += accepted;
    if (ids.length > 0) {
      if (sequence.generated === ids.length) this.#begun = true;
      of.firstToken ??= this.#parts.now();
      this.#scheduler.tenants.charge(sequence.tenant, ids.length * COST.generated);
      this.#count(of, 0, 0, ids.length);
      this.#emit(of, { type: 'tokens', sequence: sequence.index, ids, text: shown, logprobs: wanted === null ? null : logprobs });
    }
    if (ending) this.#end(sequence, ending.reason, ending.text);
  }

  /** Counts the prompt's tokens once, as they are computed or found. */
  #countPrompt(sequence: Sequence, how: 'computed' | 'found'): void {
    const fresh = Math.min(sequence.kv.computed, sequence.prompt.length) - sequence.counted;
    if (fresh <= 0) return;
    sequence.counted += fresh;
    const found = how === 'found' ? fresh : 0;
    this.meters.cachedTokens += found;
    if (sequence.paysForPrompt) this.#count(sequence.of, fresh, found, 0);
  }

  #count({ usage, request }: Running, promptTokens: number, cachedTokens: number, completionTokens: number): void {
    usage.promptTokens += promptTokens;
    usage.cachedTokens += cachedTokens;
    usage.completionTokens += completionTokens;
    this.meters.tokens += promptTokens + completionTokens;
    this.meters.generatedTokens += completionTokens;
    this.#parts.journal.commit(request.id, promptTokens, completionTokens, cachedTokens);
  }

  #end(sequence: Sequence, reason: 'stop' | 'length' | 'cancelled', text: string): void {
    const { of } = sequence;
    sequence.kv.leave(this.#parts.pool);
    this.#scheduler.end(sequence, this.#parts.now());
    sequence.chooser?.close();
    this.#emit(of, { type: 'finish', sequence: sequence.index, reason, text });
    if (--of.open > 0) return;
    const { outcome, error } = of.ending ?? { outcome: 'finished' };
    this.#emit(of, {
      type: 'done',
      usage: of.usage,
      outcome,
      ...(error === undefined ? {} : { error }),
      ...(of.begun === null ? {} : { queuedMs: of.begun - of.submitted }),
      ...(of.firstToken === null ? {} : { firstTokenMs: of.firstToken - of.submitted }),
    });
    this.#parts.journal.end(of.request.id, outcome);
    this.#requests.delete(of.request.id);
  }

  #emit(of: Running, event: EngineEvent): void {
    const events = this.#events.get(of.request.id);
    if (events) events.push(event);
    else this.#events.set(of.request.id, [event]);
  }

  /** Events leave only after the journal holds what they tell. */
  #flush(): void {
    this.#parts.journal.write();
    if (this.#events.size > 0) this.#parts.emit([...this.#events]);
    this.#events.clear();
  }
}

/** Rows whose every token's logits are wanted decode (or are scored, which costs as much for each); others are prompts. */
function workOf(rows: readonly Row[]): StepWork {
  const work: StepWork = { decoding: 0, prompt: 0, attended: 0 };
  for (const { tokens, past, wanted } of rows) {
    if (tokens.length === wanted) work.decoding += tokens.length;
    else work.prompt += tokens.length;
    work.attended += tokens.length * (past + tokens.length / 2);
  }
  return work;
}
