/**
 * From a checked request to a worker's answer. The names in it are looked up in D1 while a worker already
 * starts on what they meant last; an answer leaves only after D1 has confirmed that. A name that means
 * something else by now starts again under a new request id, so that each id has one generation.
 */
import type { Context } from 'hono';
import { newRequestId } from '../../shared/ids.ts';
import type { AppEnv } from '../env.ts';
import { tenantOf } from '../middleware/authenticate.ts';
import { type Asked, guessed, isSame, type Resolved, resolve } from '../registry/resolve.ts';
import type { Work } from './admission.ts';
import { deadlineOf } from './deadline.ts';
import { generate } from './generate.ts';
import type { LiveWorker } from './placement.ts';
import { liveWorkers, noWorker, recentWorkers } from './snapshot.ts';
import { checkTask, suits } from './task.ts';

class Superseded extends Error {
  readonly by: Resolved;
  constructor(by: Resolved) {
    super('a name means something else by now');
    this.by = by;
  }
}

interface View {
  workers: LiveWorker[];
  /** A first guess, when there is one. */
  guess: Resolved | null;
  truth: Promise<Resolved>;
}

/** `leaves` is aborted when the client goes away; null: the request runs to its end under its one id. */
export async function admit(c: Context<AppEnv>, work: Work, mixture: Asked['adapters'], leaves: AbortSignal | null): Promise<Response> {
  const { tenant } = tenantOf(c);
  const asked = { model: work.model, adapters: mixture };
  const { workers, guess, truth } = await look(c, tenant.id, asked);
  if (!guess || !leaves || !suits(work, guess.base)) return start(c, work, await truth, workers, leaves, Promise.resolve());
  const confirmed = truth.then((resolved) => {
    if (!isSame(resolved, guess)) throw new Superseded(resolved);
  });
  try {
    return await start(c, work, guess, workers, leaves, confirmed);
  } catch (error) {
    if (!(error instanceof Superseded)) throw error;
    c.set('requestId', newRequestId());
    return start(c, work, error.by, workers, leaves, Promise.resolve());
  }
}

/** Resolves against the recent view of the fleet, and against a fresh one before anything is refused. */
async function look(c: Context<AppEnv>, tenant: string, asked: Asked): Promise<View> {
  const recent = recentWorkers(c);
  if (recent) {
    try {
      const guess = guessed(tenant, asked, recent);
      if (guess) {
        const truth = resolve(c.env, tenant, asked, recent);
        truth.catch(() => undefined); // whoever awaits it decides
        return { workers: recent, guess, truth };
      }
      return { workers: recent, guess: null, truth: Promise.resolve(await resolve(c.env, tenant, asked, recent)) };
    } catch {
      // Perhaps only the view is old.
    }
  }
  const workers = await liveWorkers(c.env, { fresh: true });
  if (workers.length === 0) throw noWorker(JSON.stringify(asked.model));
  return { workers, guess: null, truth: resolve(c.env, tenant, asked, workers) };
}

function start(
  c: Context<AppEnv>,
  work: Work,
  { base, adapters }: Resolved,
  workers: LiveWorker[],
  leaves: AbortSignal | null,
  confirmed: Promise<void>,
): Promise<Response> {
  checkTask(work, base);
  const { tenant, keyId } = tenantOf(c);
  const request = {
    request_id: c.get('requestId'),
    tenant: tenant.id,
    key_id: keyId,
    tenant_weight: tenant.weight,
    from_batch: false,
    // Whoever may come back for the answer waits however long it takes.
    deadline: leaves && deadlineOf(c.req.raw.headers, c.get('arrived')),
    base: base.id,
    base_revision: base.revision,
    adapters,
    ...work,
  };
  return generate(c, request, base, { workers, metered: tenant.metered, leaves, confirmed });
}
