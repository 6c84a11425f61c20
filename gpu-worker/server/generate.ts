/**
 * POST /generate: tokenise, make adapters resident, submit, answer as OpenAI does. One write per
 * engine step, holding all that the step gave this request.
 */
import type { ServerResponse } from 'node:http';
import type { Engine, SamplingOptions } from '../../shared/contract/engine.ts';
import { GenerateRequest, type Receipt } from '../../shared/contract/worker.ts';
import type { AdapterTier } from './adapter-tier.ts';
import { type Done, streamedAnswer, wholeAnswer } from './answer.ts';
import { choosesBest } from './best-of.ts';
import { parseJson } from './http.ts';
import type { Measures } from './metrics.ts';
import { ResponseWriter, type Usage } from './openai-format.ts';
import { encodePrompts, type TextSide } from './prompts.ts';
import { checkLengths, checkRequest, checkSize } from './request-checks.ts';
import { grammarOf } from './tools/grammar.ts';
import { offerOf } from './tools/offer.ts';

export interface GenerateOptions {
  worker: string;
  engine: Engine;
  adapters: AdapterTier;
  text: TextSide | null;
  measures: Measures;
  /** Called when the engine ended a request: its usage is in the journal. */
  onEnded: () => void;
}

const samplingOf = (request: GenerateRequest): SamplingOptions => ({
  temperature: request.temperature,
  topP: request.top_p,
  topK: request.top_k,
  minP: request.min_p,
  frequencyPenalty: request.frequency_penalty,
  presencePenalty: request.presence_penalty,
  repetitionPenalty: request.repetition_penalty,
  logitBias: request.logit_bias,
  seed: request.seed,
  maxTokens: request.max_tokens,
  stop: request.stop,
  ignoreEos: request.ignore_eos,
  // Which choices are best is known from their logprobs.
  logprobs: request.logprobs ?? (choosesBest(request) ? 0 : null),
  echo: request.echo,
});

export function generateHandler(options: GenerateOptions) {
  const { engine, adapters, text, measures } = options;
  const { base } = engine;

  return async function generate(body: Uint8Array, response: ServerResponse): Promise<void> {
    const request = parseJson(GenerateRequest, body, 'generate');
    checkRequest(request, base, text);
    const began = performance.now();
    const offer = offerOf(request.input, text);
    const grammar = grammarOf(request.response_format, offer);
    const digests = request.adapters.map(({ digest }) => digest);
    adapters.prefetch(digests);
    const prompts = await encodePrompts(request.input, offer, base, text);
    checkLengths(request, prompts, base.context_length);
    checkSize(request, prompts, base.context_length);
    const release = await adapters.acquire(digests);
    try {
      const writer = new ResponseWriter(request, offer, text, Date.now());
      const answer = request.stream ? streamedAnswer(response, writer, prompts.length * request.n) : wholeAnswer(response, writer, request);
      const receipt = (usage: Usage): Receipt => ({
        request_id: request.request_id,
        base_revision: base.revision,
        precision: base.precision,
        adapters: request.adapters,
        worker: options.worker,
        prefix_cached_tokens: usage.cachedTokens,
      });
      const done = await new Promise<Done>((resolve, reject) => {
        let first = true;
        let failure: unknown;
        const account = { tenant: request.tenant, keyId: request.key_id, model: request.model };
        const sampling = samplingOf(request);
        const { request_id: id, best_of: n, adapters, priority, deadline, tenant_weight: tenantWeight } = request;
        const rest = { priority, deadline, tenantWeight, adapters, sampling, grammar };
        const running = engine.submit({ id, account, base: base.id, prompts, n, ...rest }, (events) => {
          if (first) measures.firstToken.observe((performance.now() - began) / 1000);
          first = false;
          try {
            if (!failure) answer.step(events);
          } catch (error) {
            failure = error;
            running.cancel();
          }
          // Adapters stay pinned until the engine let go of them.
          const ended = events.find((event) => event.type === 'done');
          if (ended && failure) reject(failure);
          else if (ended) resolve(ended);
        });
        // Also emitted after a whole answer, when there is nothing left to cancel.
        response.once('close', () => running.cancel());
        if (response.destroyed) running.cancel();
      });
      measures.requests.inc({ outcome: done.outcome });
      if (!response.destroyed) answer.end(done, receipt(done.usage));
    } finally {
      release();
      options.onEnded();
    }
  };
}
