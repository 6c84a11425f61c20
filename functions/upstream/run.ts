/** A checked request from its handler to its answer, under its Idempotency-Key if it has one. */
import type { Context } from 'hono';
import type { AppEnv } from '../env.ts';
import { tenantOf } from '../middleware/authenticate.ts';
import type { Asked } from '../registry/resolve.ts';
import type { Work } from './admission.ts';
import { admit } from './admit.ts';
import { idempotencyKey, once } from './idempotent.ts';

export async function run(c: Context<AppEnv>, work: Work, mixture: Asked['adapters']): Promise<Response> {
  const { tenant } = tenantOf(c);
  const key = idempotencyKey(c);
  if (key === null) return admit(c, work, mixture, c.req.raw.signal);
  return once(c, tenant.id, key, [work, mixture ?? null], () => admit(c, work, mixture, null));
}
