/**
 * A responses request as the chat request that asks for the same: one path for prompts, tools, grammars and
 * bounds. What is wrong with the chat request is reported under the name that the client wrote.
 */
import { ChatRequest } from '../../shared/contract/openai.ts';
import { type InputItem, type ResponsesRequest, wantsLogprobs } from '../../shared/contract/responses.ts';
import { type ErrorValue, Failure } from '../../shared/errors.ts';
import { check } from '../middleware/body.ts';
import { chatWork, type GenerateWork } from '../upstream/admission.ts';

/** Throws Failure. */
export function responseWork(request: ResponsesRequest): GenerateWork {
  try {
    return chatWork(check(ChatRequest, toChat(request)));
  } catch (error) {
    throw error instanceof Failure ? new Failure(renamed(error.value), { cause: error }) : error;
  }
}

function toChat(request: ResponsesRequest) {
  const { model, temperature, top_p, stream, adapters, parallel_tool_calls, service_tier } = request;
  const choice = request.tool_choice;
  return {
    model,
    temperature,
    top_p,
    stream,
    adapters,
    parallel_tool_calls,
    service_tier,
    messages: toMessages(request),
    max_completion_tokens: request.max_output_tokens,
    response_format: toResponseFormat(request.text?.format),
    tools: request.tools?.length ? request.tools.map(({ type, ...definition }) => ({ type, function: given(definition) })) : undefined,
    tool_choice: typeof choice === 'object' && choice ? { type: 'function', function: { name: choice.name } } : choice,
    ...(wantsLogprobs(request) ? { logprobs: true, top_logprobs: request.top_logprobs ?? 0 } : {}),
    ...(stream ? { stream_options: { include_usage: true } } : {}),
  };
}

/** Without the fields that are null or left out. */
const given = (fields: object) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));

function toResponseFormat(format: NonNullable<ResponsesRequest['text']>['format']) {
  if (!format) return undefined;
  if (format.type !== 'json_schema') return format;
  const { type, ...schema } = format;
  return { type, json_schema: given(schema) };
}

interface ChatMessage {
  role: string;
  content: string | null;
  tool_call_id?: string;
  tool_calls?: { id: string; type: 'function'; function: { name: string; arguments: string } }[];
}

function toMessages({ instructions, input }: ResponsesRequest): ChatMessage[] {
  const messages: ChatMessage[] = instructions ? [{ role: 'system', content: instructions }] : [];
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }];
  for (const item of input) append(messages, item);
  return messages;
}

/** Calls belong to the assistant's message before them: a turn is one message in chat, several items here. */
function append(messages: ChatMessage[], item: InputItem): void {
  switch (item.type) {
    case 'message': {
      const last = messages.at(-1);
      // Said after a call, before its result: of the same turn.
      if (item.role === 'assistant' && last?.tool_calls) last.content = (last.content ?? '') + textOf(item.content);
      else messages.push({ role: item.role, content: textOf(item.content) });
      return;
    }
    case 'function_call': {
      const call = { id: item.call_id, type: 'function' as const, function: { name: item.name, arguments: item.arguments } };
      const last = messages.at(-1);
      if (last?.role === 'assistant') last.tool_calls = [...(last.tool_calls ?? []), call];
      else messages.push({ role: 'assistant', content: null, tool_calls: [call] });
      return;
    }
    case 'function_call_output':
      messages.push({ role: 'tool', tool_call_id: item.call_id, content: textOf(item.output) });
      return;
    default:
      item satisfies never;
  }
}

/** Parts follow each other without a separator, as in chat. */
const textOf = (content: string | { text: string }[]): string =>
  typeof content === 'string' ? content : content.map((part) => part.text).join('');

/** Chat's names → those of this API. */
const NAMES: [RegExp, string][] = [
  [/^messages\b.*/, 'input'],
  [/^max_(completion_)?tokens$/, 'max_output_tokens'],
  [/^response_format\.json_schema\b/, 'text.format'],
  [/^response_format\b/, 'text.format'],
  [/^(tools\.\d+)\.function\b/, '$1'],
  [/^tool_choice\.function\b/, 'tool_choice'],
];

export function renamedParam(param: string): string {
  const [pattern, name] = NAMES.find(([candidate]) => candidate.test(param)) ?? [/$^/, ''];
  return param.replace(pattern, name);
}

function renamed(value: ErrorValue): ErrorValue {
  if (!('param' in value) || value.param === undefined) return value;
  const param = renamedParam(value.param);
  return { ...value, param, message: value.message.replace(value.param, param) };
}
