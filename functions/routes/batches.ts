/** Batches: create, list, read, cancel. They run in the tenant's own object. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { Batch, CreateBatch } from '../../shared/contract/batches.ts';
import { PageQuery, pageOf, toPage } from '../../shared/contract/files.ts';
import { Failure } from '../../shared/errors.ts';
import { newBatchId, newFileId } from '../../shared/ids.ts';
import type { AppEnv, Env } from '../env.ts';
import { getFile } from '../files/files.ts';
import { anyKey, tenantOf } from '../middleware/authenticate.ts';
import { check, readJson } from '../middleware/body.ts';
import { describe } from './describe.ts';

export const batches = new OpenAPIHono<AppEnv>();
batches.use('/v1/batches', anyKey());
batches.use('/v1/batches/*', anyKey());

const WINDOW_SECONDS = 24 * 3600;

const batchesOf = (env: Env, tenant: string) => env.BATCHES.get(env.BATCHES.idFromName(tenant));

describe(batches, {
  method: 'post',
  path: '/v1/batches',
  summary: 'Answer the requests of a file within a day, at half the price',
  body: CreateBatch,
  answer: Batch,
});
batches.post('/v1/batches', async (c) => {
  const { tenant, keyId } = tenantOf(c);
  const request = await readJson(c, CreateBatch);
  await requireInput(c.env, tenant.id, request.input_file_id);
  const created = await batchesOf(c.env, tenant.id).create({
    document: begun(request, Math.floor(Date.now() / 1000)),
    job: {
      tenant: tenant.id,
      keyId,
      outputLifetimeSeconds: request.output_expires_after?.seconds ?? null,
      files: { output: newFileId(), error: newFileId() },
      ending: null,
    },
  });
  if (created) return c.json(created);
  throw new Failure({
    kind: 'rate_limited',
    message: 'Too many batches are open: wait until one is over, or cancel one.',
    retryAfterSeconds: 60,
  });
});

const Described = z.object({ after: z.string(), limit: z.string() }).partial();
describe(batches, { method: 'get', path: '/v1/batches', summary: 'List your batches', query: Described, answer: pageOf(Batch) });
batches.get('/v1/batches', async (c) => {
  const query = check(PageQuery, c.req.query());
  const found = await batchesOf(c.env, tenantOf(c).tenant.id).list(query);
  if (!found)
    throw new Failure({ kind: 'invalid_request', message: `after: no such batch: ${JSON.stringify(query.after)}`, param: 'after' });
  return c.json(toPage(found, query.limit));
});

describe(batches, { method: 'get', path: '/v1/batches/{id}', summary: 'Describe a batch', answer: Batch });
batches.get('/v1/batches/:id', async (c) => {
  const id = c.req.param('id');
  return c.json(found(await batchesOf(c.env, tenantOf(c).tenant.id).read(id), id));
});

describe(batches, { method: 'post', path: '/v1/batches/{id}/cancel', summary: 'Cancel a batch; what is done stays', answer: Batch });
batches.post('/v1/batches/:id/cancel', async (c) => {
  const id = c.req.param('id');
  const batch = found(await batchesOf(c.env, tenantOf(c).tenant.id).cancel(id), id);
  if (batch.status === 'cancelling' || batch.status === 'cancelled') return c.json(batch);
  throw new Failure({ kind: 'conflict', message: `Cannot cancel a batch with status ${JSON.stringify(batch.status)}.` });
});

function found(batch: Batch | null, id: string): Batch {
  if (batch) return batch;
  throw new Failure({ kind: 'not_found', message: `No such batch: ${JSON.stringify(id)}.`, param: 'id', code: 'not_found' });
}

async function requireInput(env: Env, tenant: string, id: string): Promise<void> {
  const { purpose } = await getFile(env, tenant, id);
  if (purpose === 'batch') return;
  const message = `input_file_id: expected a file of purpose "batch", got one of ${JSON.stringify(purpose)}`;
  throw new Failure({ kind: 'invalid_request', message, param: 'input_file_id' });
}

function begun({ endpoint, input_file_id, completion_window, metadata }: CreateBatch, now: number): Batch {
  return {
    id: newBatchId(),
    object: 'batch',
    endpoint,
    errors: null,
    input_file_id,
    completion_window,
    status: 'validating',
    output_file_id: null,
    error_file_id: null,
    created_at: now,
    in_progress_at: null,
    expires_at: now + WINDOW_SECONDS,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    usage: {
      input_tokens: 0,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: 0,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 0,
    },
    metadata: metadata ?? null,
  };
}
