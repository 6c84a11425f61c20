/** Attention over the cache, apart from the projections around it. */
import { Failure } from '../../../shared/errors.ts';
import type { Graph, Value } from '../../graph/ir.ts';
import * as ops from '../../graph/ops.ts';
import type { DecoderInputs } from '../family.ts';

export interface AttendOptions {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Factor on q·k before the softmax. */
  scale: number;
  /** A query sees this many positions, its own included; 0: all. */
  window: number;
  /** Scores s become cap · tanh(s / cap); 0: they stay. */
  softcap: number;
  /** cos and sin [positions, dims/2]; the first `dims` channels of a head are turned, i with i + dims/2. */
  rotary: { cos: Value; sin: Value; dims: number };
  /** Gains [headDim] of the RMS norms of each head's q and k. */
  norms: { q: Value; k: Value; epsilon: number } | null;
}

/** The attention operator's own limit. */
const HEAD_MULTIPLE = 16;

/** qkv [..., (heads + 2 kvHeads)·headDim] → [..., heads·headDim]; extends the cache of `layer`. */
export function attend(g: Graph, qkv: Value, layer: number, inputs: DecoderInputs, options: AttendOptions): Value {
  const { headDim, rotary, norms } = options;
  if (headDim % HEAD_MULTIPLE !== 0) {
    const message = `attention: head_dim: expected a multiple of ${HEAD_MULTIPLE}, got ${headDim}`;
    throw new Failure({ kind: 'unsupported', message });
  }
  if (rotary.dims !== headDim) {
    throw new Failure({ kind: 'unsupported', message: `attention: partial_rotary_factor: expected 1, got ${rotary.dims / headDim}` });
  }
  const parts = norms ? normedParts(g, qkv, options, norms) : [qkv];
  const position = { lastIndex: inputs.lastIndex, total: inputs.total, cos: rotary.cos, sin: rotary.sin };
  const present = { key: `present.${layer}.key`, value: `present.${layer}.value` };
  const { out, key, value } = ops.cachedAttention(g, parts, inputs.cache(layer), position, present, options);
  g.output(key);
  g.output(value);
  return out;
}

/** q, k and v apart, q and k normed. */
function normedParts(
  g: Graph,
  qkv: Value,
  { heads, kvHeads, headDim }: AttendOptions,
  norms: NonNullable<AttendOptions['norms']>,
): Value[] {
  const [q, k, v] = ops.splitLast(g, qkv, [heads * headDim, kvHeads * headDim, kvHeads * headDim]);
  return [normHeads(g, q!, heads, norms.q, norms.epsilon), normHeads(g, k!, kvHeads, norms.k, norms.epsilon), v!];
}

/** RMS norm of each head of x [..., heads·headDim]. */
function normHeads(g: Graph, x: Value, heads: number, gain: Value, epsilon: number): Value {
  const outer = x.dims.slice(0, -1);
  const kept = outer.map(() => 0);
  const width = Number(x.dims.at(-1));
  const cut = ops.reshape(g, x, [...kept, heads, width / heads], [...outer, heads, width / heads]);
  return ops.reshape(g, ops.rmsNorm(g, cut, gain, epsilon), [...kept, width], x.dims);
}
