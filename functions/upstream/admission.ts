/** Turns OpenAI's request forms into those that the workers take. Pure; names are resolved elsewhere. */
import { type EmbeddingsRequest, toInputs } from '../../shared/contract/embeddings.ts';
import { type ChatRequest, type CompletionRequest, toPrompts } from '../../shared/contract/openai.ts';
import type { ChatMessageInput } from '../../shared/contract/openai-messages.ts';
import { type FunctionDefinition, namedFunction, type ResponseFormatInput } from '../../shared/contract/openai-tools.ts';
import type { ChatMessage, EmbedRequest, GenerateRequest, ResponseFormat, Tool, ToolChoice } from '../../shared/contract/worker.ts';

/** What a worker's request says beside the client's body: who asks, on which way and until when, and what the names mean. */
type Circumstances =
  | 'request_id'
  | 'tenant'
  | 'key_id'
  | 'tenant_weight'
  | 'from_batch'
  | 'deadline'
  | 'base'
  | 'base_revision'
  | 'adapters';

/** A request's own part of it. */
export type GenerateWork = Omit<GenerateRequest, Circumstances>;
export type EmbedWork = Omit<EmbedRequest, Circumstances>;
export type Work = GenerateWork | EmbedWork;

/** OpenAI's default for text completions. */
const DEFAULT_COMPLETION_TOKENS = 16;

function common(request: ChatRequest | CompletionRequest) {
  return {
    model: request.model,
    n: request.n ?? 1,
    temperature: request.temperature ?? 1,
    top_p: request.top_p ?? 1,
    top_k: Math.max(0, request.top_k ?? 0),
    min_p: request.min_p ?? 0,
    frequency_penalty: request.frequency_penalty ?? 0,
    presence_penalty: request.presence_penalty ?? 0,
    repetition_penalty: request.repetition_penalty ?? 1,
    logit_bias: Object.entries(request.logit_bias ?? {}).map(([id, bias]): [number, number] => [Number(id), bias]),
    priority: request.service_tier === 'flex' ? ('batch' as const) : ('interactive' as const),
    seed: request.seed ?? null,
    stop: typeof request.stop === 'string' ? [request.stop] : (request.stop ?? []),
    ignore_eos: request.ignore_eos ?? false,
    return_token_ids: request.return_token_ids ?? false,
    stream: request.stream ?? false,
    include_usage: request.stream_options?.include_usage ?? false,
  };
}

export function chatWork(request: ChatRequest): GenerateWork {
  return {
    ...common(request),
    best_of: request.n ?? 1,
    input: {
      kind: 'chat',
      messages: request.messages.map(toMessage),
      tools: (request.tools ?? []).map((tool) => toTool(tool.function)),
      tool_choice: toToolChoice(request),
      parallel_tool_calls: request.parallel_tool_calls ?? true,
    },
    response_format: toResponseFormat(request.response_format),
    max_tokens: request.max_completion_tokens ?? request.max_tokens ?? null,
    logprobs: request.logprobs ? (request.top_logprobs ?? 0) : null,
    echo: false,
  };
}

export function completionWork(request: CompletionRequest): GenerateWork {
  return {
    ...common(request),
    best_of: request.best_of ?? request.n ?? 1,
    input: { kind: 'completion', prompts: toPrompts(request.prompt) },
    response_format: { type: 'text' },
    max_tokens: request.max_tokens ?? DEFAULT_COMPLETION_TOKENS,
    logprobs: request.logprobs ?? null,
    echo: request.echo ?? false,
  };
}

export function embedWork({ model, input, dimensions, encoding_format }: EmbeddingsRequest): EmbedWork {
  return {
    model,
    inputs: toInputs(input),
    dimensions: dimensions ?? null,
    encoding_format: encoding_format ?? 'float',
    priority: 'interactive',
  };
}

const NO_PARAMETERS = { type: 'object', properties: {}, additionalProperties: false };

/** A function without parameters takes none; with them it takes an object, said or not. */
const toTool = ({ name, description, parameters, strict }: FunctionDefinition): Tool => ({
  name,
  description: description ?? null,
  parameters: parameters ? { type: 'object', ...parameters } : NO_PARAMETERS,
  strict: strict ?? false,
});

function toToolChoice({ tools, tool_choice: choice }: ChatRequest): ToolChoice {
  if (!tools?.length) return { type: 'none' };
  const name = namedFunction(choice);
  if (name !== null) return { type: 'function', name };
  return { type: typeof choice === 'string' ? choice : 'auto' };
}

function toResponseFormat(format: ResponseFormatInput | null | undefined): ResponseFormat {
  if (format?.type !== 'json_schema') return { type: format?.type ?? 'text' };
  const { schema, strict } = format.json_schema;
  return { type: 'json_schema', schema: schema ?? {}, strict: strict ?? false };
}

/** Text parts follow each other without a separator: nothing is added to what the client wrote. */
function toText(content: ChatMessageInput['content']): string {
  if (typeof content === 'string') return content;
  return content?.map((part) => part.text).join('') ?? '';
}

/** The schema has checked which fields come with which role. */
function toMessage(message: ChatMessageInput): ChatMessage {
  const content = toText(message.content);
  if (message.role === 'tool') return { role: 'tool', content, tool_call_id: message.tool_call_id ?? '' };
  const said = { content, ...(message.name ? { name: message.name } : {}) };
  const role = toRole(message.role);
  if (role !== 'assistant' || !message.tool_calls?.length) return { role, ...said };
  return {
    role,
    ...said,
    tool_calls: message.tool_calls.map(({ id, function: { name, arguments: text } }) => ({ id, name, arguments: text })),
  };
}

/** `developer` is OpenAI's newer name for `system`; other roles were refused by the schema. */
function toRole(role: string): 'system' | 'user' | 'assistant' {
  return role === 'user' || role === 'assistant' ? role : 'system';
}
