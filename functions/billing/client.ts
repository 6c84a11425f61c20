/** The edge's side of the ledger: the object of a tenant, and the hold for a request. */
import { ceilingOf, NANO } from '../../shared/billing/amounts.ts';
import { priceOf } from '../../shared/billing/prices.ts';
import type { BaseInfo, WorkerRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { Env } from '../env.ts';
import { boundsOf } from './bounds.ts';

export const ledgerOf = (env: Env, tenant: string) => env.LEDGER.get(env.LEDGER.idFromName(tenant));

/** Holds the request's ceiling at its tenant's ledger. Throws Failure 'quota_exhausted'. */
export async function reserve(env: Env, request: WorkerRequest, base: BaseInfo): Promise<void> {
  const bounds = boundsOf(request, base);
  const amountNano = ceilingOf(bounds, priceOf(request.base, request.priority));
  const outcome = await ledgerOf(env, request.tenant).reserve(request.tenant, {
    requestId: request.request_id,
    amountNano,
    tokens: bounds.prompt + bounds.completion,
  });
  if (outcome.ok) return;
  const [left, needed] = [outcome.leftNano, amountNano].map((nano) => (nano / NANO).toFixed(9));
  const message = `You exceeded your current quota: the tenant's ${outcome.limit} has ${left} USD left and this request may cost up to ${needed} USD. Lower max_tokens, or have the ${outcome.limit} raised.`;
  throw new Failure({ kind: 'quota_exhausted', message });
}
