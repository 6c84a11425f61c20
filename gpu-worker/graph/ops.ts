/** The operators that models are made of: each adds one node and returns its typed value. */
import { type DType, onnxCode } from '../tensor/dtype.ts';
import type { Dim, Graph, Value } from './ir.ts';

const last = (v: Value): Dim => v.dims[v.dims.length - 1]!;
const withLast = (v: Value, n: Dim): Dim[] => [...v.dims.slice(0, -1), n];

/** The higher-ranked shape: enough for the broadcasts that models use (same shape, a scalar, or trailing ones). */
const broadcast = (a: Value, b: Value): readonly Dim[] =>
  a.dims.length >= b.dims.length ? a.dims.map((d, i) => (d === 1 && a.dims.length === b.dims.length ? b.dims[i]! : d)) : b.dims;

function elementwise(op: 'Add' | 'Sub' | 'Mul' | 'Div' | 'Mod') {
  return (g: Graph, a: Value, b: Value, leaf = op.toLowerCase()): Value => {
    const out = { name: g.path(leaf), dtype: a.dtype, dims: broadcast(a, b) };
    g.node(op, [a, b], [out]);
    return out;
  };
}

export const add = elementwise('Add');
export const sub = elementwise('Sub');
export const mod = elementwise('Mod');
export const mul = elementwise('Mul');
export const div = elementwise('Div');

/** x · Φ(x), elementwise. */
export function gelu(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('gelu') };
  g.node('Gelu', [x], [out], { approximate: { string: 'none' } });
  return out;
}

export function tanh(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('tanh') };
  g.node('Tanh', [x], [out]);
  return out;
}

/** a [..., m, k] · b [..., k, n] → [..., m, n]. */
export function matmul(g: Graph, a: Value, b: Value, leaf = 'matmul'): Value {
  const out = { name: g.path(leaf), dtype: a.dtype, dims: withLast(a, last(b)) };
  g.node('MatMul', [a, b], [out]);
  return out;
}

/** Rows of `table` [n, ...] picked by `indices`. */
export function gatherRows(g: Graph, table: Value, indices: Value, leaf = 'gather'): Value {
  const out = { name: g.path(leaf), dtype: table.dtype, dims: [...indices.dims, ...table.dims.slice(1)] };
  g.node('Gather', [table, indices], [out], { axis: { int: 0 } });
  return out;
}

export function reshape(g: Graph, x: Value, shape: readonly number[], dims: readonly Dim[]): Value {
  const out = { name: g.path('reshape'), dtype: x.dtype, dims };
  g.node('Reshape', [x, g.ints(shape)], [out]);
  return out;
}

/** The parts side by side on the last axis. */
export function concatLast(g: Graph, parts: readonly Value[]): Value {
  const width = parts.reduce((sum, part) => sum + Number(last(part)), 0);
  const out = { name: g.path('concat'), dtype: parts[0]!.dtype, dims: withLast(parts[0]!, width) };
  g.node('Concat', parts, [out], { axis: { int: -1 } });
  return out;
}

/** The last axis cut into parts of these sizes. */
export function splitLast(g: Graph, x: Value, sizes: readonly number[]): Value[] {
  const parts = sizes.map((size) => ({ ...x, name: g.path('part'), dims: withLast(x, size) }));
  g.node('Split', [x, g.ints(sizes)], parts, { axis: { int: -1 } });
  return parts;
}

/** The first axis of x cut into `parts`; `counts` i64 [parts] has the rows of each. */
export function splitRows(g: Graph, x: Value, counts: Value, parts: number): Value[] {
  const cut = Array.from({ length: parts }, () => ({ ...x, name: g.path('group'), dims: [g.path('rows'), ...x.dims.slice(1)] }));
  g.node('Split', [x, counts], cut, { axis: { int: 0 } });
  return cut;
}

/** The parts one after another on the first axis. */
export function concatRows(g: Graph, parts: readonly Value[]): Value {
  const out = { ...parts[0]!, name: g.path('concat'), dims: [g.path('rows'), ...parts[0]!.dims.slice(1)] };
  g.node('Concat', parts, [out], { axis: { int: 0 } });
  return out;
}

export function softmax(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('softmax') };
  g.node('Softmax', [x], [out], { axis: { int: -1 } });
  return out;
}

export function sigmoid(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('sigmoid') };
  g.node('Sigmoid', [x], [out]);
  return out;
}

/** The k first elements of each row (last axis) by size, and where they were; `kept` is k as a size. */
export function topK(g: Graph, x: Value, k: Value, { largest, kept }: { largest: boolean; kept: Dim }): { values: Value; indices: Value } {
  const values = { ...x, name: g.path('top'), dims: withLast(x, kept) };
  const indices: Value = { name: g.path('top_index'), dtype: 'i64', dims: values.dims };
  g.node('TopK', [x, k], [values, indices], { axis: { int: -1 }, largest: { int: largest ? 1 : 0 } });
  return { values, indices };
}

/** Sum over one axis. */
export function sum(g: Graph, x: Value, axis: number, keep: boolean): Value {
  const dims = keep ? x.dims.map((d, i) => (i === axis ? 1 : d)) : x.dims.filter((_, i) => i !== axis);
  const out = { ...x, name: g.path('sum'), dims };
  g.node('ReduceSum', [x, g.ints([axis])], [out], { keepdims: { int: keep ? 1 : 0 } });
  return out;
}

/** Of each element, the sum of those before it on the first axis. */
export function sumBefore(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('before') };
  g.node('CumSum', [x, g.scalar('i64', 0)], [out], { exclusive: { int: 1 } });
  return out;
}

/** Of each element, the sum of those up to it on the first axis. */
export function sumUpTo(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('up_to') };
  g.node('CumSum', [x, g.scalar('i64', 0)], [out]);
  return out;
}

/** −1, 0 or 1. */
export function sign(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('sign') };
  g.node('Sign', [x], [out]);
  return out;
}

export function cast(g: Graph, x: Value, dtype: DType): Value {
  const out = { ...x, name: g.path('cast'), dtype };
  g.node('Cast', [x], [out], { to: { int: onnxCode[dtype] } });
  return out;
}

/** [m, n] → [n, m]. */
export function transpose(g: Graph, x: Value): Value {
  const out = { ...x, name: g.path('transposed'), dims: x.dims.toReversed() };
  g.node('Transpose', [x], [out], { perm: { ints: [1, 0] } });
  return out;
}

/** Where the elements of x [n] are that are not 0. */
export function nonZero(g: Graph, x: Value): Value {
  const found: Value = { name: g.path('found'), dtype: 'i64', dims: [1, 'found'] };
  g.node('NonZero', [x], [found]);
  return reshape(g, found, [-1], ['found']);
}

/** 1 where a and b are equal, else 0; i64 of the broadcast shape `dims`. */
export function equal(g: Graph, a: Value, b: Value, dims: readonly Dim[]): Value {
  const same: Value = { name: g.path('same'), dtype: 'u8', dims };
  const out: Value = { name: g.path('equal'), dtype: 'i64', dims };
  g.node('Equal', [a, b], [same]);
  g.node('Cast', [same], [out], { to: { int: onnxCode.i64 } });
  return out;
}

/** The sizes of all axes, or of one. */
export function shape(g: Graph, x: Value, axis?: number): Value {
  const out: Value = { name: g.path('shape'), dtype: 'i64', dims: [axis === undefined ? x.dims.length : 1] };
  g.node('Shape', [x], [out], axis === undefined ? {} : { start: { int: axis }, end: { int: axis + 1 } });
  return out;
}

/** gain ∘ (s − mean(s)) / √(var(s) + ε) + bias by row, of s = x + y. */
export function addLayerNorm(g: Graph, x: Value, y: Value, { gain, bias, epsilon }: { gain: Value; bias: Value; epsilon: number }): Value {
  const out = { ...x, name: g.path('norm') };
  g.node('SkipLayerNormalization', [x, y, gain, bias], [out], { epsilon: { float: epsilon } }, 'com.microsoft');
  return out;
}

/** gain ∘ x / √(mean(x²) + ε) by row. */
export function rmsNorm(g: Graph, x: Value, gain: Value, epsilon: number): Value {
  const out = { ...x, name: g.path('norm') };
  g.node('SimplifiedLayerNormalization', [x, gain], [out], { axis: { int: -1 }, epsilon: { float: epsilon } });
  return out;
}

/**
 * (a − aZero)[..., k] · b [k, n] accumulated exactly in 32-bit integers, times aScale · bScale[n].
 * A row's result does not depend on the other rows.
 */
export function matmulInteger(g: Graph, a: Value, aScale: Value, aZero: Value, b: Value, bScale: Value, bZero: Value, leaf: string): Value {
  const out: Value = { name: g.path(leaf), dtype: 'f32', dims: withLast(a, last(b)) };
  g.node('MatMulIntegerToFloat', [a, b, aScale, bScale, aZero, bZero], [out], {}, 'com.microsoft');
  return out;
}

export interface PagedAttentionOptions {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Factor on q·k before the softmax. */
  scale: number;
  /** Whether a query sees only positions up to its own; otherwise all of its row, which must then be whole. Default: it does. */
  causal?: boolean;
  /** A query sees this many positions, its own included; 0: all. */
  window: number;
  /** Scores s become cap · tanh(s / cap); 0: they stay. */
  softcap: number;
  /** cos and sin [positions, dims/2]: the first `dims` channels of a head are turned, i with i + dims/2; null: none. */
  rotary: { cos: Value; sin: Value; dims: number } | null;
  /** Gains [headDim] of the RMS norms of each head's q and k; null: none. */
  norms: { q: Value; k: Value; epsilon: number } | null;
}

/**
 * Attention of many sequences at once over a pool of pages of 32 tokens, which it fills (gpu-worker/kernels/attention.c).
 *
 *   qkv [T, (heads + 2 kvHeads)·headDim] → [T, heads·headDim];  pool f32 | f16 [pages, 2·kvHeads·32·headDim]
 *   rows i32 [R, 3]: first token, tokens, tokens before them;   pages i32 [R, P]: where each 32 positions of a row lie
 *
 * A token's result is the same bits however its sequence was cut into runs and whatever else is in them.
 */
export function pagedAttention(
  g: Graph,
  qkv: Value,
  pool: Value,
  step: { rows: Value; pages: Value },
  { heads, kvHeads, headDim, scale, causal = true, window, softcap, rotary, norms }: PagedAttentionOptions,
): Value {
  const out = { name: g.path('attention'), dtype: qkv.dtype, dims: withLast(qkv, heads * headDim) };
  g.node(
    'PagedAttention',
    [qkv, pool, step.rows, step.pages, rotary?.cos ?? null, rotary?.sin ?? null, norms?.q ?? null, norms?.k ?? null],
    [out],
    {
      heads: { int: heads },
      kv_heads: { int: kvHeads },
      causal: { int: causal ? 1 : 0 },
      window: { int: window },
      rotary: { int: rotary?.dims ?? 0 },
      scale: { float: scale },
      softcap: { float: softcap },
      epsilon: { float: norms?.epsilon ?? 0 },
    },
    'switchyard',
  );
  return out;
}
