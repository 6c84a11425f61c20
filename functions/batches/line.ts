/**
 * One request of a batch, through the same schemas, admission, holds and workers as if its client had sent it
 * alone. Its request id is the caller's, fixed before anything is sent. A worker goes on with it when the edge is
 * gone, and still has the answer when the edge is back: one generation, one charge.
 */
import type { BatchEndpoint } from '../../shared/contract/batches.ts';
import { EmbeddingsRequest } from '../../shared/contract/embeddings.ts';
import { ChatRequest, CompletionRequest } from '../../shared/contract/openai.ts';
import { ResponsesRequest } from '../../shared/contract/responses.ts';
import { traceOf } from '../../shared/contract/trace.ts';
import type { RequestRef, WorkerRequest } from '../../shared/contract/worker.ts';
import { type ErrorValue, Failure, toWire } from '../../shared/errors.ts';
import { ledgerOf, reserve } from '../billing/client.ts';
import type { Env } from '../env.ts';
import { check } from '../middleware/body.ts';
import { type Asked, resolve } from '../registry/resolve.ts';
import { responseWork } from '../responses/request.ts';
import { toResponse } from '../responses/respond.ts';
import { getTenant } from '../tenancy/tenants.ts';
import { chatWork, completionWork, embedWork, type Work } from '../upstream/admission.ts';
import { callWorker } from '../upstream/call.ts';
import { type LiveWorker, order } from '../upstream/placement.ts';
import { liveWorkers } from '../upstream/snapshot.ts';
import { checkTask, workerPath } from '../upstream/task.ts';

export interface LineRequest {
  tenant: string;
  keyId: string;
  endpoint: BatchEndpoint;
  body: unknown;
  requestId: string;
  /** Milliseconds since the epoch. */
  deadline: number;
  /** Milliseconds since the epoch: a restarted edge has heard of all workers by then. Before, an unknown name means nothing. */
  acquaintedAt: number;
}

export type LineOutcome =
  | { kind: 'answered'; status: number; body: unknown }
  /** Nobody could take it now: nothing was generated. */
  | { kind: 'busy'; retryAfterMs: number }
  /** A worker failed on it. */
  | { kind: 'broken'; error: ErrorValue }
  /** The way to its worker broke: it may be answered still, under its id. */
  | { kind: 'lost' };

interface Prepared {
  work: Work;
  adapters: Asked['adapters'];
  /** The worker's answer in the endpoint's own form. */
  finish(answer: Response): Promise<Response>;
}

const asIs = async (answer: Response): Promise<Response> => answer;

/** Throws Failure. */
function prepare({ endpoint, body, requestId }: LineRequest): Prepared {
  switch (endpoint) {
    case '/v1/chat/completions': {
      const request = ofBatch(check(ChatRequest, body));
      return { work: chatWork(request), adapters: request.adapters, finish: asIs };
    }
    case '/v1/completions': {
      const request = ofBatch(check(CompletionRequest, body));
      return { work: completionWork(request), adapters: request.adapters, finish: asIs };
    }
    case '/v1/responses': {
      const request = ofBatch(check(ResponsesRequest, body));
      return { work: responseWork(request), adapters: request.adapters, finish: (answer) => toResponse(request, requestId, answer) };
    }
    case '/v1/embeddings': {
      const request = check(EmbeddingsRequest, body);
      return { work: embedWork(request), adapters: request.adapters, finish: asIs };
    }
    default:
      return endpoint satisfies never;
  }
}

type Decidable = { stream?: boolean | null | undefined; service_tier?: 'default' | 'flex' | null | undefined };

/** Refuses what a batch decides for all its requests. */
function ofBatch<T extends Decidable>(request: T): T {
  const refused = request.stream ? 'stream' : request.service_tier === 'flex' ? 'service_tier' : null;
  if (refused === null) return request;
  throw new Failure({ kind: 'unsupported', message: `${refused} is not supported in a batch: leave it out.`, param: refused });
}

/** Sends the line under a new id. Rejects only when `signal` was aborted; the line is then withdrawn from its worker. */
export const runLine = (env: Env, line: LineRequest, signal: AbortSignal): Promise<LineOutcome> =>
  settled(env, line, signal, () => ask(env, line, signal));

/** What became of a line that was sent before; null: no live worker knows, so that it may be sent under another id. */
export const recallLine = (env: Env, line: LineRequest, signal: AbortSignal): Promise<LineOutcome | null> =>
  settled(env, line, signal, () => recall(env, line, signal));

async function settled<T>(env: Env, line: LineRequest, signal: AbortSignal, work: () => Promise<T>): Promise<T | LineOutcome> {
  try {
    return await work();
  } catch (error) {
    if (signal.aborted) await withdraw(env, line.requestId);
    signal.throwIfAborted();
    if (error instanceof Failure) {
      const isEarly = error.value.kind === 'not_found' && Date.now() < line.acquaintedAt;
      return isEarly ? { kind: 'busy', retryAfterMs: ABSENT_MS } : outcomeOf(error.value);
    }
    console.warn(JSON.stringify({ level: 'warn', request_id: line.requestId, error: String(error) }));
    return { kind: 'lost' };
  }
}

async function ask(env: Env, line: LineRequest, signal: AbortSignal): Promise<LineOutcome> {
  const { work, adapters: mixture, finish } = prepare(line);
  const workers = await liveWorkers(env);
  if (workers.length === 0) return { kind: 'busy', retryAfterMs: ABSENT_MS };
  const [{ base, adapters }, { weight }] = await Promise.all([
    resolve(env, line.tenant, { model: work.model, adapters: mixture }, workers),
    getTenant(env, line.tenant),
  ]);
  checkTask(work, base);
  const request: WorkerRequest = {
    request_id: line.requestId,
    tenant: line.tenant,
    key_id: line.keyId,
    base: base.id,
    base_revision: base.revision,
    adapters,
    ...work,
    priority: 'batch',
    from_batch: true,
    tenant_weight: weight,
    deadline: line.deadline,
  };
  const worker = order(workers, base.revision, adapters[0]?.digest ?? null).find(isBack);
  if (!worker) return { kind: 'busy', retryAfterMs: ABSENT_MS };
  await reserve(env, request, base);
  // One worker only: if it is lost on the way it may go on, and another would generate the same again.
  const log = { requestId: line.requestId, trace: traceOf(null) };
  const answer = await callWorker(env, worker, { method: 'POST', path: workerPath(request), body: request, signal, log }).catch(
    (error: unknown) => {
      lostAt.set(worker.worker, Date.now());
      throw error;
    },
  );
  if (TIMED_OUT.includes(answer.status)) return { kind: 'lost' };
  if (answer.ok) return answered(await finish(answer));
  await release(env, line);
  return refusal(answer.status, answer.headers.get('retry-after'), await (await finish(answer)).json());
}

/** When the way to a worker broke last. It is asked again once it was heard of since: a dead one stays in the fleet for seconds. */
const lostAt = new Map<string, number>();
const isBack = ({ worker, seenAt }: LiveWorker): boolean => seenAt > (lostAt.get(worker) ?? 0);
const ABSENT_MS = 500;

/** Said by proxies between edge and worker. */
const TIMED_OUT = [504, 524];

const answered = async (answer: Response): Promise<LineOutcome> => ({ kind: 'answered', status: answer.status, body: await answer.json() });

async function recall(env: Env, line: LineRequest, signal: AbortSignal): Promise<LineOutcome | null> {
  for (;;) {
    const workers = await liveWorkers(env, { fresh: true });
    const replies = await Promise.all(workers.map((worker) => refer(env, worker, '/answer', line.requestId, signal)));
    signal.throwIfAborted();
    const known = replies.find((reply) => reply?.ok);
    if (!known) {
      await release(env, line);
      return null;
    }
    if (known.status === 200) return answered(await prepare(line).finish(known));
  }
}

/** What was generated under the line's id is billed all the same. */
const release = (env: Env, line: LineRequest) => ledgerOf(env, line.tenant).release(line.requestId);

/** A request of a batch goes on without its connection, until it is told. */
async function withdraw(env: Env, requestId: string): Promise<void> {
  const workers = await liveWorkers(env);
  await Promise.all(workers.map((worker) => refer(env, worker, '/cancel', requestId)));
}

/** Null: the worker cannot be reached. */
async function refer(
  env: Env,
  worker: LiveWorker,
  path: '/answer' | '/cancel',
  requestId: string,
  signal?: AbortSignal,
): Promise<Response | null> {
  const body = { request_id: requestId } satisfies RequestRef;
  return await callWorker(env, worker, { method: 'POST', path, body, ...(signal ? { signal } : {}) }).catch(() => null);
}

const BUSY_MS = 2_000;

/** What becomes of a line that a worker refused. */
function refusal(status: number, retryAfter: string | null, body: unknown): LineOutcome {
  if (status === 429 || status === 503) return { kind: 'busy', retryAfterMs: Number(retryAfter) * 1000 || BUSY_MS };
  if (status < 500) return { kind: 'answered', status, body };
  return { kind: 'broken', error: { kind: 'upstream', message: messageOf(body) } };
}

const messageOf = (body: unknown): string =>
  (body as { error?: { message?: string } } | null)?.error?.message ?? 'The worker failed without saying why.';

function outcomeOf(error: ErrorValue): LineOutcome {
  switch (error.kind) {
    case 'unavailable':
    case 'rate_limited':
      return { kind: 'busy', retryAfterMs: error.retryAfterSeconds * 1000 };
    case 'upstream':
    case 'internal':
      return { kind: 'broken', error };
    default: {
      const { status, body } = toWire(error);
      return { kind: 'answered', status, body };
    }
  }
}
