/** What a mixture of experts does around its experts: choosing, bringing rows into groups, and back. */
import type { Graph, Value } from './ir.ts';
import * as ops from './ops.ts';

/** The k largest of each row of probs [tokens, experts], best first; `renormalise`: their weights sum to one. */
export function best(g: Graph, probs: Value, k: number, renormalise: boolean): { weights: Value; chosen: Value } {
  const { values, indices } = ops.topK(g, probs, g.ints([k]), { largest: true, kept: k });
  const weights = renormalise ? ops.div(g, values, ops.sum(g, values, 1, true), 'renormalised') : values;
  return { weights, chosen: indices };
}

export interface Groups {
  /** i64 [tokens · k]: the token of each row, in the order of the experts, tokens of one expert in their own order. */
  tokens: Value;
  /** i64 [tokens · k]: where the row of token t and choice j, at t · k + j, lies in that order. */
  places: Value;
  /** i64 [experts]: rows of each. */
  counts: Value;
}

/** Stable counting sort of chosen [tokens, k] by expert. */
export function groupByExpert(g: Graph, chosen: Value, k: number, experts: number): Groups {
  const rows = ops.reshape(g, chosen, [-1, 1], ['choices', 1]);
  const numbers = g.ints(Array.from({ length: experts }, (_, e) => e));
  const isOf = ops.equal(g, rows, numbers, ['choices', experts]);
  const counts = ops.sum(g, isOf, 0, false);
  const before = ops.add(g, ops.sumBefore(g, isOf), ops.sumBefore(g, counts), 'before');
  const places = ops.sum(g, ops.mul(g, isOf, before, 'own'), 1, false);
  const order = ops.topK(g, places, ops.shape(g, places), { largest: false, kept: 'choices' }).indices;
  return { tokens: ops.div(g, order, g.scalar('i64', k), 'tokens'), places, counts };
}

/** y [tokens · k, width], weights [tokens, k] → Σ_j weights[t, j] · y[t · k + j], [tokens, width]. */
export function weightedSum(g: Graph, y: Value, weights: Value, k: number): Value {
  const width = Number(y.dims[1]);
  const choices = ops.reshape(g, y, [-1, k, width], ['tokens', k, width]);
  const factors = ops.reshape(g, weights, [-1, k, 1], ['tokens', k, 1]);
  return ops.sum(g, ops.mul(g, choices, factors, 'weighted'), 1, false);
}
