/** What a worker refuses of a request that the edge has admitted: only it knows the base. */
import type { BaseInfo, EmbedRequest, GenerateRequest, Task } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { choosesBest } from './best-of.ts';
import type { TextSide } from './prompts.ts';

/** Log-probabilities in one whole answer: some 300 MB of JSON. A stream may have any number. */
const MOST_LOGPROBS = 4_000_000;

export function checkBase(task: Task, request: GenerateRequest | EmbedRequest, base: BaseInfo): void {
  if (request.base !== base.id || request.base_revision !== base.revision) {
    const message = `${task}: this worker serves ${base.id} at revision ${base.revision}, not ${request.base} at ${request.base_revision}`;
    throw new Failure({ kind: 'unavailable', message, retryAfterSeconds: 1 });
  }
}

export function checkRequest(request: GenerateRequest, base: BaseInfo, text: TextSide | null): void {
  const refuse = (kind: 'unsupported' | 'invalid_request', message: string, param: string) => new Failure({ kind, message, param });
  checkBase('generate', request, base);
  if (!text && request.stop.length > 0) {
    const message = `generate with ${base.id}: this base has no tokenizer, so there is no text in which to find stop strings`;
    throw refuse('unsupported', message, 'stop');
  }
  const foreign = request.logit_bias.find(([id]) => id >= base.vocab_size);
  if (foreign) throw refuse('invalid_request', `logit_bias: token ids are below ${base.vocab_size}, got ${foreign[0]}`, 'logit_bias');
  if (request.best_of < request.n || (request.stream && choosesBest(request))) {
    const message = `best_of: expected at least n (${request.n}), and n itself for a stream, got ${request.best_of}`;
    throw refuse('invalid_request', message, 'best_of');
  }
}

/** Each prompt and what is asked for after it must fit the context. */
export function checkLengths(request: GenerateRequest, prompts: number[][], context: number): void {
  const param = request.input.kind === 'chat' ? 'messages' : 'prompt';
  const completion = request.max_tokens ?? 1;
  const long = prompts.find((prompt) => prompt.length + completion > context);
  if (!long) return;
  const asked = request.max_tokens ?? 'at least 1';
  const message = `This model's maximum context length is ${context} tokens; the request has ${long.length} in the ${param} and asks for ${asked} in the completion`;
  throw new Failure({ kind: 'invalid_request', message, param, code: 'context_length_exceeded' });
}

/** Log-probabilities wait in memory until an answer is whole. */
export function checkSize(request: GenerateRequest, prompts: number[][], context: number): void {
  if (request.stream || (request.logprobs === null && !choosesBest(request))) return;
  const most = Math.min(request.max_tokens ?? context, context);
  const tokens = prompts.reduce((sum, prompt) => sum + request.best_of * (most + (request.echo ? prompt.length : 0)), 0);
  const wanted = tokens * ((request.logprobs ?? 0) + 1);
  if (wanted <= MOST_LOGPROBS) return;
  const message = `logprobs: an answer may hold ${MOST_LOGPROBS} of them, this one up to ${wanted}; stream it, or lower n, best_of, max_tokens or the number of alternatives`;
  throw new Failure({ kind: 'invalid_request', message, param: 'logprobs' });
}
