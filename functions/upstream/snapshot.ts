/**
 * This isolate's view of the fleet, at most a second old, or three to start a request from. It is refreshed at
 * once when it is empty or when a worker in it turned out to be gone.
 */
import type { Context } from 'hono';

import type { BaseInfo } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { AppEnv, Env } from '../env.ts';
import { LIVE_MS, type LiveWorker } from './placement.ts';

const FRESH_MS = 1_000;
/** Older than fresh, a view may still place a request while it is being refreshed. */
const USABLE_MS = LIVE_MS / 2;
let held: { workers: LiveWorker[]; at: number } | null = null;

export const fleet = (env: Env) => env.FLEET.get(env.FLEET.idFromName('fleet'));

export async function liveWorkers(env: Env, options: { fresh?: boolean } = {}): Promise<LiveWorker[]> {
  if (!options.fresh && held && held.workers.length > 0 && Date.now() - held.at < FRESH_MS) return held.workers;
  const workers = await fleet(env).snapshot();
  held = { workers, at: Date.now() };
  return workers;
}

/** Bases that exist but cannot answer now: to be told apart from names that mean nothing. */
export async function absentBases(env: Env): Promise<string[]> {
  return await fleet(env).absentBases();
}

/** A view to start from at once; null when there is none of use. Refreshes it in the background when it is no longer fresh. */
export function recentWorkers(c: Context<AppEnv>): LiveWorker[] | null {
  const age = held ? Date.now() - held.at : Number.POSITIVE_INFINITY;
  if (!held || held.workers.length === 0 || age > USABLE_MS) return null;
  if (age > FRESH_MS) c.executionCtx.waitUntil(liveWorkers(c.env, { fresh: true }));
  return held.workers;
}

/** The bases that live workers serve, each once, in the order of the first worker that names them. */
export function servedBases(workers: readonly LiveWorker[]): BaseInfo[] {
  const byId = new Map<string, BaseInfo>();
  for (const w of workers) for (const base of w.bases) if (!byId.has(base.id)) byId.set(base.id, base);
  return [...byId.values()];
}

export function noWorker(what: string): Failure {
  return new Failure({ kind: 'unavailable', message: `No live worker can take ${what} now; try again shortly.`, retryAfterSeconds: 2 });
}
