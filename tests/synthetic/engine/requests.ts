/** Requests to an engine, as the server would make them. */
import type { EngineRequest, Grammar, SamplingOptions } from '../../../shared/contract/engine.ts';
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import { newRequestId, newTenantId } from '../../../shared/ids.ts';
import { NEUTRAL_SAMPLING } from '../../support/neutral.ts';

const GREEDY: SamplingOptions = { ...NEUTRAL_SAMPLING, maxTokens: 16 };

export interface RequestOptions extends Partial<SamplingOptions> {
  /** One of its own unless told otherwise. */
  tenant?: string;
  n?: number;
  adapters?: AdapterRef[];
  /** Must have been prepared. */
  grammar?: Grammar;
}

/** Greedy, 16 tokens, unless told otherwise. */
export function requestOf(
  prompts: number[][],
  { tenant = newTenantId(), n = 1, adapters = [], grammar, ...sampling }: RequestOptions = {},
): EngineRequest {
  return {
    id: newRequestId(),
    account: { tenant, keyId: 'key', model: 'base', fromBatch: false },
    base: 'base',
    prompts,
    n,
    adapters,
    priority: 'interactive',
    tenantWeight: 1,
    deadline: null,
    sampling: { ...GREEDY, ...sampling },
    grammar: grammar ?? null,
  };
}
