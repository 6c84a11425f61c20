/** Runs the model over rows of any lengths: what the core asks for, laid out as the graph's inputs. */
import { NAMES, type PreparedModel } from '../models/prepare.ts';
import { Binding, Session } from '../runtime/session.ts';
import { Tensor } from '../runtime/tensor.ts';
import type { DType, TypedArray } from '../tensor/dtype.ts';
import type { KvPool } from './kv-pool.ts';
import type { Model, Row } from './model.ts';

export class Executor implements Model, Disposable {
  readonly #width: number;
  readonly #positions: boolean;
  readonly #session: Session;
  readonly #binding: Binding;
  #output = new Float32Array(0);

  constructor(model: PreparedModel, kv: KvPool, threads: number) {
    this.#width = model.width;
    this.#positions = model.graph.inputs.includes(NAMES.positions);
    this.#session = new Session(model.graph.file, { threads });
    this.#binding = new Binding(this.#session, model.graph.inputs, model.graph.outputs);
    kv.bind(this.#binding);
  }

  run(rows: readonly Row[]): Float32Array[] {
    const wanted = rows.reduce((sum, row) => sum + row.wanted, 0);
    // Never none, though they may go unread: reductions over no rows are not defined.
    const computed = Math.max(1, wanted);
    if (this.#output.length < computed * this.#width) this.#output = new Float32Array(computed * this.#width);
    const output = this.#output.subarray(0, computed * this.#width);

    const tokens = rows.reduce((sum, row) => sum + row.tokens.length, 0);
    const select = wantedTokens(rows);
    using inputs = new DisposableStack();
    const input = (name: string, dtype: DType, dims: number[], data: TypedArray) =>
      this.#binding.input(name, inputs.use(new Tensor(name, dtype, dims, data)));
    input(
      NAMES.ids,
      'i64',
      [tokens],
      BigInt64Array.from(
        rows.flatMap((row) => row.tokens),
        BigInt,
      ),
    );
    input(NAMES.rows, 'i32', [rows.length, 3], rowTable(rows));
    if (this.#positions) input(NAMES.positions, 'i64', [tokens], positionsOf(rows));
    const most = Math.max(...rows.map(({ pages }) => pages.length));
    input(NAMES.pages, 'i32', [rows.length, most], pageTable(rows, most));
    const adapters = Math.max(1, ...rows.map((row) => row.adapters.length));
    input(NAMES.adapters, 'i64', [rows.length, adapters, 2], adapterTable(rows, adapters));
    input(NAMES.select, 'i64', [computed], BigInt64Array.from(select.length > 0 ? select : [0], BigInt));
    this.#binding.output(NAMES.output, inputs.use(new Tensor(NAMES.output, 'f32', [computed, this.#width], output)));
    this.#binding.run();
    return Array.from({ length: wanted }, (_, i) => output.subarray(i * this.#width, (i + 1) * this.#width));
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}

/** Of each row: its first token, how many it has, and the positions before them. */
function rowTable(rows: readonly Row[]): Int32Array {
  let first = 0;
  return Int32Array.from(
    rows.flatMap(({ tokens, past }) => {
      first += tokens.length;
      return [first - tokens.length, tokens.length, past];
    }),
  );
}

/** Of each token in its row. */
function positionsOf(rows: readonly Row[]): BigInt64Array {
  return BigInt64Array.from(rows.flatMap(({ tokens, past }) => tokens.map((_, i) => BigInt(past + i))));
}

function pageTable(rows: readonly Row[], width: number): Int32Array {
  const table = new Int32Array(rows.length * width);
  for (const [i, { pages }] of rows.entries()) table.set(pages, i * width);
  return table;
}

/** Pairs of a module table's address and the bits of a float32 weight; 0, 0 for none. */
function adapterTable(rows: readonly Row[], width: number): BigInt64Array {
  const table = new BigInt64Array(rows.length * width * 2);
  const weights = new Float32Array(table.buffer);
  for (const [i, { adapters }] of rows.entries()) {
    for (const [k, adapter] of adapters.entries()) {
      const at = (i * width + k) * 2;
      table[at] = adapter.table;
      // The lower half of the second number: all platforms of ours are little-endian.
      weights[(at + 1) * 2] = adapter.weight;
    }
  }
  return table;
}

/** Indices, among the tokens of all rows, of those whose logits are wanted. */
function wantedTokens(rows: readonly Row[]): number[] {
  let end = 0;
  return rows.flatMap(({ tokens, wanted }) => {
    end += tokens.length;
    return Array.from({ length: wanted }, (_, i) => end - wanted + i);
  });
}
