/** The administrator's routes: tenants, their keys, reconciliation. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { CreateKey, CreateTenant, Key, Tenant, UpdateTenant } from '../../shared/contract/admin.ts';
import { Reconciliation } from '../../shared/contract/billing.ts';
import { reconcile } from '../billing/reconcile.ts';
import type { AppEnv } from '../env.ts';
import { adminKey } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/body.ts';
import { createKey, createTenant, getTenant, listKeys, listTenants, revokeKey, updateTenant } from '../tenancy/tenants.ts';
import { describe, listOf } from './describe.ts';

export const admin = new OpenAPIHono<AppEnv>();
admin.use('/v1/admin/*', adminKey());

describe(admin, {
  method: 'post',
  path: '/v1/admin/tenants',
  summary: 'Create a tenant with its first key',
  body: CreateTenant,
  answer: Tenant.extend({ key: z.string() }),
  status: 201,
});
admin.post('/v1/admin/tenants', async (c) => c.json(await createTenant(c.env, await readJson(c, CreateTenant)), 201));
describe(admin, { method: 'get', path: '/v1/admin/tenants', summary: 'List tenants', answer: listOf(Tenant) });
admin.get('/v1/admin/tenants', async (c) => c.json({ object: 'list', data: await listTenants(c.env) }));
describe(admin, { method: 'get', path: '/v1/admin/tenants/{id}', summary: 'Describe a tenant', answer: Tenant });
admin.get('/v1/admin/tenants/:id', async (c) => c.json(await getTenant(c.env, c.req.param('id'))));
describe(admin, {
  method: 'patch',
  path: '/v1/admin/tenants/{id}',
  summary: "Change a tenant's name or weight",
  body: UpdateTenant,
  answer: Tenant,
});
admin.patch('/v1/admin/tenants/:id', async (c) => c.json(await updateTenant(c.env, c.req.param('id'), await readJson(c, UpdateTenant))));

describe(admin, {
  method: 'post',
  path: '/v1/admin/tenants/{id}/keys',
  summary: 'Create a key, shown once',
  body: CreateKey,
  answer: Key.extend({ key: z.string() }),
  status: 201,
});
admin.post('/v1/admin/tenants/:id/keys', async (c) => {
  const { name } = await readJson(c, CreateKey);
  return c.json(await createKey(c.env, c.req.param('id'), name ?? 'unnamed'), 201);
});
describe(admin, { method: 'get', path: '/v1/admin/tenants/{id}/keys', summary: 'List keys', answer: listOf(Key) });
admin.get('/v1/admin/tenants/:id/keys', async (c) => c.json({ object: 'list', data: await listKeys(c.env, c.req.param('id')) }));
describe(admin, { method: 'delete', path: '/v1/admin/tenants/{id}/keys/{key}', summary: 'Revoke a key', answer: Key });
admin.delete('/v1/admin/tenants/:id/keys/:key', async (c) => c.json(await revokeKey(c.env, c.req.param('id'), c.req.param('key'))));

describe(admin, {
  method: 'get',
  path: '/v1/admin/reconcile',
  summary: "Compare the engines' journals with the ledgers",
  answer: listOf(Reconciliation).extend({ workers: z.array(z.string()) }),
});
admin.get('/v1/admin/reconcile', async (c) => c.json(await reconcile(c.env)));
