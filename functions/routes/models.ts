/** OpenAI's model list: the bases that live workers serve, then the caller's adapters. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { z } from 'zod';
import type { AppEnv } from '../env.ts';
import { anyKey } from '../middleware/authenticate.ts';
import { listAdapters } from '../registry/adapters.ts';
import { modelNotFound } from '../registry/names.ts';
import { liveWorkers, servedBases } from '../upstream/snapshot.ts';
import { describe, listOf } from './describe.ts';

const Model = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.number(),
  owned_by: z.string(),
  /** The base that it runs on; a base is its own root. */
  root: z.string(),
  /** The base of an adapter; null for a base. */
  parent: z.string().nullable(),
});
type Model = z.infer<typeof Model>;

export const models = new OpenAPIHono<AppEnv>();

describe(models, { method: 'get', path: '/v1/models', summary: 'List bases and your adapters', answer: listOf(Model) });
models.get('/v1/models', anyKey(), async (c) => c.json({ object: 'list', data: await rows(c) }));

describe(models, { method: 'get', path: '/v1/models/{id}', summary: 'Describe one model', answer: Model });
models.get('/v1/models/:id{.+}', anyKey(), async (c) => {
  const id = c.req.param('id');
  const row = (await rows(c)).find((m) => m.id === id);
  if (!row) throw modelNotFound(id);
  return c.json(row);
});

async function rows(c: Context<AppEnv>): Promise<Model[]> {
  const principal = c.get('principal');
  const [workers, own] = await Promise.all([
    liveWorkers(c.env),
    principal.kind === 'tenant' ? listAdapters(c.env, principal.tenant.id) : [],
  ]);
  const bases = servedBases(workers).map(
    (base): Model => ({ id: base.id, object: 'model', created: 0, owned_by: 'switchyard', root: base.id, parent: null }),
  );
  const adapters = own.map(
    (a): Model => ({ id: a.name, object: 'model', created: a.created, owned_by: a.tenant, root: a.base, parent: a.base }),
  );
  return [...bases, ...adapters];
}
