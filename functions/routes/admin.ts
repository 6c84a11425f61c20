/** The administrator's routes: tenants, their keys, reconciliation. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { CreateKey, CreateTenant } from '../../shared/contract/admin.ts';
import { reconcile } from '../billing/reconcile.ts';
import type { AppEnv } from '../env.ts';
import { adminKey } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/body.ts';
import { createKey, createTenant, getTenant, listKeys, listTenants, revokeKey } from '../tenancy/tenants.ts';

export const admin = new OpenAPIHono<AppEnv>();
admin.use('/v1/admin/*', adminKey());

admin.post('/v1/admin/tenants', async (c) => c.json(await createTenant(c.env, await readJson(c, CreateTenant)), 201));
admin.get('/v1/admin/tenants', async (c) => c.json({ object: 'list', data: await listTenants(c.env) }));
admin.get('/v1/admin/tenants/:id', async (c) => c.json(await getTenant(c.env, c.req.param('id'))));

admin.post('/v1/admin/tenants/:id/keys', async (c) => {
  const { name } = await readJson(c, CreateKey);
  return c.json(await createKey(c.env, c.req.param('id'), name ?? 'unnamed'), 201);
});
admin.get('/v1/admin/tenants/:id/keys', async (c) => c.json({ object: 'list', data: await listKeys(c.env, c.req.param('id')) }));
admin.delete('/v1/admin/tenants/:id/keys/:key', async (c) => c.json(await revokeKey(c.env, c.req.param('id'), c.req.param('key'))));

admin.get('/v1/admin/reconcile', async (c) => c.json(await reconcile(c.env)));
