/** Liveness of the edge, and readiness of the whole: every base has a live worker. */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { AppEnv } from '../env.ts';
import { absentBases, liveWorkers, noWorker, servedBases } from '../upstream/snapshot.ts';
import { describe } from './describe.ts';

export const health = new OpenAPIHono<AppEnv>();

describe(health, { method: 'get', path: '/health', summary: 'The edge lives', answer: z.object({ status: z.literal('ok') }), open: true });
health.get('/health', (c) => c.json({ status: 'ok' }));

describe(health, {
  method: 'get',
  path: '/ready',
  summary: 'Every base can answer',
  answer: z.object({ status: z.literal('ready'), bases: z.array(z.string()), workers: z.array(z.string()) }),
  open: true,
});
health.get('/ready', async (c) => {
  const workers = await liveWorkers(c.env, { fresh: true });
  const bases = servedBases(workers);
  if (bases.length === 0) throw noWorker('requests');
  const absent = await absentBases(c.env);
  if (absent.length > 0) throw noWorker(absent.join(', '));
  return c.json({ status: 'ready', bases: bases.map((b) => b.id), workers: workers.map((w) => w.worker) });
});
