/** What a mixture of experts does around its experts: choosing, bringing rows into groups, and back. */
import type { Graph, Value } from './ir.ts';
import type { AdaptedRows } from './kernels.ts';
import * as ops from './ops.ts';

/** The k largest of each row of probs [tokens, experts], best first; `renormalise`: their weights sum to one. */
export function best(g: Graph, probs: Value, k: number, renormalise: boolean): { weights: Value; chosen: Value } {
  const { values, indices } = ops.topK(g, probs, g.ints([k]), { largest: true, kept: k });
  const weights = renormalise ? ops.div(g, values, ops.sum(g, values, 1, true), 'renormalised') : values;
  return { weights, chosen: indices };
}

export interface Groups {
  /** i64 [tokens · k, experts]: 1 where a row is the expert's, else 0. */
  isOf: Value;
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
  return { tokens: ops.div(g, order, g.scalar('i64', k), 'tokens'), places, counts, isOf };
}

/** Bytes of an entry in adapters' tables. */
const ENTRY_BYTES = 32;

/**
 * Rows and adapters for grouped rows as FinishLinear reads them: one row for the tokens that a row has in a group, if it
 * has any. Its adapters' tables begin at the expert's entries, `entries` of them behind those of the expert before.
 */
export function adaptedGroups(g: Graph, { rows, adapters }: AdaptedRows, { isOf }: Groups, k: number, entries: number): AdaptedRows {
  const experts = Number(isOf.dims[1]);
  const none = g.constant('none', 'i64', [1, experts], new BigInt64Array(experts));
  const upTo = ops.concatRows(g, [none, ops.sumUpTo(g, isOf)]);
  const [first, length] = ops.splitLast(g, ops.cast(g, rows, 'i64'), [1, 1, 1]);
  const choice = (token: Value) => ops.reshape(g, ops.mul(g, token, g.scalar('i64', k), 'choice'), [-1], ['rows']);
  const [from, to] = [ops.gatherRows(g, upTo, choice(first!)), ops.gatherRows(g, upTo, choice(ops.add(g, first!, length!)))];
  const lengths = ops.reshape(g, ops.transpose(g, ops.sub(g, to, from)), [-1], ['parts']);
  const parts = ops.nonZero(g, lengths);

  const taken = ops.reshape(g, ops.gatherRows(g, lengths, parts), [-1, 1], ['taken', 1]);
  const table = ops.concatLast(g, [ops.sumBefore(g, taken), taken, taken]);

  const count = ops.shape(g, first!, 0);
  const used = ops.gatherRows(g, adapters, ops.mod(g, parts, count));
  const offset = ops.mul(g, ops.div(g, parts, count, 'expert'), g.scalar('i64', entries * ENTRY_BYTES), 'offset');
  const toAddress = g.constant('to_address', 'i64', [2], BigInt64Array.of(1n, 0n));
  const offsets = ops.mul(g, ops.reshape(g, offset, [-1, 1, 1], ['taken', 1, 1]), toAddress, 'offsets');
  const present = ops.sign(g, used);
  return { rows: ops.cast(g, table, 'i32'), adapters: ops.add(g, used, ops.mul(g, ops.mul(g, present, present), offsets), 'at_expert') };
}

/** y [tokens · k, width], weights [tokens, k] → Σ_j weights[t, j] · y[t · k + j], [tokens, width]. */
export function weightedSum(g: Graph, y: Value, weights: Value, k: number): Value {
  const width = Number(y.dims[1]);
  const choices = ops.reshape(g, y, [-1, k, width], ['tokens', k, width]);
  const factors = ops.reshape(g, weights, [-1, k, 1], ['tokens', k, 1]);
  return ops.sum(g, ops.mul(g, choices, factors, 'weighted'), 1, false);
}
