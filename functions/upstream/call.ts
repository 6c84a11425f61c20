/** Signed calls from the edge to a worker, under the client's trace. */
import { signCall } from '../../shared/contract/signature.ts';
import { REQUEST_ID_HEADER, TRACE_HEADER } from '../../shared/contract/trace.ts';
import type { Env } from '../env.ts';
import type { LiveWorker } from './placement.ts';

export interface WorkerCall {
  method: 'GET' | 'POST';
  path: string;
  body?: unknown;
  signal?: AbortSignal;
  /** What the call is logged under at the worker. */
  log?: CallLog;
}

export interface CallLog {
  requestId: string;
  trace: string;
}

/** Rejects when the worker cannot be reached; its error answers are ordinary responses. */
export async function callWorker(env: Env, worker: LiveWorker, { method, path, body, signal, log }: WorkerCall): Promise<Response> {
  const bytes = new TextEncoder().encode(body === undefined ? '' : JSON.stringify(body));
  const authorization = await signCall(env.SWITCHYARD_SECRET, 'edge', 'worker', { method, path, body: bytes });
  return fetch(new URL(path, worker.url), {
    method,
    headers: {
      authorization,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(log ? { [REQUEST_ID_HEADER]: log.requestId, [TRACE_HEADER]: log.trace } : {}),
    },
    ...(body === undefined ? {} : { body: bytes }),
    ...(signal ? { signal } : {}),
    redirect: 'manual',
  });
}
