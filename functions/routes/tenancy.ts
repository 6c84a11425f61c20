/** Who a key belongs to. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { Tenant } from '../../shared/contract/admin.ts';
import type { AppEnv } from '../env.ts';
import { anyKey } from '../middleware/authenticate.ts';
import { getTenant } from '../tenancy/tenants.ts';
import { describe } from './describe.ts';

export const tenancy = new OpenAPIHono<AppEnv>();

const Me = z.object({ scope: z.enum(['admin', 'tenant']), tenant: Tenant.nullable(), key_id: z.string().nullable() });

describe(tenancy, { method: 'get', path: '/v1/me', summary: 'Whose key this is', answer: Me });
tenancy.get('/v1/me', anyKey(), async (c) => {
  const principal = c.get('principal');
  if (principal.kind === 'admin') return c.json({ scope: 'admin', tenant: null, key_id: null });
  return c.json({ scope: 'tenant', tenant: await getTenant(c.env, principal.tenant.id), key_id: principal.keyId });
});
