/**
 * Grouped-query attention (arXiv:2305.13245) with rotary positions, and what families add to it.
 *
 *   x ── q k v ── norms of q and k ── rotary → pages → softmax(cap(scale · q kᵀ) + window) v ── o ── y
 *
 * Under a precision that rotates, values are turned head by head: the sums over positions do not mind.
 */
import { Failure } from '../../../shared/errors.ts';
import type { Value } from '../../graph/ir.ts';
import * as ops from '../../graph/ops.ts';
import { type Basis, type LinearSpec, ORIGINAL } from '../linear.ts';
import { type Rotary, rotaryTables } from '../rope.ts';
import { rotation } from '../rotation.ts';
import type { ModelConfig } from '../source/config.ts';
import type { Building, MakeBlock } from './block.ts';
import { tailBasis } from './rotate.ts';

interface AttentionShape {
  hidden: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

export interface AttentionOptions extends AttentionShape {
  rotary: Rotary;
  /** Factor on q·k before the softmax; 1/√headDim unless told otherwise. */
  scale?: number;
  /** A query sees this many positions, its own included; 0: all. */
  window?: number;
  /** Scores s become cap · tanh(s / cap); 0: they stay. */
  softcap?: number;
  biasQkv?: boolean;
  biasO?: boolean;
  /** q, k and v as one module (phi3). */
  fused?: boolean;
  /** RMS norms of q and k before they are turned: of each head, or of the whole projection. */
  norms?: { of: 'head' | 'projection'; epsilon: number };
}

export const shapeOf = (c: ModelConfig): AttentionShape => ({
  hidden: c.hidden_size,
  heads: c.num_attention_heads,
  kvHeads: c.num_key_value_heads,
  headDim: c.head_dim,
});

export const attention =
  ({ hidden, heads, kvHeads, headDim, rotary, norms, ...options }: AttentionOptions): MakeBlock =>
  (site) => {
    const at = `${site.path}.self_attn`;
    const [q, kv] = [heads * headDim, kvHeads * headDim];
    const turned: Basis = site.rotated ? { gain: null, rotation: rotation(headDim) } : ORIGINAL;
    const reads = { in: hidden, bias: options.biasQkv ?? false, input: site.input };
    const qkv: LinearSpec[] = options.fused
      ? [{ path: `${at}.qkv_proj`, out: q + 2 * kv, ...reads, output: tailBasis(turned, q + kv, q + 2 * kv) }]
      : [
          { path: `${at}.q_proj`, out: q, ...reads, output: ORIGINAL },
          { path: `${at}.k_proj`, out: kv, ...reads, output: ORIGINAL },
          { path: `${at}.v_proj`, out: kv, ...reads, output: turned },
        ];
    const o: LinearSpec = {
      path: `${at}.o_proj`,
      in: q,
      out: hidden,
      bias: options.biasO ?? false,
      input: turned,
      output: site.output,
    };
    const widths = norms?.of === 'head' ? [headDim, headDim] : [q, kv];
    const gainOf = (b: Building, i: 0 | 1) => b.gain(`${at}.${NORMS[i]}`, widths[i]!);

    /** The projections of q and k normed as wholes. */
    function normProjections(b: Building, joint: Value, epsilon: number): Value {
      const [queries, keys, values] = ops.splitLast(b.g, joint, [q, kv, kv]);
      return ops.concatLast(b.g, [
        ops.rmsNorm(b.g, queries!, gainOf(b, 0), epsilon),
        ops.rmsNorm(b.g, keys!, gainOf(b, 1), epsilon),
        values!,
      ]);
    }

    return {
      name: 'attn',
      linears: [...qkv, o],
      norms: new Map(norms ? NORMS.map((name, i) => [`${at}.${name}`, widths[i]!]) : []),
      build(b, x) {
        const { g, linear } = b;
        checkHeadSize(headDim);
        const joint = g.within('qkv', () => linear(x, ...qkv));
        const normed = norms?.of === 'projection' ? normProjections(b, joint, norms.epsilon) : joint;
        const attended = ops.pagedAttention(g, normed, b.inputs.pool(b.layer), b.inputs, {
          heads,
          kvHeads,
          headDim,
          scale: options.scale ?? headDim ** -0.5,
          window: options.window ?? 0,
          softcap: options.softcap ?? 0,
          rotary: rotaryTables(g, rotary),
          norms: norms?.of === 'head' ? { q: gainOf(b, 0), k: gainOf(b, 1), epsilon: norms.epsilon } : null,
        });
        return g.within('o', () => linear(attended, o));
      },
    };
  };

/** The kernel's own limits. */
const [HEAD_MULTIPLE, MOST_HEAD] = [8, 512];

function checkHeadSize(headDim: number): void {
  if (headDim % HEAD_MULTIPLE === 0 && headDim <= MOST_HEAD) return;
  const message = `attention: head_dim: expected a multiple of ${HEAD_MULTIPLE} up to ${MOST_HEAD}, got ${headDim}`;
  throw new Failure({ kind: 'unsupported', message });
}

const NORMS = ['q_norm', 'k_norm'] as const;
