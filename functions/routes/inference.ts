/** Chat and text completions: admit, resolve, hold, place, and pass the worker's answer through. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { ChatCompletion, ChatRequest, CompletionRequest, TextCompletion } from '../../shared/contract/openai.ts';
import type { AppEnv } from '../env.ts';
import { anyKey } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/body.ts';
import { chatWork, completionWork } from '../upstream/admission.ts';
import { run } from '../upstream/run.ts';
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
