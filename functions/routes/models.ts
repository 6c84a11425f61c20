/** OpenAI's model list: the bases that live workers serve, then the caller's adapters. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { AppEnv } from '../env.ts';
import { anyKey } from '../middleware/authenticate.ts';
import { listAdapters } from '../registry/adapters.ts';
import { modelNotFound } from '../registry/resolve.ts';
import { liveWorkers, servedBases } from '../upstream/snapshot.ts';

interface ModelRow {
  id: string;
  object: 'model';
  created: number;
  owned_by: string;
  /** The base that it runs on; a base is its own root. */
  root: string;
  /** The base of an adapter; null for a base. */
  parent: string | null;
}

export const models = new OpenAPIHono<AppEnv>();

models.get('/v1/models', anyKey(), async (c) => c.json({ object: 'list', data: await rows(c) }));

models.get('/v1/models/:id{.+}', anyKey(), async (c) => {
  const id = c.req.param('id');
  const row = (await rows(c)).find((m) => m.id === id);
  if (!row) throw modelNotFound(id);
  return c.json(row);
});

async function rows(c: Context<AppEnv>): Promise<ModelRow[]> {
  const principal = c.get('principal');
  const [workers, own] = await Promise.all([
    liveWorkers(c.env),
    principal.kind === 'tenant' ? listAdapters(c.env, principal.tenant.id) : [],
  ]);
  const bases = servedBases(workers).map(
    (base): ModelRow => ({ id: base.id, object: 'model', created: 0, owned_by: 'switchyard', root: base.id, parent: null }),
  );
  const adapters = own.map(
    (a): ModelRow => ({ id: a.name, object: 'model', created: a.created, owned_by: a.tenant, root: a.base, parent: a.base }),
  );
  return [...bases, ...adapters];
}
