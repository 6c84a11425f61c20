/** Paged attention run by the kernel, and the same written out in 64-bit arithmetic. */
import { pagedAttention } from '../../../gpu-worker/graph/ops.ts';
import { Binding, Session } from '../../../gpu-worker/runtime/session.ts';
import { Tensor } from '../../../gpu-worker/runtime/tensor.ts';
import type { TypedArray } from '../../../gpu-worker/tensor/dtype.ts';
import { writeModel } from '../runtime/support.ts';

export const PAGE = 32;

export interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  causal: boolean;
  window: number;
  softcap: number;
  /** Turned dimensions of a head; 0: none. */
  rotary: number;
  norms: boolean;
  pool: 'f16' | 'f32';
}

/** Tokens of one sequence, [tokens, (heads + 2 kvHeads)·headDim], that follow what its pages already hold. */
export interface Row {
  qkv: Float32Array;
  past: number;
  pages: number[];
}

/** Uniform numbers in [0, 1) that a seed repeats (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const EPSILON = 1e-5;
const scaleOf = (shape: Shape): number => 1 / Math.sqrt(shape.headDim);
export const widthOf = ({ heads, kvHeads, headDim }: Shape): number => (heads + 2 * kvHeads) * headDim;

interface Tables {
  cos: Float32Array;
  sin: Float32Array;
  q: Float32Array;
  k: Float32Array;
}

function tablesOf({ rotary, headDim }: Shape, positions: number): Tables {
  const half = rotary / 2;
  const angle = (i: number): number => Math.floor(i / half) * 100 ** (-(i % half) / half);
  const gain = (seed: number) => Float32Array.from({ length: headDim }, (_, i) => 1 + 0.5 * Math.sin(seed + i));
  return {
    cos: Float32Array.from({ length: positions * half }, (_, i) => Math.cos(angle(i))),
    sin: Float32Array.from({ length: positions * half }, (_, i) => Math.sin(angle(i))),
    q: gain(1),
    k: gain(2),
  };
}

/** A session over one attention node and the pool that its runs share. */
export class Attention implements Disposable {
  readonly shape: Shape;
  readonly pool: TypedArray;
  readonly poolPages: number;
  readonly positions: number;
  readonly #tables: Tables;
  readonly #held = new DisposableStack();
  readonly #session: Session;
  readonly #inputs: string[];
  readonly #fixed: Tensor[] = [];

  constructor(shape: Shape, { poolPages, positions, threads = 1 }: { poolPages: number; positions: number; threads?: number }) {
    const { heads, kvHeads, headDim, rotary, norms } = shape;
    this.shape = shape;
    this.poolPages = poolPages;
    this.positions = positions;
    this.#tables = tablesOf(shape, positions);
    const pageWidth = 2 * kvHeads * PAGE * headDim;
    // Not zero: what nobody wrote must not matter.
    this.pool =
      shape.pool === 'f16' ? new Uint16Array(poolPages * pageWidth).fill(0x7e00) : new Float32Array(poolPages * pageWidth).fill(NaN);
    const model = this.#held.use(
      writeModel((g) => {
        const cosSin =
          rotary > 0
            ? { cos: g.input('cos', 'f32', [positions, rotary / 2]), sin: g.input('sin', 'f32', [positions, rotary / 2]), dims: rotary }
            : null;
        const gains = norms ? { q: g.input('q', 'f32', [headDim]), k: g.input('k', 'f32', [headDim]), epsilon: EPSILON } : null;
        const pool = g.input('pool', shape.pool, [poolPages, pageWidth]);
        const step = { rows: g.input('rows', 'i32', ['rows', 3]), pages: g.input('pages', 'i32', ['rows', 'pages']) };
        const qkv = g.input('qkv', 'f32', ['tokens', widthOf(shape)]);
        const options = {
          heads,
          kvHeads,
          headDim,
          scale: scaleOf(shape),
          causal: shape.causal,
          window: shape.window,
          softcap: shape.softcap,
        };
        g.output(pagedAttention(g, qkv, pool, step, { ...options, rotary: cosSin, norms: gains }));
      }),
    );
    this.#inputs = model.inputs;
    this.#session = this.#held.use(new Session(model.path, { threads }));
    const keep = (name: string, dims: number[], data: TypedArray, dtype: 'f32' | 'f16' = 'f32') =>
      this.#fixed.push(this.#held.use(new Tensor(name, dtype, dims, data)));
    keep('pool', [poolPages, pageWidth], this.pool, shape.pool);
    if (rotary > 0) for (const name of ['cos', 'sin'] as const) keep(name, [positions, rotary / 2], this.#tables[name]);
    if (norms) for (const name of ['q', 'k'] as const) keep(name, [headDim], this.#tables[name]);
  }

  /** One run; the result of each row, [tokens, heads·headDim]. `spoil` may falsify what the operator is told. */
  run(rows: readonly Row[], spoil: { rows?: (rows: Int32Array) => void; pages?: (pages: Int32Array) => void } = {}): Float32Array[] {
    const { heads, headDim } = this.shape;
    const width = widthOf(this.shape);
    const tokens = rows.map((row) => row.qkv.length / width);
    const columns = Math.max(...rows.map((row) => row.pages.length));
    const total = tokens.reduce((sum, n) => sum + n, 0);
    const qkv = new Float32Array(total * width);
    const rowTable = new Int32Array(rows.length * 3);
    const pageTable = new Int32Array(rows.length * columns).fill(-1);
    let first = 0;
    rows.forEach((row, r) => {
      qkv.set(row.qkv, first * width);
      rowTable.set([first, tokens[r]!, row.past], r * 3);
      pageTable.set(row.pages, r * columns);
      first += tokens[r]!;
    });
    spoil.rows?.(rowTable);
    spoil.pages?.(pageTable);
    const out = new Float32Array(total * heads * headDim);
    using held = new DisposableStack();
    const binding = new Binding(this.#session, this.#inputs, ['attention']);
    for (const tensor of this.#fixed) binding.input(tensor.name, tensor);
    binding.input('qkv', held.use(new Tensor('qkv', 'f32', [total, width], qkv)));
    binding.input('rows', held.use(new Tensor('rows', 'i32', [rows.length, 3], rowTable)));
    binding.input('pages', held.use(new Tensor('pages', 'i32', [rows.length, columns], pageTable)));
    binding.output('attention', held.use(new Tensor('attention', 'f32', [total, heads * headDim], out)));
    binding.run();
    let at = 0;
    return tokens.map((n) => {
      const from = at;
      at += n * heads * headDim;
      return out.subarray(from, at);
    });
  }

  [Symbol.dispose](): void {
    this.#held.dispose();
  }
}

/** The result for a whole sequence [tokens, width], position by position, in 64-bit floats. Keys and values round as the pool does. */
export function reference(shape: Shape, qkv: Float32Array): Float64Array {
  const { heads, kvHeads, headDim, causal, rotary, window, softcap, norms } = shape;
  const width = widthOf(shape);
  const tokens = qkv.length / width;
  const tables = tablesOf(shape, tokens);
  const stored = (x: number): number => (shape.pool === 'f16' ? Math.f16round(x) : Math.fround(x));
  const head = (t: number, h: number, gain: Float32Array | null): Float64Array => {
    let x = Float64Array.from(qkv.subarray(t * width + h * headDim, t * width + (h + 1) * headDim));
    if (gain && norms) {
      const factor = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / headDim + EPSILON);
      x = x.map((v, i) => v * factor * gain[i]!);
    }
    if (!gain) return x;
    const turned = x.slice();
    for (let i = 0; i < rotary / 2; i++) {
      const [c, s] = [tables.cos[(t * rotary) / 2 + i]!, tables.sin[(t * rotary) / 2 + i]!];
      turned[i] = x[i]! * c - x[i + rotary / 2]! * s;
      turned[i + rotary / 2] = x[i + rotary / 2]! * c + x[i]! * s;
    }
    return turned;
  };
  const every = (from: number, count: number, gain: Float32Array | null) =>
    Array.from({ length: tokens }, (_, t) => Array.from({ length: count }, (_, h) => head(t, from + h, gain)));
  const q = every(0, heads, tables.q);
  const k = every(heads, kvHeads, tables.k).map((t) => t.map((x) => x.map(stored)));
  const v = every(heads + kvHeads, kvHeads, null).map((t) => t.map((x) => x.map(stored)));
  const out = new Float64Array(tokens * heads * headDim);
  for (let t = 0; t < tokens; t++) {
    const low = window > 0 ? Math.max(0, t - window + 1) : 0;
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      const scores: number[] = [];
      for (let p = low; p <= (causal ? t : tokens - 1); p++) {
        const s = k[p]![kv]!.reduce((sum, x, i) => sum + x * q[t]![h]![i]!, 0) * scaleOf(shape);
        scores.push(softcap > 0 ? softcap * Math.tanh(s / softcap) : s);
      }
      const top = Math.max(...scores);
      const weights = scores.map((s) => Math.exp(s - top));
      const total = weights.reduce((sum, w) => sum + w, 0);
      weights.forEach((w, i) => {
        for (let d = 0; d < headDim; d++) out[(t * heads + h) * headDim + d]! += (w / total) * v[low + i]![kv]![d]!;
      });
    }
  }
  return out;
}
