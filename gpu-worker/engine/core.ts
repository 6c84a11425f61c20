/**
 * The engine: continuous batching over one base, each sequence with its own adapters. A step is a transaction:
 *
 *   plan     drop what was cancelled, admit the next sequence, choose rows
 *   execute  one decode pass over all rows, one chunk of the prompt being prefilled
 *   commit   sample, count, write the journal; only then events leave
 *
 * Slots are contiguous: sequences that decode in 0…m−1, at most one that prefills in m. A prompt is cut into chunks
 * at multiples of PREFILL_CHUNK, whatever else runs, so its keys and values do not depend on the company it kept.
 */
import type { EngineEvent, EngineRequest, TokenLogprob } from '../../shared/contract/engine.ts';
import type { LinearSpec } from '../models/linear.ts';
import type { TextTokenizer } from '../tokenizer/tokenizer.ts';
import { type AdapterSlots, adapterSlotBytes, paddedRank, type ServedAdapter } from './adapter-slots.ts';
import type { Executor } from './executor.ts';
import type { UsageJournal } from './journal.ts';
import type { KvCache } from './kv-cache.ts';
import { sample, tokenLogprob } from './sampler.ts';
import { type Running, Sequence } from './sequence.ts';

export const PREFILL_CHUNK = 128;

export interface CoreParts {
  executor: Executor;
  kv: KvCache;
  adapterSlots: AdapterSlots;
  /** One slot for a prompt whose adapters have another rank than `adapterSlots` are laid out for. */
  prefillSlot: AdapterSlots;
  linears: readonly LinearSpec[];
  /** Memory for adapter slots, in bytes; what does not fit side by side waits. */
  adapterBudget: number;
  tokenizer: TextTokenizer | null;
  eos: ReadonlySet<number>;
  journal: UsageJournal;
  baseRevision: string;
  /** Receives each step's events, grouped by request, after the journal was written. */
  emit(batches: [string, EngineEvent[]][]): void;
}

export class EngineCore {
  readonly #parts: CoreParts;
  readonly #residents = new Map<string, ServedAdapter>();
  readonly #waiting: Sequence[] = [];
  /** In slot order; the last one may still be prefilling. */
  readonly #running: Sequence[] = [];
  readonly #requests = new Map<string, Running>();
  readonly #events = new Map<string, EngineEvent[]>();
  /** Logprobs of the prompt that is being prefilled, when it is echoed. */
  #promptLogprobs: (TokenLogprob | null)[] = [null];
  #begun = false;
  steps = 0;
  tokens = 0;

  constructor(parts: CoreParts) {
    this.#parts = parts;
  }

  get active(): number {
    return this.#running.length;
  }

  get queued(): number {
    return this.#waiting.length;
  }

  get idle(): boolean {
    return this.#running.length + this.#waiting.length === 0 && this.#events.size === 0;
  }

  addAdapter(digest: string, adapter: ServedAdapter): void {
    this.#residents.set(digest, adapter);
  }

  /** The caller sees to it that no request uses the adapter any more. */
  removeAdapter(digest: string): void {
    this.#residents.delete(digest);
  }

  get residentBytes(): number {
    let bytes = 0;
    for (const { factors } of this.#residents.values()) for (const { A, B } of factors.values()) bytes += A.byteLength + B.byteLength;
    return bytes;
  }

  get residents(): number {
    return this.#residents.size;
  }

  submit(request: EngineRequest): void {
    const { kv, tokenizer, journal, baseRevision } = this.#parts;
    const count = request.prompts.length * request.n;
    const running: Running = { request, open: count, cancelled: false, usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 } };
    const seed = request.sampling.seed ?? Math.floor(Math.random() * 2 ** 53);
    this.#requests.set(request.id, running);
    for (let i = 0; i < count; i++) this.#waiting.push(new Sequence(running, i, seed, kv.capacity, tokenizer));
    journal.start(request, baseRevision);
  }

  cancel(id: string): void {
    const running = this.#requests.get(id);
    if (running) running.cancelled = true;
  }

  /** Returns whether a sequence got its first token. */
  step(): boolean {
    this.#begun = false;
    this.#dropCancelled();
    this.#admit();
    const prefilling = this.#running.at(-1)?.prefilling ? this.#running.at(-1)! : null;
    const decoding = prefilling ? this.#running.slice(0, -1) : [...this.#running];
    if (decoding.length > 0) this.#decode(decoding);
    if (prefilling) this.#prefill(prefilling);
    this.steps++;
    this.#flush();
    return this.#begun;
  }

  // plan

  #dropCancelled(): void {
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      const sequence = this.#waiting[i]!;
      if (!sequence.of.cancelled) continue;
      this.#waiting.splice(i, 1);
      this.#finish(sequence, 'cancelled', '');
    }
    for (const sequence of [...this.#running]) if (sequence.of.cancelled) this.#leave(sequence, 'cancelled', '');
  }

  /** At most one sequence prefills at a time; the others keep their place in the queue. */
  #admit(): void {
    const next = this.#waiting[0];
    if (!next || this.#running.at(-1)?.prefilling) return;
    const rank = Math.max(rankOf(next, this.#residents), ...this.#running.map((s) => rankOf(s, this.#residents)));
    const slots = this.#slotsFor(rank);
    if (this.#running.length >= slots) return;
    if (rank > 0 && !this.#fitsLayout(rank)) this.#parts.adapterSlots.layOut(paddedRank(rank), slots);
    this.#waiting.shift();
    this.#running.push(next);
    this.#promptLogprobs = [null];
  }

  /** How many sequences may run beside each other when the largest total rank is `rank`. */
  #slotsFor(rank: number): number {
    const { kv, linears, adapterBudget } = this.#parts;
    if (rank === 0) return kv.slots;
    return Math.max(1, Math.min(kv.slots, Math.floor(adapterBudget / adapterSlotBytes(linears, paddedRank(rank)))));
  }

  /** A layout for larger ranks is kept unless one for `rank` has more slots. */
  #fitsLayout(rank: number): boolean {
    const { adapterSlots } = this.#parts;
    return rank <= adapterSlots.rank && adapterSlots.slots >= this.#slotsFor(rank);
  }

  // execute and commit

  #decode(rows: readonly Sequence[]): void {
    const { adapterSlots } = this.#parts;
    const adapted = rows.some(usesAdapters);
    if (adapted) for (const [slot, row] of rows.entries()) this.#placeAdapters(adapterSlots, slot, row);
    const logits = this.#parts.executor.run({
      first: 0,
      ids: rows.map((row) => [row.tokens.at(-1)!]),
      past: rows.map((row) => row.cached),
      select: rows.map((_, i) => i),
      adapters: adapted ? { slots: adapterSlots, first: 0 } : null,
    });
    // All rows first: one that ends moves others, with as many positions as they say they have.
    for (const row of rows) row.cached++;
    for (const [i, row] of rows.entries()) this.#take(row, logits[i]!);
  }

  #prefill(sequence: Sequence): void {
    const slot = this.#running.length - 1;
    const { sampling } = sequence.of.request;
    const start = sequence.cached;
    const ids = sequence.prompt.slice(start, start + PREFILL_CHUNK);
    const completes = start + ids.length === sequence.prompt.length;
    const scored = sampling.echo && sampling.logprobs !== null;
    const logits = this.#parts.executor.run({
      first: slot,
      ids: [ids],
      past: [start],
      // Never none, though only the last chunk's is used: reductions over no rows are not defined.
      select: scored ? ids.map((_, i) => i) : [ids.length - 1],
      adapters: usesAdapters(sequence) ? this.#prefillAdapters(sequence, slot) : null,
    });
    sequence.cached += ids.length;
    this.#count(sequence, sequence.paysForPrompt ? ids.length : 0, 0);
    if (scored) {
      ids.forEach((_, i) => {
        const next = sequence.prompt[start + i + 1];
        if (next !== undefined) this.#promptLogprobs.push(tokenLogprob(logits[i]!, next, sampling.logprobs!));
      });
    }
    if (!completes) return;
    if (sampling.echo) {
      const text = this.#parts.tokenizer?.decode(sequence.prompt) ?? '';
      this.#emit(sequence.of, {
        type: 'prompt',
        sequence: sequence.index,
        ids: [...sequence.prompt],
        text,
        logprobs: scored ? this.#promptLogprobs : null,
      });
    }
    if (sequence.maxTokens === 0) this.#leave(sequence, 'length', '');
    else this.#take(sequence, logits.at(-1)!);
  }

  /**
   * A prompt's factors are always laid out for their own rank, whatever its neighbours need: how a product of several
   * rows cuts its sums depends on the number of columns. The product of a single row, in decoding, does not.
   */
  #prefillAdapters(sequence: Sequence, slot: number): { slots: AdapterSlots; first: number } {
    const { adapterSlots, prefillSlot } = this.#parts;
    const rank = paddedRank(rankOf(sequence, this.#residents));
    const own = rank === adapterSlots.rank ? { slots: adapterSlots, first: slot } : { slots: prefillSlot, first: 0 };
    if (own.slots === prefillSlot) prefillSlot.layOut(rank, 1);
    this.#placeAdapters(own.slots, own.first, sequence);
    return own;
  }

  #placeAdapters(slots: AdapterSlots, slot: number, sequence: Sequence): void {
    const refs = sequence.of.request.adapters;
    slots.place(
      slot,
      refs,
      refs.map(({ digest }) => this.#residents.get(digest)!),
    );
  }

  /** Samples the next token of a sequence and commits it. */
  #take(sequence: Sequence, logits: Float32Array): void {
    const { sampling } = sequence.of.request;
    const id = sample(logits, sampling, sequence.random);
    const ends = !sampling.ignoreEos && this.#parts.eos.has(id);
    const { text, hit } = sequence.push(id, !ends);
    const logprobs = sampling.logprobs === null ? null : [tokenLogprob(logits, id, sampling.logprobs)];
    this.#count(sequence, 0, 1);
    if (sequence.generated === 1) this.#begun = true;
    this.#emit(sequence.of, { type: 'tokens', sequence: sequence.index, ids: [id], text, logprobs });
    if (hit) this.#leave(sequence, 'stop', '');
    else if (ends) this.#leave(sequence, 'stop', sequence.flush());
    else if (sequence.generated >= sequence.maxTokens) this.#leave(sequence, 'length', sequence.flush());
  }

  #count(sequence: Sequence, promptTokens: number, completionTokens: number): void {
    const { usage, request } = sequence.of;
    usage.promptTokens += promptTokens;
    usage.completionTokens += completionTokens;
    this.tokens += promptTokens + completionTokens;
    this.#parts.journal.commit(request.id, promptTokens, completionTokens);
  }

  /** Frees a running sequence's slot and closes the gap. */
  #leave(sequence: Sequence, reason: 'stop' | 'length' | 'cancelled', text: string): void {
    let hole = this.#running.indexOf(sequence);
    const end = this.#running.length - 1;
    const prefills = end > hole && this.#running[end]!.prefilling;
    if (prefills) hole = this.#fill(hole, end - 1);
    this.#fill(hole, end);
    this.#running.pop();
    this.#finish(sequence, reason, text);
  }

  /** Moves the sequence in slot `from` to the free slot `hole`; returns the slot that is free then. */
  #fill(hole: number, from: number): number {
    if (from === hole) return hole;
    const moved = this.#running[from]!;
    this.#parts.kv.move(from, hole, moved.cached);
    this.#parts.adapterSlots.move(from, hole);
    this.#running[hole] = moved;
    return from;
  }

  #finish(sequence: Sequence, reason: 'stop' | 'length' | 'cancelled', text: string): void {
    const { of } = sequence;
    this.#emit(of, { type: 'finish', sequence: sequence.index, reason, text });
    if (--of.open > 0) return;
    const outcome = of.cancelled ? 'cancelled' : 'finished';
    this.#emit(of, { type: 'done', usage: of.usage, outcome });
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

const usesAdapters = (sequence: Sequence): boolean => sequence.of.request.adapters.length > 0;

/** Total rank of the adapters of a sequence's request. */
function rankOf(sequence: Sequence, residents: ReadonlyMap<string, ServedAdapter>): number {
  return sequence.of.request.adapters.reduce((sum, { digest }) => {
    const adapter = residents.get(digest);
    if (!adapter) throw new Error(`request ${sequence.of.request.id}: adapter ${digest} is not resident`);
    return sum + adapter.rank;
  }, 0);
}
