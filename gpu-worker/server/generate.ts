/**
 * POST /generate: tokenise, make adapters resident, submit, answer as OpenAI does. One write per
 * engine step, holding all that the step gave this request.
 */
import type { ServerResponse } from 'node:http';
import type { Engine, SamplingOptions } from '../../shared/contract/engine.ts';
import { GenerateRequest, type Receipt } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { AdapterTier } from './adapter-tier.ts';
import { type Answer, type Done, streamedAnswer, wholeAnswer } from './answer.ts';
import { choosesBest } from './best-of.ts';
import { parseJson, sendJson } from './http.ts';
import { type KeptAnswers, sendKept } from './kept-answers.ts';
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
  /** Of requests that outlive their connection. */
  kept: KeptAnswers;
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
  const { engine, adapters, text, kept, measures } = options;
  const { base } = engine;

  return async function generate(body: Uint8Array, response: ServerResponse): Promise<void> {
    const request = parseJson(GenerateRequest, body, 'generate');
    if (request.from_batch) {
      const whole = async (cancelled: AbortSignal) => {
        const answer = Promise.withResolvers<unknown>();
        await run(request, (writer) => wholeAnswer(answer.resolve, writer, request), cancelled);
        if (cancelled.aborted) answer.reject(new Failure({ kind: 'upstream', message: 'generate: the request was cancelled' }));
        return await answer.promise;
      };
      sendKept(response, await kept.once(request.request_id, whole));
      return;
    }
    const left = new AbortController();
    // Also emitted after a whole answer, when there is nothing left to cancel.
    response.once('close', () => left.abort());
    if (response.destroyed) left.abort();
    const answer = (writer: ResponseWriter, sequences: number) =>
      request.stream ? streamedAnswer(response, writer, sequences) : wholeAnswer((whole) => sendJson(response, whole), writer, request);
    await run(request, answer, left.signal);
  };

  /** Nothing is answered once `left` is aborted. */
  async function run(
    request: GenerateRequest,
    answerWith: (writer: ResponseWriter, sequences: number) => Answer,
    left: AbortSignal,
  ): Promise<void> {
    checkRequest(request, base, text);
    const began = performance.now();
    const offer = offerOf(request.input, text);
    const grammar = grammarOf(request.response_format, offer);
    const digests = request.adapters.map(({ digest }) => digest);
    adapters.prefetch(digests);
    const prompts = await encodePrompts(request.input, offer, base, text);
    checkLengths(request, prompts, base.context_length);
    checkSize(request, prompts, base.context_length);
    if (grammar) await engine.prepareGrammar(grammar, request.tenant);
    const release = await adapters.acquire(digests, left);
    if (!release) return;
    try {
      const writer = new ResponseWriter(request, offer, text, Date.now());
      const answer = answerWith(writer, prompts.length * request.n);
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
        const account = { tenant: request.tenant, keyId: request.key_id, model: request.model, fromBatch: request.from_batch };
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
        left.addEventListener('abort', () => running.cancel());
        if (left.aborted) running.cancel();
      });
      measures.requests.inc({ outcome: done.outcome });
      if (!left.aborted) answer.end(done, receipt(done.usage));
    } finally {
      release();
      options.onEnded();
    }
  }
}
