/** Adapters: upload, versions, card, pins, deletion. A 201 means sealed, stored and servable. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { z } from 'zod';
import { Adapter, AdapterSummary, PinRequest, UploadFields, VersionFields } from '../../shared/contract/adapters.ts';
import { AdapterCard, type SealResult } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { AppEnv } from '../env.ts';
import { anyKey, tenantOf } from '../middleware/authenticate.ts';
import { check, readJson } from '../middleware/body.ts';
import { addVersion, createAdapter, deleteAdapter, getAdapter, listAdapters, listVersions, requireFree } from '../registry/adapters.ts';
import { pinAdapter, unpinAdapter } from '../registry/pins.ts';
import { chooseBase, Refusal, seal } from '../registry/seal.ts';
import { discardPackage, type StagedPackage, stagePackage } from '../storage/packages.ts';
import { liveWorkers, servedBases } from '../upstream/snapshot.ts';
import { describe, listOf } from './describe.ts';

export const adapters = new OpenAPIHono<AppEnv>();
adapters.use('/v1/adapters', anyKey());
adapters.use('/v1/adapters/*', anyKey());

const Deleted = z.object({ id: z.string(), object: z.literal('adapter'), name: z.string(), deleted: z.literal(true) });
const Files = { files: z.array(z.string().meta({ format: 'binary' })) };

describe(adapters, { method: 'get', path: '/v1/adapters', summary: 'List your adapters', answer: listOf(AdapterSummary) });
adapters.get('/v1/adapters', async (c) => {
  const rows = await listAdapters(c.env, tenantOf(c).tenant.id);
  return c.json({ object: 'list', data: rows.map(({ tenant: _tenant, ...row }) => row) });
});

describe(adapters, {
  method: 'post',
  path: '/v1/adapters',
  summary: 'Upload an adapter: a PEFT package as files or as one archive',
  form: UploadFields.extend(Files),
  answer: Adapter,
  status: 201,
});
adapters.post('/v1/adapters', (c) => {
  const tenant = tenantOf(c).tenant.id;
  return receive(c, tenant, async (staged) => {
    const { name, base: asked } = check(UploadFields, staged.fields);
    await requireFree(c.env, tenant, name);
    const base = await chooseBase(c.env, asked);
    if (servedBases(await liveWorkers(c.env)).some((b) => b.id === name)) throw isBase(name);
    return { base, store: (sealed) => createAdapter(c.env, tenant, name, staged.upload, sealed) };
  });
});

describe(adapters, { method: 'get', path: '/v1/adapters/{name}', summary: 'Describe an adapter', answer: Adapter });
adapters.get('/v1/adapters/:name', async (c) => c.json(await getAdapter(c.env, tenantOf(c).tenant.id, c.req.param('name'))));

describe(adapters, { method: 'get', path: '/v1/adapters/{name}/card', summary: "Read an adapter's card", answer: AdapterCard });
adapters.get('/v1/adapters/:name/card', async (c) => {
  const { card } = await getAdapter(c.env, tenantOf(c).tenant.id, c.req.param('name'));
  return c.json(card);
});

describe(adapters, {
  method: 'get',
  path: '/v1/adapters/{name}/versions',
  summary: 'List versions, newest first',
  answer: listOf(AdapterSummary),
});
adapters.get('/v1/adapters/:name/versions', async (c) => {
  return c.json({ object: 'list', data: await listVersions(c.env, tenantOf(c).tenant.id, c.req.param('name')) });
});

describe(adapters, {
  method: 'post',
  path: '/v1/adapters/{name}/versions',
  summary: 'Upload another version',
  form: VersionFields.extend(Files),
  answer: Adapter,
  status: 201,
});
adapters.post('/v1/adapters/:name/versions', async (c) => {
  const tenant = tenantOf(c).tenant.id;
  const current = await getAdapter(c.env, tenant, c.req.param('name'));
  return receive(c, tenant, async (staged) => {
    check(VersionFields, staged.fields);
    return { base: current.base, store: (sealed) => addVersion(c.env, tenant, current, staged.upload, sealed) };
  });
});

describe(adapters, {
  method: 'post',
  path: '/v1/adapters/{name}/pin',
  summary: 'Keep an adapter in memory',
  body: PinRequest,
  answer: Adapter,
});
adapters.post('/v1/adapters/:name/pin', async (c) => {
  const { pinned, version } = await readJson(c, PinRequest);
  const change = pinned ? pinAdapter : unpinAdapter;
  return c.json(await change(c.env, tenantOf(c).tenant.id, c.req.param('name'), version ?? null));
});

describe(adapters, { method: 'delete', path: '/v1/adapters/{name}/pin', summary: 'Keep it in memory no longer', answer: Adapter });
adapters.delete('/v1/adapters/:name/pin', async (c) => {
  return c.json(await unpinAdapter(c.env, tenantOf(c).tenant.id, c.req.param('name'), null));
});

describe(adapters, { method: 'delete', path: '/v1/adapters/{name}', summary: 'Delete an adapter with all its versions', answer: Deleted });
adapters.delete('/v1/adapters/:name', async (c) => {
  const tenant = tenantOf(c).tenant.id;
  const name = c.req.param('name');
  const { id, uploads } = await deleteAdapter(c.env, tenant, name);
  c.executionCtx.waitUntil(Promise.all(uploads.map((upload) => discardPackage(c.env.BUCKET, tenant, upload))));
  return c.json({ id, object: 'adapter', name, deleted: true });
});

interface Plan {
  base: string;
  store: (sealed: SealResult) => Promise<Adapter>;
}

/** Stage → plan → seal → store. It runs to its end even if the client leaves, so that it either happened or left nothing. */
async function receive(c: Context<AppEnv>, tenant: string, plan: (staged: StagedPackage) => Promise<Plan>): Promise<Response> {
  const log = { requestId: c.get('requestId'), trace: c.get('trace') };
  const work = async (): Promise<Response> => {
    const staged = await stagePackage(c.env.BUCKET, tenant, c.req.raw);
    try {
      if (staged.files.length === 0) throw new Failure({ kind: 'invalid_request', message: 'The upload holds no files.', param: 'files' });
      const { base, store } = await plan(staged);
      return c.json(await store(await seal(c.env, { tenant, base, files: staged.files }, log)), 201);
    } catch (error) {
      await discardPackage(c.env.BUCKET, tenant, staged.upload);
      if (error instanceof Refusal) return error.response;
      throw error;
    }
  };
  const done = work();
  c.executionCtx.waitUntil(done.catch(() => undefined));
  return done;
}

function isBase(name: string): Failure {
  return new Failure({ kind: 'conflict', message: `name: ${JSON.stringify(name)} is a base's id`, param: 'name', code: 'name_taken' });
}
