/**
 * POST /generate: tokenise, make adapters resident, submit, answer as OpenAI does. One write per
 * engine step, holding all that the step gave this request.
 */
import type { ServerResponse } from 'node:http';
import type { Engine, EngineEvent, SamplingOptions } from '../../shared/contract/engine.ts';
import { GenerateRequest, type Receipt } from '../../shared/contract/worker.ts';
import { Failure, toWire } from '../../shared/errors.ts';
import type { AdapterTier } from './adapter-tier.ts';
import { parseJson, sendJson } from './http.ts';
import type { Measures } from './metrics.ts';
import { ResponseWriter, type Usage } from './openai-format.ts';
import { collect, type Piece } from './pieces.ts';
import { encodePrompts, type TextSide } from './prompts.ts';

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
  logprobs: request.logprobs,
  echo: request.echo,
});

/** What may wait in memory for a client that reads slower than the engine generates. */
const MOST_UNREAD_BYTES = 64_000_000;

/** Log-probabilities in one whole answer: some 300 MB of JSON. A stream may have any number. */
const MOST_LOGPROBS = 4_000_000;

function checkSize(request: GenerateRequest, prompts: number[][], context: number): void {
  if (request.stream || request.logprobs === null) return;
  const most = Math.min(request.max_tokens ?? context, context);
  const tokens = prompts.reduce((sum, prompt) => sum + request.n * (most + (request.echo ? prompt.length : 0)), 0);
  const wanted = tokens * (request.logprobs + 1);
  if (wanted <= MOST_LOGPROBS) return;
  const message = `logprobs: an answer may hold ${MOST_LOGPROBS} of them, this one up to ${wanted}; stream it, or lower n, max_tokens or the number of alternatives`;
  throw new Failure({ kind: 'invalid_request', message, param: 'logprobs' });
}

type Done = Extract<EngineEvent, { type: 'done' }>;

const brokenOff = (done: Done): Failure =>
  new Failure({ kind: 'internal', message: `generate: the engine broke off: ${done.error ?? done.outcome}` });

/** Takes one request's events, step by step. */
interface Answer {
  step(events: EngineEvent[]): void;
  end(done: Done, receipt: Receipt): void;
}

function streamedAnswer(response: ServerResponse, writer: ResponseWriter, sequences: number): Answer {
  const begin = () => {
    if (response.headersSent) return;
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
  };
  let unfinished = sequences;
  /** The last sequence to finish waits for the receipt. */
  let last: Piece | null = null;
  return {
    step(events) {
      const pieces = new Map<number, Piece>();
      collect(events, pieces);
      let text = '';
      for (const piece of pieces.values()) {
        if (piece.finish) unfinished--;
        if (piece.finish && unfinished === 0) last = piece;
        else text += writer.chunk(piece, null);
      }
      if (text === '') return;
      begin();
      response.write(text);
      if (response.writableLength > MOST_UNREAD_BYTES)
        throw new Failure({ kind: 'upstream', message: `generate: the client left ${response.writableLength} bytes of its stream unread` });
    },
    end(done, receipt) {
      if (done.outcome !== 'finished' || !last) {
        if (!response.headersSent) throw brokenOff(done);
        // Without [DONE]: no client takes this for a whole answer.
        response.end(`data: ${JSON.stringify(toWire(brokenOff(done).value).body)}\n\n`);
        return;
      }
      begin();
      response.end(writer.chunk(last, receipt) + writer.end(done.usage));
    },
  };
}

function wholeAnswer(response: ServerResponse, writer: ResponseWriter): Answer {
  const pieces = new Map<number, Piece>();
  return {
    step: (events) => collect(events, pieces),
    end(done, receipt) {
      if (done.outcome !== 'finished') throw brokenOff(done);
      const inOrder = [...pieces.values()].sort((a, b) => a.index - b.index);
      sendJson(response, writer.whole(inOrder, done.usage, receipt));
    },
  };
}

export function generateHandler(options: GenerateOptions) {
  const { engine, adapters, text, measures } = options;
  const { base } = engine;

  return async function generate(body: Uint8Array, response: ServerResponse): Promise<void> {
    const request = parseJson(GenerateRequest, body, 'generate');
    if (request.base !== base.id || request.base_revision !== base.revision) {
      const message = `generate: this worker serves ${base.id} at revision ${base.revision}, not ${request.base} at ${request.base_revision}`;
      throw new Failure({ kind: 'unavailable', message, retryAfterSeconds: 1 });
    }
    if (!text && request.stop.length > 0) {
      const message = `generate with ${base.id}: this base has no tokenizer, so there is no text in which to find stop strings`;
      throw new Failure({ kind: 'unsupported', message, param: 'stop' });
    }
    const began = performance.now();
    const prompts = await encodePrompts(request.input, base, text);
    checkSize(request, prompts, base.context_length);
    const release = await adapters.acquire(request.adapters.map(({ digest }) => digest));
    try {
      const writer = new ResponseWriter(request, text?.tokenizer ?? null, Date.now());
      const answer = request.stream ? streamedAnswer(response, writer, prompts.length * request.n) : wholeAnswer(response, writer);
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
        const { request_id: id, n, adapters, priority, deadline, tenant_weight: tenantWeight } = request;
        const rest = { priority, deadline, tenantWeight, adapters, sampling, grammar: null };
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
