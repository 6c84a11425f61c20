/** Chat and text completions: admit, resolve, hold, place, and pass the worker's answer through. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { ChatCompletion, ChatRequest, CompletionRequest, TextCompletion } from '../../shared/contract/openai.ts';
import type { AppEnv } from '../env.ts';
import { anyKey, tenantOf } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/body.ts';
import { resolve } from '../registry/resolve.ts';
import { chatWork, completionWork, type Work } from '../upstream/admission.ts';
import { generate } from '../upstream/generate.ts';
import { idempotencyKey, once } from '../upstream/idempotent.ts';
import { liveWorkers, noWorker } from '../upstream/snapshot.ts';
import { describe } from './describe.ts';

export const inference = new OpenAPIHono<AppEnv>();

describe(inference, {
  method: 'post',
  path: '/v1/chat/completions',
  summary: 'Continue a conversation',
  body: ChatRequest,
  answer: ChatCompletion,
  streams: true,
});
inference.post('/v1/chat/completions', anyKey(), async (c) => {
  const request = await readJson(c, ChatRequest);
  return run(c, chatWork(request), request.adapters);
});

describe(inference, {
  method: 'post',
  path: '/v1/completions',
  summary: 'Continue a text',
  body: CompletionRequest,
  answer: TextCompletion,
  streams: true,
});
inference.post('/v1/completions', anyKey(), async (c) => {
  const request = await readJson(c, CompletionRequest);
  return run(c, completionWork(request), request.adapters);
});

async function run(c: Context<AppEnv>, work: Work, mixture: ChatRequest['adapters']): Promise<Response> {
  const { tenant } = tenantOf(c);
  const key = idempotencyKey(c);
  if (key === null) return admit(c, work, mixture, c.req.raw.signal);
  return once(c, tenant.id, key, [work, mixture ?? null], () => admit(c, work, mixture, null));
}

/** `leaves` is aborted when the client goes away; null: the request runs to its end all the same. */
async function admit(c: Context<AppEnv>, work: Work, mixture: ChatRequest['adapters'], leaves: AbortSignal | null): Promise<Response> {
  const { tenant, keyId } = tenantOf(c);
  const workers = await liveWorkers(c.env);
  if (workers.length === 0) throw noWorker(JSON.stringify(work.model));
  const { base, adapters } = await resolve(c.env, tenant.id, { model: work.model, adapters: mixture }, workers);
  const request = {
    request_id: c.get('requestId'),
    tenant: tenant.id,
    key_id: keyId,
    base: base.id,
    base_revision: base.revision,
    adapters,
    ...work,
  };
  return generate(c, request, base, { workers, metered: tenant.metered, leaves });
}
