/**
 * One request of a batch, through the same schemas, admission, holds and workers as if its client had sent it
 * alone. Its request id is the caller's, fixed before anything is sent.
 */
import type { BatchEndpoint } from '../../shared/contract/batches.ts';
import { ChatRequest, CompletionRequest } from '../../shared/contract/openai.ts';
import { ResponsesRequest } from '../../shared/contract/responses.ts';
import type { GenerateRequest } from '../../shared/contract/worker.ts';
import { type ErrorValue, Failure, toWire } from '../../shared/errors.ts';
import { reserve } from '../billing/client.ts';
import type { Env } from '../env.ts';
import { check } from '../middleware/body.ts';
import { type Asked, resolve } from '../registry/resolve.ts';
import { responseWork } from '../responses/request.ts';
import { toResponse } from '../responses/respond.ts';
import { chatWork, completionWork, type Work } from '../upstream/admission.ts';
import { firstAnswer, giveBack } from '../upstream/generate.ts';
import { liveWorkers } from '../upstream/snapshot.ts';

export interface LineRequest {
  tenant: string;
  keyId: string;
  endpoint: BatchEndpoint;
  body: unknown;
  requestId: string;
  /** Milliseconds since the epoch. */
  deadline: number;
}

export type LineOutcome =
  | { kind: 'answered'; status: number; body: unknown }
  /** Nobody could take it now: nothing was generated. */
  | { kind: 'busy'; retryAfterMs: number }
  /** A worker failed on it. */
  | { kind: 'broken'; error: ErrorValue };

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
      const request = unstreamed(check(ChatRequest, body));
      return { work: chatWork(request), adapters: request.adapters, finish: asIs };
    }
    case '/v1/completions': {
      const request = unstreamed(check(CompletionRequest, body));
      return { work: completionWork(request), adapters: request.adapters, finish: asIs };
    }
    case '/v1/responses': {
      const request = unstreamed(check(ResponsesRequest, body));
      return { work: responseWork(request), adapters: request.adapters, finish: (answer) => toResponse(request, requestId, answer) };
    }
    default:
      return endpoint satisfies never;
  }
}

function unstreamed<T extends { stream?: boolean | null | undefined }>(request: T): T {
  if (!request.stream) return request;
  throw new Failure({ kind: 'unsupported', message: 'stream is not supported in a batch: leave it out.', param: 'stream' });
}

const LOST: ErrorValue = { kind: 'upstream', message: 'The worker was lost before it had answered.' };

/** Rejects only when `signal` was aborted. */
export async function runLine(env: Env, line: LineRequest, signal: AbortSignal): Promise<LineOutcome> {
  try {
    return await ask(env, line, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Failure) return outcomeOf(error.value);
    // Not said by anyone: the connection to a worker or to an object of the edge broke.
    console.warn(JSON.stringify({ level: 'warn', request_id: line.requestId, error: String(error) }));
    return { kind: 'broken', error: LOST };
  }
}

async function ask(env: Env, line: LineRequest, signal: AbortSignal): Promise<LineOutcome> {
  const { work, adapters: mixture, finish } = prepare(line);
  const workers = await liveWorkers(env);
  const { base, adapters } = await resolve(env, line.tenant, { model: work.model, adapters: mixture }, workers);
  const request: GenerateRequest = {
    request_id: line.requestId,
    tenant: line.tenant,
    key_id: line.keyId,
    base: base.id,
    base_revision: base.revision,
    adapters,
    ...work,
    priority: 'batch',
    deadline: line.deadline,
  };
  const hold = reserve(env, request, base);
  await hold;
  let answer: Response;
  try {
    answer = await firstAnswer(env, request, workers, signal);
  } catch (error) {
    await giveBack(env, request, hold);
    // A worker was there and is not any more: perhaps because of this very request.
    if (error instanceof Failure && error.value.kind === 'unavailable') throw new Failure(LOST, { cause: error });
    throw error;
  }
  if (answer.ok) return { kind: 'answered', status: answer.status, body: await (await finish(answer)).json() };
  await giveBack(env, request, hold);
  return refusal(answer.status, answer.headers.get('retry-after'), await (await finish(answer)).json());
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
