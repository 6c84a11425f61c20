/** What workers report: that they live, and what they generated. Signed calls only. */
import { OpenAPIHono } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { z } from 'zod';
import { ReplayGuard, verifyCall } from '../../shared/contract/signature.ts';
import { Heartbeat, type HeartbeatAnswer, type UsageAnswer, type UsageRecord, UsageReport } from '../../shared/contract/worker.ts';
import { sha256 } from '../auth/keys.ts';
import { ledgerOf } from '../billing/client.ts';
import type { AppEnv, Env } from '../env.ts';
import { parseJson, readBytes } from '../middleware/body.ts';
import { pinnedDigests } from '../registry/pins.ts';
import { HEARTBEAT_INTERVAL_MS, homeOf } from '../upstream/placement.ts';
import { fleet, liveWorkers } from '../upstream/snapshot.ts';

/** Per isolate: a call replayed elsewhere within its 30 s repeats a heartbeat or an idempotent settlement. */
const guard = new ReplayGuard();

async function signedBody<T>(c: Context<AppEnv>, schema: z.ZodType<T>): Promise<T> {
  const body = await readBytes(c);
  const call = { method: c.req.method, path: c.req.path, body };
  await verifyCall(c.env.SWITCHYARD_SECRET, 'worker', 'edge', call, c.req.header('authorization'), guard);
  return parseJson(body, schema);
}

export const internal = new OpenAPIHono<AppEnv>();

internal.post('/internal/heartbeat', async (c) => {
  const beat = await signedBody(c, Heartbeat);
  await fleet(c.env).heartbeat(beat);
  const pins = await pinsOf(c.env, beat).catch((error: unknown) => {
    // The worker lives whether or not the registry answers; it keeps the pins that it has.
    console.error(JSON.stringify({ level: 'error', worker: beat.worker, error: `read pins: ${String(error)}` }));
    return null;
  });
  return c.json({ interval_ms: HEARTBEAT_INTERVAL_MS, pins } satisfies HeartbeatAnswer);
});

/** What is pinned at this worker, null when it knows. Others of the same base keep what would be placed there first. */
async function pinsOf(env: Env, { worker, bases, pins }: Heartbeat): Promise<HeartbeatAnswer['pins']> {
  const workers = await liveWorkers(env);
  const ofBases = bases.map(async ({ revision }) =>
    (await pinnedDigests(env, revision)).filter((digest) => (homeOf(workers, revision, digest) ?? worker) === worker),
  );
  const digests = (await Promise.all(ofBases)).flat();
  const name = await sha256(digests.join());
  return name === pins ? null : { name, digests };
}

internal.post('/internal/usage', async (c) => {
  const { records } = await signedBody(c, UsageReport);
  const byTenant = new Map<string, UsageRecord[]>();
  for (const record of records) byTenant.set(record.tenant, [...(byTenant.get(record.tenant) ?? []), record]);
  const settled: string[] = [];
  // A ledger that fails keeps its tenant's records in the worker's outbox; the others are done.
  const results = await Promise.allSettled(
    [...byTenant].map(async ([tenant, own]) => {
      await ledgerOf(c.env, tenant).settle(tenant, own);
      settled.push(...own.map((r) => r.request_id));
    }),
  );
  for (const result of results)
    if (result.status === 'rejected') console.error(JSON.stringify({ level: 'error', error: String(result.reason) }));
  return c.json({ settled } satisfies UsageAnswer);
});
