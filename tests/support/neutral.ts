/** Requests that ask for nothing in particular: greedy, whole, up to the end of the context. */
import type { SamplingOptions } from '../../shared/contract/engine.ts';
import type { GenerateRequest } from '../../shared/contract/worker.ts';

export const NEUTRAL_SAMPLING: SamplingOptions = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
  seed: null,
  maxTokens: null,
  stop: [],
  ignoreEos: false,
  logprobs: null,
  echo: false,
};

/** Who asks, of whom and what is to be filled in. */
export const NEUTRAL_REQUEST = {
  adapters: [],
  n: 1,
  best_of: 1,
  max_tokens: null,
  temperature: 0,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
  logit_bias: [],
  response_format: { type: 'text' },
  priority: 'interactive',
  from_batch: false,
  tenant_weight: 1,
  deadline: null,
  seed: null,
  stop: [],
  ignore_eos: false,
  logprobs: null,
  echo: false,
  return_token_ids: false,
  stream: false,
  include_usage: false,
} satisfies Partial<GenerateRequest>;
