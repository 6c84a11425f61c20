/** Compares, tenant by tenant, what the engines' journals say with what the ledgers have billed. */
import type { Reconciliation } from '../../shared/contract/billing.ts';
import { Totals } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { listTenants } from '../tenancy/tenants.ts';
import { callWorker } from '../upstream/call.ts';
import type { LiveWorker } from '../upstream/placement.ts';
import { liveWorkers } from '../upstream/snapshot.ts';
import { ledgerOf } from './client.ts';

const TIMEOUT_MS = 5_000;

export async function reconcile(env: Env): Promise<{ object: 'list'; data: Reconciliation[]; workers: string[] }> {
  const workers = await liveWorkers(env, { fresh: true });
  const engines = await Promise.all(workers.map((w) => totalsOf(env, w)));
  const data = await Promise.all(
    (await listTenants(env)).map(async ({ id }): Promise<Reconciliation> => {
      const { settled, reserved } = await ledgerOf(env, id).totals();
      const own = engines.map((e) => e.tenants[id]);
      const sum = (pick: (t: NonNullable<(typeof own)[number]>) => number) => own.reduce((n, t) => n + (t ? pick(t) : 0), 0);
      return { tenant: id, engine_committed: sum((t) => t.engine_committed), settled, outbox: sum((t) => t.outbox), reserved };
    }),
  );
  return { object: 'list', data, workers: workers.map((w) => w.worker) };
}

/** Throws Failure 'upstream': a sum without one worker's part would look like a loss. */
async function totalsOf(env: Env, worker: LiveWorker): Promise<Totals> {
  const failed = (why: string) => new Failure({ kind: 'upstream', message: `Worker ${worker.worker} did not report its totals: ${why}.` });
  const response = await callWorker(env, worker, { method: 'GET', path: '/totals', signal: AbortSignal.timeout(TIMEOUT_MS) }).catch(
    (error: unknown) => {
      throw failed(String(error));
    },
  );
  if (!response.ok) throw failed(`status ${response.status}`);
  const totals = Totals.safeParse(await response.json());
  if (!totals.success) throw failed(totals.error.message);
  return totals.data;
}
