/** Usage and invoices read from a ledger's tables. */
import { CURRENCY } from '../../shared/billing/prices.ts';
import type { GroupBy, Invoice, UsageList } from '../../shared/contract/billing.ts';

const TALLY = `count(*) requests, coalesce(sum(prompt_tokens), 0) prompt_tokens, coalesce(sum(cached_tokens), 0) cached_tokens,
  coalesce(sum(completion_tokens), 0) completion_tokens, 0 training_tokens, coalesce(sum(cost_nano), 0) cost_nano`;

type Tally = UsageList['total'];

/** The column that names a group's bucket. */
function columnOf(by: GroupBy): string {
  switch (by) {
    case 'day':
      return 'day';
    case 'adapter':
      return 'lane';
    case 'key':
      return 'key_id';
    case 'model':
      return 'model';
    default:
      return by satisfies never;
  }
}

/** Requests that finished in [from, to), in milliseconds since the epoch. */
export function usage(sql: SqlStorage, from: number, to: number, by: GroupBy): UsageList {
  const column = columnOf(by);
  const rows = sql.exec<Tally & { bucket: string; adapter_count: number }>(
    `SELECT ${column} bucket, max(adapter_count) adapter_count, ${TALLY} FROM usage
       WHERE finished_at >= ? AND finished_at < ? GROUP BY ${column} ORDER BY ${column}`,
    from,
    to,
  );
  const [total] = sql.exec<Tally>(`SELECT ${TALLY} FROM usage WHERE finished_at >= ? AND finished_at < ?`, from, to);
  const data = rows.toArray().map(({ adapter_count, ...row }) => ({
    ...row,
    ...(by === 'adapter' && adapter_count === 1 ? { adapter_digest: row.bucket } : {}),
    ...(by === 'model' ? { model: row.bucket } : {}),
  }));
  return { object: 'list', data, total: total! };
}

/** Lines of one calendar month (UTC); amounts are exact, so their sum is what was posted. */
export function invoice(sql: SqlStorage, month: string): Invoice {
  const lines = sql
    .exec<Invoice['lines'][number]>(
      `SELECT u.lane digest, u.model, c.unit, sum(c.quantity) quantity, c.price_nano, sum(c.quantity) * c.price_nano amount_nano
         FROM usage u JOIN charges c USING (request_id) WHERE u.day BETWEEN ?1 || '-01' AND ?1 || '-31'
         GROUP BY u.lane, u.model, c.unit, c.price_nano ORDER BY u.model, u.lane, c.unit`,
      month,
    )
    .toArray();
  return { month, lines, amount_nano: lines.reduce((sum, line) => sum + line.amount_nano, 0), currency: CURRENCY };
}
