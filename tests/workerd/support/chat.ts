/** Chat answers as a worker writes them, whole and streamed. */
import type { ServerResponse } from 'node:http';
import type { GenerateRequest } from '../../../shared/contract/worker.ts';
import { json } from './peer.ts';

const USAGE = { prompt_tokens: 11, completion_tokens: 3, total_tokens: 14, prompt_tokens_details: { cached_tokens: 8 } };

interface Call {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

const receiptOf = (request: GenerateRequest) => ({
  request_id: request.request_id,
  base_revision: request.base_revision,
  precision: 'fp32',
  adapters: request.adapters,
  worker: 'peer-1',
  prefix_cached_tokens: 8,
});

const headOf = (request: GenerateRequest) => ({ id: `chatcmpl-${request.request_id.slice(4)}`, created: 1, model: request.model });

export interface Said {
  content: string | null;
  calls?: Call[];
  finish?: 'stop' | 'length' | 'tool_calls';
  logprobs?: object[];
}

export function say(request: GenerateRequest, res: ServerResponse, { content, calls, finish = 'stop', logprobs }: Said): void {
  const message = { role: 'assistant', content, refusal: null, ...(calls ? { tool_calls: calls } : {}) };
  const choice = { index: 0, message, logprobs: logprobs ? { content: logprobs, refusal: null } : null, finish_reason: finish };
  json(res, 200, { ...headOf(request), object: 'chat.completion', choices: [choice], usage: USAGE, switchyard: receiptOf(request) });
}

/** Opens a stream; the deltas follow one by one. */
export function stream(request: GenerateRequest, res: ServerResponse) {
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  const send = (choices: object[], more: object = {}) =>
    res.write(`data: ${JSON.stringify({ ...headOf(request), object: 'chat.completion.chunk', choices, ...more })}\n\n`);
  return {
    delta: (delta: object, logprobs: object[] | null = null) =>
      send([{ index: 0, delta, logprobs: logprobs && { content: logprobs }, finish_reason: null }]),
    end(finish: 'stop' | 'length' | 'tool_calls') {
      send([{ index: 0, delta: {}, logprobs: null, finish_reason: finish }], { switchyard: receiptOf(request) });
      send([], { usage: USAGE });
      res.end('data: [DONE]\n\n');
    },
  };
}
