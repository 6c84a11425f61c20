/**
 * One generation, or one request for embeddings, at a worker. A metered tenant's hold comes first, since it may be refused; for others it
 * is written while the worker already works. The worker's body is passed through as it comes: no chunk is
 * looked at, and a client that goes away takes the upstream request with it.
 */
import type { Context } from 'hono';
import { traceOf } from '../../shared/contract/trace.ts';
import type { BaseInfo, WorkerRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { ledgerOf, reserve } from '../billing/client.ts';
import type { AppEnv, Env } from '../env.ts';
import { callWorker } from './call.ts';
import { type LiveWorker, order } from './placement.ts';
import { liveWorkers, noWorker } from './snapshot.ts';
import { workerPath } from './task.ts';

interface Placement {
  workers: LiveWorker[];
  metered: boolean;
  /** Aborted when the client goes away; null for a request that outlives its client. */
  leaves: AbortSignal | null;
  /** Rejects when the request turns out to be none; nothing of the answer leaves before it resolves. */
  confirmed: Promise<void>;
}

export function generate(c: Context<AppEnv>, request: WorkerRequest, base: BaseInfo, placement: Placement): Promise<Response> {
  const answer = holdAndAsk(c, request, base, placement);
  // Lets the hold be given back when the client leaves before there is an answer.
  c.executionCtx.waitUntil(answer.catch(() => undefined));
  return answer;
}

async function holdAndAsk(c: Context<AppEnv>, request: WorkerRequest, base: BaseInfo, placement: Placement): Promise<Response> {
  const hold = reserve(c.env, request, base);
  const abandon = new AbortController();
  const signal = placement.leaves ? AbortSignal.any([placement.leaves, abandon.signal]) : abandon.signal;
  let answer: Response;
  try {
    if (placement.metered) await Promise.all([hold, placement.confirmed]);
    [answer] = await Promise.all([firstAnswer(c.env, request, placement.workers, signal, c.get('trace')), hold, placement.confirmed]);
  } catch (error) {
    abandon.abort();
    await giveBack(c.env, request, hold);
    throw error;
  }
  // A refusal has generated nothing.
  if (!answer.ok) await giveBack(c.env, request, hold);
  const headers = new Headers({
    'content-type': answer.headers.get('content-type') ?? 'application/json',
    'openai-processing-ms': String(Date.now() - c.get('arrived')),
  });
  for (const name of ['cache-control', 'retry-after']) {
    const value = answer.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return new Response(answer.body, { status: answer.status, headers });
}

/** Tries the workers in placement order until one answers at all. Same request id: it is one request. */
async function firstAnswer(
  env: Env,
  request: WorkerRequest,
  known: LiveWorker[],
  signal: AbortSignal,
  trace = traceOf(null),
): Promise<Response> {
  const tried = new Set<string>();
  let workers = known;
  for (;;) {
    const next = order(workers, request.base_revision, request.adapters[0]?.digest ?? null).find((w) => !tried.has(w.worker));
    if (!next) throw noWorker(JSON.stringify(request.model));
    tried.add(next.worker);
    try {
      return await callWorker(env, next, {
        method: 'POST',
        path: workerPath(request),
        body: request,
        signal,
        log: { requestId: request.request_id, trace },
      });
    } catch (error) {
      if (signal.aborted) throw new Failure({ kind: 'upstream', message: 'The request was given up before a worker answered.' });
      console.warn(JSON.stringify({ level: 'warn', request_id: request.request_id, worker: next.worker, error: String(error) }));
      workers = await liveWorkers(env, { fresh: true });
    }
  }
}

async function giveBack(env: Env, request: WorkerRequest, hold: Promise<void>): Promise<void> {
  // The hold may still be on its way; one that was refused leaves nothing to release.
  const held = await hold.then(
    () => true,
    () => false,
  );
  if (held) await ledgerOf(env, request.tenant).release(request.request_id);
}
