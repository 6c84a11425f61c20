/** Asks a worker to seal a staged package; its refusal travels on as it is. */
import { type SealRequest, SealResult } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { type CallLog, callWorker } from '../upstream/call.ts';
import { order } from '../upstream/placement.ts';
import { absentBases, liveWorkers, noWorker, servedBases } from '../upstream/snapshot.ts';
import { modelNotFound } from './names.ts';

/** The base's id: the one asked for, or the only one served. */
export async function chooseBase(env: Env, asked: string | undefined): Promise<string> {
  const bases = servedBases(await liveWorkers(env)).map((b) => b.id);
  if (bases.length === 0) throw noWorker('uploads');
  const absent = await absentBases(env);
  if (asked === undefined && bases.length + absent.length > 1) {
    const message = `base: several bases are served, so it is required: expected one of ${[...bases, ...absent].join(', ')}`;
    throw new Failure({ kind: 'invalid_request', message, param: 'base' });
  }
  const base = asked ?? bases[0]!;
  if (absent.includes(base)) throw noWorker(`uploads for ${base}`);
  if (!bases.includes(base)) throw modelNotFound(base, 'base');
  return base;
}

/** A worker's own refusal, already in the wire form. */
export class Refusal extends Error {
  readonly response: Response;
  constructor(response: Response) {
    super(`the worker answered ${response.status}`);
    this.response = response;
  }
}

/** Throws Refusal, or Failure when no worker answers. */
export async function seal(env: Env, request: SealRequest, log: CallLog): Promise<SealResult> {
  const workers = await liveWorkers(env);
  const base = servedBases(workers).find((b) => b.id === request.base);
  for (const worker of base ? order(workers, base.revision, null) : []) {
    const response = await callWorker(env, worker, { method: 'POST', path: '/seal', body: request, log }).catch(() => null);
    if (!response) continue;
    if (!response.ok) {
      const headers = { 'content-type': response.headers.get('content-type') ?? 'application/json' };
      throw new Refusal(new Response(await response.text(), { status: response.status, headers }));
    }
    const result = SealResult.safeParse(await response.json());
    if (result.success) return result.data;
    throw new Failure({ kind: 'upstream', message: `Worker ${worker.worker} answered /seal wrongly: ${result.error.message}` });
  }
  throw noWorker('uploads');
}
