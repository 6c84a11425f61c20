/** Liveness of the edge, and readiness of the whole: a live worker serves. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { AppEnv } from '../env.ts';
import { liveWorkers, noWorker, servedBases } from '../upstream/snapshot.ts';

export const health = new OpenAPIHono<AppEnv>();

health.get('/health', (c) => c.json({ status: 'ok' }));

health.get('/ready', async (c) => {
  const workers = await liveWorkers(c.env, { fresh: true });
  const bases = servedBases(workers);
  if (bases.length === 0) throw noWorker('requests');
  return c.json({ status: 'ready', bases: bases.map((b) => b.id), workers: workers.map((w) => w.worker) });
});
