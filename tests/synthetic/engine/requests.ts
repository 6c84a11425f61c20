/** Requests to an engine, as the server would make them. */
import type { EngineRequest, Grammar, SamplingOptions } from '../../../shared/contract/engine.ts';
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import { newRequestId, newTenantId } from '../../../shared/ids.ts';

const GREEDY: SamplingOptions = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
  seed: null,
  maxTokens: 16,
  stop: [],
  ignoreEos: false,
  logprobs: null,
  echo: false,
};

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
