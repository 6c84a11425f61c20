/** Usage and invoices as a tenant reads them. Amounts are integer nano-USD. */
import { z } from 'zod';
import { UNITS } from '../billing/amounts.ts';
import { Digest } from '../ids.ts';

const count = z.number().int().nonnegative();

export const GroupBy = z.enum(['day', 'adapter', 'key', 'model']);
export type GroupBy = z.infer<typeof GroupBy>;

const Tally = z.strictObject({
  requests: count,
  prompt_tokens: count,
  cached_tokens: count,
  completion_tokens: count,
  training_tokens: count,
  cost_nano: count,
});

export const UsageRow = Tally.extend({
  /** The day (UTC), adapter digest (or base revision), key id or model name that the row is about. */
  bucket: z.string(),
  /** With group_by=adapter: absent for the bare base and for mixtures, whose digests `bucket` joins with "+". */
  adapter_digest: Digest.optional(),
  /** With group_by=model. */
  model: z.string().optional(),
});
export type UsageRow = z.infer<typeof UsageRow>;

export const UsageList = z.strictObject({ object: z.literal('list'), data: z.array(UsageRow), total: Tally });
export type UsageList = z.infer<typeof UsageList>;

export const InvoiceLine = z.strictObject({
  /** The adapter's digest; the base's revision for requests without one; digests joined with "+" for mixtures. */
  digest: z.string(),
  model: z.string(),
  unit: z.enum(UNITS),
  quantity: count,
  price_nano: count,
  amount_nano: count,
});

export const Invoice = z.strictObject({
  month: z.string().regex(/^\d{4}-(0[1-9]|1[0-2])$/),
  lines: z.array(InvoiceLine),
  amount_nano: count,
  currency: z.string(),
});
export type Invoice = z.infer<typeof Invoice>;

/** One tenant's counts in tokens: what engines generated, what is billed, what waits at workers, what is held for running requests. */
export const Reconciliation = z.strictObject({
  tenant: z.string(),
  engine_committed: count,
  settled: count,
  outbox: count,
  reserved: count,
});
export type Reconciliation = z.infer<typeof Reconciliation>;
