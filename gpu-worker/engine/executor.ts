/** Runs the model over slots: a decode step of many sequences, or one chunk of one prompt. */
import { type GraphName, NAMES, type PreparedModel } from '../models/prepare.ts';
import { Binding, Session } from '../runtime/session.ts';
import { Tensor } from '../runtime/tensor.ts';
import type { AdapterSlots } from './adapter-slots.ts';
import type { KvCache } from './kv-cache.ts';

export interface Batch {
  /** First slot; row i of the batch is slot first + i. */
  first: number;
  /** [rows][tokens]: as many tokens in each row. */
  ids: readonly (readonly number[])[];
  /** Tokens in the cache of each row, these not included. */
  past: readonly number[];
  /** Flattened positions (row · tokens + token) whose logits are wanted. */
  select: readonly number[];
  /** The slots that hold the rows' adapters, and the first row's; null: none has any. */
  adapters: { slots: AdapterSlots; first: number } | null;
}

export class Executor implements Disposable {
  readonly #vocab: number;
  readonly #kv: KvCache;
  readonly #sessions: Record<GraphName, Session>;
  readonly #bindings: Record<GraphName, Binding>;
  #logits = new Float32Array(0);

  constructor(model: PreparedModel, kv: KvCache, threads: number) {
    this.#vocab = model.config.vocab_size;
    this.#kv = kv;
    const { bare, adapted } = model.graphs;
    this.#sessions = { bare: new Session(bare.file, { threads }), adapted: new Session(adapted.file, { threads }) };
    this.#bindings = {
      bare: new Binding(this.#sessions.bare, bare.inputs, bare.outputs),
      adapted: new Binding(this.#sessions.adapted, adapted.inputs, adapted.outputs),
    };
  }

  /** Extends the cache of every row and returns the wanted logits, one row [vocab] each, valid until the next run. */
  run(batch: Batch): Float32Array[] {
    const rows = batch.ids.length;
    const length = batch.ids[0]!.length;
    const binding = this.#bindings[batch.adapters ? 'adapted' : 'bare'];
    const last = batch.past.map((past) => past + length - 1);
    const wanted = batch.select.length;
    if (this.#logits.length < wanted * this.#vocab) this.#logits = new Float32Array(wanted * this.#vocab);
    const logits = this.#logits.subarray(0, wanted * this.#vocab);

    using ids = new Tensor(NAMES.ids, 'i64', [rows, length], BigInt64Array.from(batch.ids.flat(), BigInt));
    using lastIndex = new Tensor(NAMES.lastIndex, 'i32', [rows], Int32Array.from(last));
    using total = new Tensor(NAMES.total, 'i32', [], Int32Array.of(Math.max(...last) + 1));
    using select = new Tensor(NAMES.select, 'i64', [wanted], BigInt64Array.from(batch.select, BigInt));
    using out = new Tensor(NAMES.logits, 'f32', [wanted, this.#vocab], logits);
    binding.input(NAMES.ids, ids);
    binding.input(NAMES.lastIndex, lastIndex);
    binding.input(NAMES.total, total);
    binding.input(NAMES.select, select);
    binding.output(NAMES.logits, out);
    this.#kv.bind(binding, batch.first, rows);
    batch.adapters?.slots.bind(binding, batch.adapters.first, rows);
    binding.run();
    return Array.from({ length: wanted }, (_, i) => logits.subarray(i * this.#vocab, (i + 1) * this.#vocab));
  }

  [Symbol.dispose](): void {
    for (const session of Object.values(this.#sessions)) session[Symbol.dispose]();
  }
}
