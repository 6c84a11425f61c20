/** Embeddings: texts become vectors at a worker whose base is an encoder. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { Embeddings, EmbeddingsRequest } from '../../shared/contract/embeddings.ts';
import type { AppEnv } from '../env.ts';
import { anyKey } from '../middleware/authenticate.ts';
import { readJson } from '../middleware/body.ts';
import { embedWork } from '../upstream/admission.ts';
import { run } from '../upstream/run.ts';
import { describe } from './describe.ts';

export const embeddings = new OpenAPIHono<AppEnv>();

describe(embeddings, {
  method: 'post',
  path: '/v1/embeddings',
  summary: 'Make vectors of texts',
  body: EmbeddingsRequest,
  answer: Embeddings,
});
embeddings.post('/v1/embeddings', anyKey(), async (c) => {
  const request = await readJson(c, EmbeddingsRequest);
  return run(c, embedWork(request), request.adapters);
});
