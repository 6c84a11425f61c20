/** Who a key belongs to. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { AppEnv } from '../env.ts';
import { anyKey } from '../middleware/authenticate.ts';
import { getTenant } from '../tenancy/tenants.ts';

export const tenancy = new OpenAPIHono<AppEnv>();

tenancy.get('/v1/me', anyKey(), async (c) => {
  const principal = c.get('principal');
  if (principal.kind === 'admin') return c.json({ scope: 'admin', tenant: null, key_id: null });
  return c.json({ scope: 'tenant', tenant: await getTenant(c.env, principal.tenant.id), key_id: principal.keyId });
});
