/** Turns OpenAI's request forms into the one form the workers take. Pure; names are resolved elsewhere. */
import { type ChatRequest, type CompletionRequest, toPrompts } from '../../shared/contract/openai.ts';
import type { GenerateRequest } from '../../shared/contract/worker.ts';

/** A request's own part of a GenerateRequest: everything but who asks and what the names mean. */
export type Work = Omit<GenerateRequest, 'request_id' | 'tenant' | 'key_id' | 'base' | 'base_revision' | 'adapters'>;

/** OpenAI's default for text completions. */
const DEFAULT_COMPLETION_TOKENS = 16;

function common(request: ChatRequest | CompletionRequest) {
  return {
    model: request.model,
    n: request.n ?? 1,
    best_of: request.n ?? 1,
    temperature: request.temperature ?? 1,
    top_p: request.top_p ?? 1,
    top_k: Math.max(0, request.top_k ?? 0),
    min_p: 0,
    frequency_penalty: 0,
    presence_penalty: 0,
    repetition_penalty: 1,
    logit_bias: [],
    response_format: { type: 'text' as const },
    priority: 'interactive' as const,
    tenant_weight: 1,
    deadline: null,
    seed: request.seed ?? null,
    stop: typeof request.stop === 'string' ? [request.stop] : (request.stop ?? []),
    ignore_eos: request.ignore_eos ?? false,
    return_token_ids: request.return_token_ids ?? false,
    stream: request.stream ?? false,
    include_usage: request.stream_options?.include_usage ?? false,
  };
}

export function chatWork(request: ChatRequest): Work {
  return {
    ...common(request),
    input: {
      kind: 'chat',
      messages: request.messages.map(toMessage),
      tools: [],
      tool_choice: { type: 'none' },
      parallel_tool_calls: true,
    },
    max_tokens: request.max_completion_tokens ?? request.max_tokens ?? null,
    logprobs: request.logprobs ? (request.top_logprobs ?? 0) : null,
    echo: false,
  };
}

export function completionWork(request: CompletionRequest): Work {
  return {
    ...common(request),
    input: { kind: 'completion', prompts: toPrompts(request.prompt) },
    max_tokens: request.max_tokens ?? DEFAULT_COMPLETION_TOKENS,
    logprobs: request.logprobs ?? null,
    echo: request.echo ?? false,
  };
}

type Message = ChatRequest['messages'][number];

/** Text parts follow each other without a separator: nothing is added to what the client wrote. */
function toMessage({ role, content }: Message) {
  const text = typeof content === 'string' ? content : content.map((part) => String(part['text'])).join('');
  return { role: toRole(role), content: text };
}

/** `developer` is OpenAI's newer name for `system`; other roles were refused by the schema. */
function toRole(role: string): 'system' | 'user' | 'assistant' {
  return role === 'user' || role === 'assistant' ? role : 'system';
}
