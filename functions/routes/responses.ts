/** Responses: the request becomes a chat request, the worker's chat answer a response, whole or event by event. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { ResponseObject, ResponsesRequest } from '../../shared/contract/responses.ts';
import type { AppEnv } from '../env.ts';
import { anyKey, tenantOf } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/body.ts';
import { responseWork } from '../responses/request.ts';
import { toResponse } from '../responses/respond.ts';
import { admit } from '../upstream/admit.ts';
import { idempotencyKey, once } from '../upstream/idempotent.ts';
import { describe } from './describe.ts';

export const responses = new OpenAPIHono<AppEnv>();

describe(responses, {
  method: 'post',
  path: '/v1/responses',
  summary: 'Respond to text, items or the results of calls; nothing is stored',
  body: ResponsesRequest,
  answer: ResponseObject,
  streams: true,
});
responses.post('/v1/responses', anyKey(), async (c) => {
  const request = await readJson(c, ResponsesRequest);
  const work = responseWork(request);
  const { tenant } = tenantOf(c);
  const ask = async (leaves: AbortSignal | null) => {
    const answer = await admit(c, work, request.adapters, leaves);
    // Admission may have given the request another id.
    return toResponse(request, c.get('requestId'), answer);
  };
  const key = idempotencyKey(c);
  if (key === null) return ask(c.req.raw.signal);
  return once(c, tenant.id, key, request, () => ask(null));
});
