/**
 * Adapter factors beside the sequences that use them: slot i of every linear holds what sequence i adds, padded
 * with zeros to the largest rank in use. A step binds one contiguous slice; switching an adapter writes one slot.
 */
import type { AdapterRef } from '../../shared/contract/worker.ts';
import { factorNames, type ServedFactors } from '../models/adapter-path.ts';
import type { LinearSpec } from '../models/linear.ts';
import type { Binding } from '../runtime/session.ts';
import { Tensor } from '../runtime/tensor.ts';

/** An adapter brought into the served bases; modules that it leaves alone are absent. */
export interface ServedAdapter {
  rank: number;
  factors: ReadonlyMap<string, ServedFactors>;
}

/** Ranks are padded to one of few sizes, so that slots are rarely laid out anew. */
const RANK_STEPS = [8, 16, 32, 64, 128, 256, 512, 1024, 2048];

export function paddedRank(rank: number): number {
  const step = RANK_STEPS.find((r) => r >= rank);
  if (step === undefined) throw new RangeError(`adapters of total rank ${rank}: at most ${RANK_STEPS.at(-1)} fit a slot`);
  return step;
}

/** The largest total rank of which one slot fits `budget` bytes: what a request may ask for. */
export const largestRank = (linears: readonly LinearSpec[], budget: number): number =>
  RANK_STEPS.findLast((rank) => adapterSlotBytes(linears, rank) <= budget) ?? RANK_STEPS[0]!;

export const adapterSlotBytes = (linears: readonly LinearSpec[], rank: number): number =>
  linears.reduce((sum, l) => sum + (l.in + l.out) * rank * 4, 0);

const NONE = '';

interface Lane {
  spec: LinearSpec;
  /** [slots, in, rank] */
  A: Float32Array;
  /** [slots, rank, out] */
  B: Float32Array;
  views: Map<string, { A: Tensor; B: Tensor }>;
}

export class AdapterSlots {
  readonly #linears: readonly LinearSpec[];
  #slots = 0;
  #rank = 0;
  #lanes: Lane[] = [];
  /** What each slot holds: digests and weights, or NONE for zeros. */
  #content: string[] = [];

  constructor(linears: readonly LinearSpec[]) {
    this.#linears = linears;
  }

  get rank(): number {
    return this.#rank;
  }

  get slots(): number {
    return this.#slots;
  }

  get bytes(): number {
    return adapterSlotBytes(this.#linears, this.#rank) * this.#slots;
  }

  /** Lays `slots` slots out for `rank`; their content is lost if that differs from before. */
  layOut(rank: number, slots: number): void {
    if (rank === this.#rank && slots === this.#slots) return;
    for (const lane of this.#lanes)
      for (const { A, B } of lane.views.values()) {
        A[Symbol.dispose]();
        B[Symbol.dispose]();
      }
    this.#rank = rank;
    this.#slots = slots;
    this.#lanes = this.#linears.map((spec) => ({
      spec,
      A: new Float32Array(this.#slots * spec.in * rank),
      B: new Float32Array(this.#slots * rank * spec.out),
      views: new Map(),
    }));
    this.#content = Array<string>(this.#slots).fill(NONE);
  }

  /** Makes slot hold the weighted sum of the adapters: their factors side by side, weights folded into B. */
  place(slot: number, refs: readonly AdapterRef[], adapters: readonly ServedAdapter[]): void {
    const content = refs.map(({ digest, weight }) => `${digest}*${weight}`).join('+');
    if (this.#content[slot] === content) return;
    for (const lane of this.#lanes) {
      const { in: width, out } = lane.spec;
      const rank = this.#rank;
      const a = lane.A.subarray(slot * width * rank, (slot + 1) * width * rank);
      const b = lane.B.subarray(slot * rank * out, (slot + 1) * rank * out);
      const whole = adapters.length === 1 && adapters[0]!.factors.get(lane.spec.path)?.rank === rank;
      if (!whole) {
        a.fill(0);
        b.fill(0);
      }
      let column = 0;
      adapters.forEach((adapter, i) => {
        const factors = adapter.factors.get(lane.spec.path);
        if (!factors) return;
        writeFactors(a, b, rank, column, factors, width, out, refs[i]!.weight);
        column += factors.rank;
      });
    }
    this.#content[slot] = content;
  }

  move(from: number, to: number): void {
    if (this.#content[from] === this.#content[to]) return;
    for (const { spec, A, B } of this.#lanes) {
      A.copyWithin(to * spec.in * this.#rank, from * spec.in * this.#rank, (from + 1) * spec.in * this.#rank);
      B.copyWithin(to * this.#rank * spec.out, from * this.#rank * spec.out, (from + 1) * this.#rank * spec.out);
    }
    this.#content[to] = this.#content[from]!;
  }

  bind(binding: Binding, first: number, count: number): void {
    const key = `${first}+${count}`;
    for (const lane of this.#lanes) {
      const view = lane.views.get(key) ?? this.#view(lane, first, count);
      lane.views.set(key, view);
      const names = factorNames(lane.spec.path);
      binding.input(names.A, view.A);
      binding.input(names.B, view.B);
    }
  }

  #view({ spec, A, B }: Lane, first: number, count: number): { A: Tensor; B: Tensor } {
    const slice = (data: Float32Array, size: number) => data.subarray(first * size, (first + count) * size);
    const names = factorNames(spec.path);
    return {
      A: new Tensor(names.A, 'f32', [count, spec.in, this.#rank], slice(A, spec.in * this.#rank)),
      B: new Tensor(names.B, 'f32', [count, this.#rank, spec.out], slice(B, this.#rank * spec.out)),
    };
  }
}

/** Writes factors into columns column…column+r−1 of `a` [in, rank] and the same rows of `b` [rank, out]. */
function writeFactors(
  a: Float32Array,
  b: Float32Array,
  rank: number,
  column: number,
  factors: ServedFactors,
  width: number,
  out: number,
  weight: number,
): void {
  const r = factors.rank;
  if (r === rank) a.set(factors.A);
  else for (let i = 0; i < width; i++) a.set(factors.A.subarray(i * r, (i + 1) * r), i * rank + column);
  b.set(factors.B, column * out);
  if (weight !== 1) for (let i = column * out; i < (column + r) * out; i++) b[i]! *= weight;
}
