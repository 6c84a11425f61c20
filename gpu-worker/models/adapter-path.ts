/**
 * The adapter path beside a linear, one adapter for each sequence of the batch:
 *
 *   x [b, s, in] ─┬─ base linear ──────────────────────────(+)─ y [b, s, out]
 *                 └─ · A [b, in, r] ── · B [b, r, out] ─────┘
 *
 * A and B are inputs: switching adapters binds other memory. A sequence without an adapter has zeros.
 */
import type { Graph, Value } from '../graph/ir.ts';
import * as ops from '../graph/ops.ts';
import { intoBasis, type LinearSpec, transpose } from './linear.ts';

export const factorNames = (path: string) => ({ A: `${path}.A`, B: `${path}.B` });

export function addAdapterPath(g: Graph, x: Value, y: Value, specs: readonly LinearSpec[]): Value {
  const deltas = specs.map((spec) => {
    const names = factorNames(spec.path);
    const a = g.input(names.A, 'f32', ['batch', spec.in, 'rank']);
    const b = g.input(names.B, 'f32', ['batch', 'rank', spec.out]);
    return ops.matmul(g, ops.matmul(g, x, a, 'down'), b, 'up');
  });
  return ops.add(g, y, deltas.length === 1 ? deltas[0]! : ops.concatLast(g, deltas), 'adapted');
}

/** Factors of one linear as they are served. */
export interface ServedFactors {
  rank: number;
  /** [in, rank] */
  A: Float32Array;
  /** [rank, out] */
  B: Float32Array;
}

/**
 * Brings sealed factors, A [rank, in] and B [out, rank], into the bases and the layout that the graph reads: writes
 * `a` [in, rank] and `b` [rank, out]. The sealed A is consumed.
 */
export function writeServedFactors(sealed: ServedFactors, spec: LinearSpec, a: Float32Array, b: Float32Array): void {
  intoBasis(sealed.A, spec.in, spec.input);
  transpose(sealed.A, sealed.rank, spec.in, a);
  transpose(sealed.B, spec.out, sealed.rank, b);
  intoBasis(b, spec.out, spec.output);
}
