/** POST /embed: tokenise, make adapters resident, submit, answer as OpenAI does. */
import type { ServerResponse } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import type { Embeddings } from '../../shared/contract/embeddings.ts';
import type { EmbeddingEvent, Engine } from '../../shared/contract/engine.ts';
import { type BaseInfo, EmbedRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { scaledToOne } from '../tensor/unit-length.ts';
import type { TextEncoding } from '../tokenizer/encoder.ts';
import type { AdapterTier } from './adapter-tier.ts';
import { brokenOff, type Done } from './answer.ts';
import { parseJson, sendJson } from './http.ts';
import { type KeptAnswers, sendKept } from './kept-answers.ts';
import type { Measures } from './metrics.ts';
import { checkBase } from './request-checks.ts';

export interface EmbedOptions {
  worker: string;
  engine: Engine;
  adapters: AdapterTier;
  /** null: the base takes token ids only. */
  text: TextEncoding | null;
  /** Numbers of a vector. */
  width: number;
  kept: KeptAnswers;
  measures: Pick<Measures, 'requests'>;
  /** Called when the engine ended a request: its usage is in the journal. */
  onEnded: () => void;
}

type Vector = Float32Array<ArrayBuffer>;

/** Of a token of text that is refused unseen where there are too many; a longer word is one unknown token. */
const MOST_TOKEN_BYTES = 256;

const refuse = (message: string, param: string, code?: string): Failure =>
  new Failure({ kind: 'invalid_request', message, param, ...(code ? { code } : {}) });

export function embedHandler(options: EmbedOptions) {
  const { engine, adapters, text, kept, measures, width } = options;
  const { base } = engine;

  return async function embed(body: Uint8Array, response: ServerResponse): Promise<void> {
    const request = parseJson(EmbedRequest, body, 'embed');
    if (request.from_batch) {
      const whole = async (cancelled: AbortSignal): Promise<Embeddings> => {
        const embeddings = await answer(request, cancelled);
        if (!embeddings) throw new Failure({ kind: 'upstream', message: 'embed: the request was cancelled' });
        return embeddings;
      };
      sendKept(response, await kept.once(request.request_id, whole));
      return;
    }
    const left = new AbortController();
    // Also emitted after a whole answer, when there is nothing left to cancel.
    response.once('close', () => left.abort());
    if (response.destroyed) left.abort();
    const embeddings = await answer(request, left.signal);
    if (embeddings) sendJson(response, embeddings);
  };

  /** Null: `left` was aborted before all vectors were there. */
  async function answer(request: EmbedRequest, left: AbortSignal): Promise<Embeddings | null> {
    checkBase('embed', request, base);
    if (request.dimensions !== null && request.dimensions > width)
      throw refuse(`dimensions: ${base.id} has vectors of ${width} numbers, got ${request.dimensions}`, 'dimensions');
    const digests = request.adapters.map(({ digest }) => digest);
    adapters.prefetch(digests);
    const prompts = await encodeInputs(request.inputs, base, text);
    const release = await adapters.acquire(digests, left);
    if (!release) return null;
    try {
      const { vectors, done } = await submit(request, prompts, left);
      measures.requests.inc({ outcome: done.outcome });
      if (left.aborted) return null;
      if (done.outcome !== 'finished') throw brokenOff('embed', done);
      return {
        object: 'list',
        data: vectors.map((values, index) => ({ object: 'embedding', index, embedding: written(values, request) })),
        model: request.model,
        usage: { prompt_tokens: done.usage.promptTokens, total_tokens: done.usage.promptTokens },
        switchyard: {
          request_id: request.request_id,
          base_revision: base.revision,
          precision: base.precision,
          adapters: request.adapters,
          worker: options.worker,
          prefix_cached_tokens: 0,
        },
      };
    } finally {
      release();
      options.onEnded();
    }
  }

  function submit(request: EmbedRequest, prompts: number[][], left: AbortSignal): Promise<{ vectors: Vector[]; done: Done }> {
    const { promise, resolve } = Promise.withResolvers<{ vectors: Vector[]; done: Done }>();
    const vectors: Vector[] = [];
    const onEvents = (events: EmbeddingEvent[]) => {
      for (const event of events) {
        if (event.type === 'embedding') vectors[event.prompt] = event.values;
        else resolve({ vectors, done: event });
      }
    };
    const {
      request_id: id,
      tenant,
      key_id: keyId,
      model,
      from_batch: fromBatch,
      tenant_weight: tenantWeight,
      priority,
      deadline,
    } = request;
    const account = { tenant, keyId, model, fromBatch };
    const work = { id, account, priority, tenantWeight, deadline, base: base.id, prompts, adapters: request.adapters };
    const running = engine.embed(work, onEvents);
    left.addEventListener('abort', () => running.cancel());
    if (left.aborted) running.cancel();
    return promise;
  }
}

function written(values: Vector, { dimensions, encoding_format: format }: EmbedRequest): number[] | string {
  const shown = dimensions === null || dimensions === values.length ? values : scaledToOne(values.subarray(0, dimensions));
  return format === 'float' ? Array.from(shown) : Buffer.from(shown.buffer).toString('base64');
}

/** Encoding holds up everything else on this thread: others get a turn between two texts. */
async function encodeInputs(inputs: EmbedRequest['inputs'], base: BaseInfo, text: TextEncoding | null): Promise<number[][]> {
  const context = base.context_length;
  const tooLong = (i: number, length: string) =>
    refuse(`This model's maximum context length is ${context} tokens; input ${i} has ${length}`, 'input', 'context_length_exceeded');
  const prompts: number[][] = [];
  for (const [i, input] of inputs.entries()) {
    if (i > 0 && typeof input === 'string') await turn();
    const ids = typeof input === 'string' ? encode(input, i) : input;
    if (ids.length > context) throw tooLong(i, String(ids.length));
    const outside = ids.find((id) => id >= base.vocab_size);
    if (outside !== undefined) throw refuse(`input: expected token ids under ${base.vocab_size}, got ${outside} in input ${i}`, 'input');
    prompts.push(ids);
  }
  return prompts;

  function encode(input: string, i: number): number[] {
    if (!text) {
      const message = `embed with ${base.id}: this base has no tokenizer; expected token ids`;
      throw new Failure({ kind: 'unsupported', message, param: 'input' });
    }
    const bytes = Buffer.byteLength(input);
    if (bytes > context * MOST_TOKEN_BYTES) throw tooLong(i, `${bytes} bytes of text, more than ${context * MOST_TOKEN_BYTES}`);
    return text.encode(input);
  }
}
