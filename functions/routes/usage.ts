/** A tenant's usage and invoices, straight from its ledger. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { GroupBy, Invoice, UsageList } from '../../shared/contract/billing.ts';
import { Failure } from '../../shared/errors.ts';
import { ledgerOf } from '../billing/client.ts';
import type { AppEnv } from '../env.ts';
import { anyKey, tenantOf } from '../middleware/authenticate.ts';
import { check } from '../middleware/body.ts';
import { describe } from './describe.ts';

/** A date or time (ISO 8601, UTC unless it says otherwise) or seconds since the epoch → milliseconds. */
const Instant = z
  .string()
  .transform((text) => (/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text)))
  .refine((at) => Number.isFinite(at), 'expected an ISO 8601 date or seconds since the epoch');

/** `from` is included, `to` is not. */
const UsageQuery = z.strictObject({ from: Instant.optional(), to: Instant.optional(), group_by: GroupBy.default('day') });
const Month = z.string().regex(/^\d{4}-(0[1-9]|1[0-2])$/, 'expected a month as YYYY-MM');

export const usage = new OpenAPIHono<AppEnv>();
usage.use('/v1/usage', anyKey());
usage.use('/v1/invoices/*', anyKey());

const Described = z.object({ from: z.string().optional(), to: z.string().optional(), group_by: GroupBy.optional() });
describe(usage, { method: 'get', path: '/v1/usage', summary: 'What you used', query: Described, answer: UsageList });
usage.get('/v1/usage', async (c) => {
  const { tenant } = tenantOf(c);
  const query = check(UsageQuery, c.req.query());
  const now = new Date();
  const from = query.from ?? Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1);
  const to = query.to ?? Number.MAX_SAFE_INTEGER;
  if (from > to) throw new Failure({ kind: 'invalid_request', message: 'from: expected a time before `to`', param: 'from' });
  return c.json(await ledgerOf(c.env, tenant.id).usage(from, to, query.group_by));
});

describe(usage, { method: 'get', path: '/v1/invoices/{month}', summary: 'The invoice of a month (UTC)', answer: Invoice });
usage.get('/v1/invoices/:month', async (c) => {
  const { tenant } = tenantOf(c);
  const { month } = check(z.strictObject({ month: Month }), { month: c.req.param('month') });
  return c.json(await ledgerOf(c.env, tenant.id).invoice(month));
});
