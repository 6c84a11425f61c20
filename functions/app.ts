/** The application: middleware, and one sub-application for each area of the API. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { AppEnv } from './env.ts';
import { drainRefused } from './middleware/drain.ts';
import { answerError, onError } from './middleware/errors.ts';
import { requestId } from './middleware/request-id.ts';
import { adapters } from './routes/adapters.ts';
import { admin } from './routes/admin.ts';
import { batches } from './routes/batches.ts';
import { docs } from './routes/docs.ts';
import { embeddings } from './routes/embeddings.ts';
import { files } from './routes/files.ts';
import { health } from './routes/health.ts';
import { inference } from './routes/inference.ts';
import { internal } from './routes/internal.ts';
import { metrics } from './routes/metrics.ts';
import { models } from './routes/models.ts';
import { allowedMethods } from './routes/not-found.ts';
import { responses } from './routes/responses.ts';
import { s3 } from './routes/s3.ts';
import { tenancy } from './routes/tenancy.ts';
import { usage } from './routes/usage.ts';

export const app = new OpenAPIHono<AppEnv>();

app.use(requestId(), drainRefused());
for (const area of [
  health,
  inference,
  responses,
  embeddings,
  files,
  batches,
  models,
  adapters,
  tenancy,
  usage,
  admin,
  metrics,
  internal,
  s3,
])
  app.route('/', area);
app.route('/', docs(app));

app.onError(onError);
app.notFound((c) => {
  const allow = allowedMethods(app.routes, c.req.path);
  const what = `${c.req.method} ${c.req.path}`;
  if (allow.length > 0) return answerError({ kind: 'method_not_allowed', message: `${what}: expected ${allow.join(' or ')}.`, allow });
  return answerError({ kind: 'not_found', message: `Unknown route: ${what}. See /docs.`, code: 'not_found' });
});
