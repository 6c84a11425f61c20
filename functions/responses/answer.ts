/** The response object: what the request said, and what a chat answer adds to it. Pure. */
import type { Logprob, OutputCall, OutputItem, OutputMessage, ResponseObject, ResponsesRequest } from '../../shared/contract/responses.ts';
import { type ChatAnswer, type FinishReason, toUsage } from './chat.ts';

type ItemStatus = OutputItem['status'];

/** Ids of a response and its items follow from the request's, so that logs of all three meet. */
const suffixOf = (requestId: string): string => requestId.slice('req_'.length);

/** Before anything was generated. */
export function begun(request: ResponsesRequest, requestId: string, now: number): ResponseObject {
  const verbosity = { verbosity: 'medium' };
  return {
    id: `resp_${suffixOf(requestId)}`,
    object: 'response',
    created_at: Math.floor(now / 1000),
    completed_at: null,
    status: 'in_progress',
    error: null,
    incomplete_details: null,
    model: request.model,
    output: [],
    usage: null,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    temperature: request.temperature ?? 1,
    top_p: request.top_p ?? 1,
    text: { format: request.text?.format ?? { type: 'text' }, ...verbosity },
    tools: (request.tools ?? []).map((tool) => ({
      type: tool.type,
      name: tool.name,
      description: tool.description ?? null,
      parameters: tool.parameters ?? null,
      strict: tool.strict ?? false,
    })),
    tool_choice: request.tool_choice ?? 'auto',
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    top_logprobs: request.top_logprobs ?? 0,
    metadata: request.metadata ?? {},
    user: request.user ?? null,
    safety_identifier: request.safety_identifier ?? null,
    prompt_cache_key: request.prompt_cache_key ?? null,
    store: false,
    background: false,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: request.service_tier ?? 'default',
    truncation: 'disabled',
  };
}

/** The status of a response, and of the item that was being written when it ended. */
export const statusOf = (finish: FinishReason): 'completed' | 'incomplete' => (finish === 'length' ? 'incomplete' : 'completed');

export function ended(head: ResponseObject, finish: FinishReason, output: OutputItem[], now: number): ResponseObject {
  const status = statusOf(finish);
  const incomplete_details = status === 'incomplete' ? { reason: 'max_output_tokens' as const } : null;
  const completed_at = status === 'completed' ? Math.floor(now / 1000) : null;
  return { ...head, status, completed_at, incomplete_details, output };
}

/** A worker's whole chat answer as a response. */
export function whole(request: ResponsesRequest, requestId: string, answer: ChatAnswer, now: number): ResponseObject {
  const { message, logprobs, finish_reason: finish } = answer.choices[0]!;
  const calls = message.tool_calls ?? [];
  const output: OutputItem[] = [];
  if (message.content || calls.length === 0)
    output.push(textItem(requestId, 0, 'completed', message.content ?? '', logprobs?.content ?? []));
  for (const call of calls)
    output.push(callItem(requestId, output.length, 'completed', call.id, call.function.name, call.function.arguments));
  // What the limit cut off is the last thing that was being written.
  output.at(-1)!.status = statusOf(finish);
  return { ...ended(begun(request, requestId, now), finish, output, now), usage: toUsage(answer.usage), switchyard: answer.switchyard };
}

export function textItem(requestId: string, index: number, status: ItemStatus, text: string, logprobs: Logprob[]): OutputMessage {
  const content = status === 'in_progress' ? [] : [{ type: 'output_text' as const, text, annotations: [], logprobs }];
  return { type: 'message', id: `msg_${suffixOf(requestId)}_${index}`, status, role: 'assistant', content };
}

export function callItem(requestId: string, index: number, status: ItemStatus, callId: string, name: string, args: string): OutputCall {
  return { type: 'function_call', id: `fc_${suffixOf(requestId)}_${index}`, status, call_id: callId, name, arguments: args };
}
