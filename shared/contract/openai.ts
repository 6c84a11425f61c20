/**
 * OpenAI's chat and text completion requests as this platform takes them. Every field that OpenAI
 * documents is listed: honoured, or accepted only with the value that asks for nothing, or refused by
 * name. Unknown fields are refused too. `null` means the same as leaving a field out, as at OpenAI.
 */
import { z } from 'zod';
import { equals, isEmpty, onlyNeutral, refuse } from './fields.ts';
import { Receipt } from './worker.ts';

const count = z.number().int().nonnegative();

const MODEL = z.string().min(1).max(256);

/** One adapter of a mixture; `model` of the request is then the base. */
const MixtureEntry = z.strictObject({ model: MODEL, weight: z.number().min(-4).max(4) });

const StreamOptions = z.strictObject({
  include_usage: z.boolean().nullish(),
  include_obfuscation: onlyNeutral('stream_options.include_obfuscation', equals(false)),
});

/** OpenAI documents at most 4 stop strings; vLLM's clients send more. */
const Stop = z.union([z.string().min(1), z.array(z.string().min(1)).max(16)], {
  error: 'expected a string or an array of 1 to 16 non-empty strings',
});

const shared = {
  model: MODEL,
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  /** vLLM's: 0 or -1 is off. */
  top_k: z.number().int().min(-1).nullish(),
  seed: z.number().int().nullish(),
  stop: Stop.nullish(),
  n: z.number().int().min(1).max(128).nullish(),
  stream: z.boolean().nullish(),
  stream_options: StreamOptions.nullish(),
  /** vLLM's: each choice carries its token ids. */
  return_token_ids: z.boolean().nullish(),
  /** vLLM's: the end-of-sequence token does not end a choice. */
  ignore_eos: z.boolean().nullish(),
  adapters: z.array(MixtureEntry).min(1).max(8).nullish(),
  /** Says who the end user is; has no influence on the answer, at OpenAI neither. */
  user: z.string().nullish(),
  presence_penalty: onlyNeutral('presence_penalty', equals(0)),
  frequency_penalty: onlyNeutral('frequency_penalty', equals(0)),
  logit_bias: onlyNeutral('logit_bias', isEmpty),
};

const MAX_PROMPTS = 128;
const CompletionPrompt = z.union([z.string(), z.array(z.string()).min(1), z.array(count).min(1), z.array(z.array(count).min(1)).min(1)], {
  error: 'expected a string, an array of strings, an array of token ids, or an array of arrays of token ids, none of them empty',
});

export const CompletionRequest = z
  .strictObject({
    ...shared,
    prompt: CompletionPrompt,
    max_tokens: count.nullish(),
    logprobs: z.number().int().min(0).max(20).nullish(),
    echo: z.boolean().nullish(),
    best_of: z.number().int().nullish(),
    suffix: onlyNeutral('suffix', equals('')),
  })
  .superRefine((request, ctx) => {
    if (typeof request.best_of === 'number' && request.best_of !== (request.n ?? 1)) {
      ctx.addIssue({ code: 'custom', path: ['best_of'], message: 'best_of is supported only equal to n', params: { unsupported: true } });
    }
    const prompts = toPrompts(request.prompt).length;
    if (prompts > MAX_PROMPTS) {
      ctx.addIssue({ code: 'custom', path: ['prompt'], message: `expected at most ${MAX_PROMPTS} prompts, got ${prompts}` });
    }
    checkStreamOptions(request, ctx);
  });
export type CompletionRequest = z.infer<typeof CompletionRequest>;

/** One or many prompts, each text or token ids. */
export function toPrompts(prompt: z.infer<typeof CompletionPrompt>): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  if (typeof prompt[0] === 'number') return [prompt as number[]];
  return prompt as (string | number[])[];
}

const TextPart = z.looseObject({ type: z.string() }).superRefine((part, ctx) => {
  if (part.type !== 'text') refuse(ctx, `content parts of type "${part.type}" are not supported: only "text" is`);
  else if (typeof part['text'] !== 'string') ctx.addIssue({ code: 'custom', path: ['text'], message: 'expected a string' });
});

const ChatRole = z.string().superRefine((role, ctx) => {
  if (role === 'tool' || role === 'function') refuse(ctx, `messages of role "${role}" are not supported`);
  else if (!['system', 'developer', 'user', 'assistant'].includes(role)) {
    ctx.addIssue({ code: 'custom', message: `expected system, developer, user or assistant, got ${JSON.stringify(role.slice(0, 40))}` });
  }
});

const ChatMessageInput = z.strictObject({
  role: ChatRole,
  content: z.union([z.string(), z.array(TextPart).min(1)], { error: contentError }),
  name: onlyNeutral('name'),
  refusal: onlyNeutral('refusal'),
  audio: onlyNeutral('audio'),
  tool_calls: onlyNeutral('tool_calls', isEmpty),
  tool_call_id: onlyNeutral('tool_call_id'),
  function_call: onlyNeutral('function_call'),
});

/** Lets a finding inside an array of parts through; a content of another type gets one plain sentence. */
function contentError(issue: { input?: unknown }): string | undefined {
  return Array.isArray(issue.input) ? undefined : 'expected a string or an array of text parts';
}

export const ChatRequest = z
  .strictObject({
    ...shared,
    messages: z.array(ChatMessageInput).min(1),
    max_tokens: z.number().int().min(1).nullish(),
    max_completion_tokens: z.number().int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.number().int().min(0).max(20).nullish(),
    safety_identifier: z.string().nullish(),
    response_format: onlyNeutral('response_format', (v) => isRecord(v) && v['type'] === 'text' && Object.keys(v).length === 1),
    tools: onlyNeutral('tools', isEmpty),
    tool_choice: onlyNeutral('tool_choice', equals('none', 'auto')),
    parallel_tool_calls: onlyNeutral('parallel_tool_calls', (v) => typeof v === 'boolean'),
    functions: onlyNeutral('functions', isEmpty),
    function_call: onlyNeutral('function_call', equals('none', 'auto')),
    modalities: onlyNeutral('modalities', (v) => Array.isArray(v) && v.length === 1 && v[0] === 'text'),
    service_tier: onlyNeutral('service_tier', equals('auto', 'default')),
    store: onlyNeutral('store', equals(false)),
    /** OpenAI keeps metadata with stored completions; nothing is stored here. */
    metadata: onlyNeutral('metadata', isEmpty),
    audio: onlyNeutral('audio'),
    prediction: onlyNeutral('prediction'),
    prompt_cache_key: onlyNeutral('prompt_cache_key'),
    prompt_cache_retention: onlyNeutral('prompt_cache_retention'),
    reasoning_effort: onlyNeutral('reasoning_effort', equals('none')),
    verbosity: onlyNeutral('verbosity', equals('medium')),
    web_search_options: onlyNeutral('web_search_options'),
  })
  .superRefine((request, ctx) => {
    const { max_tokens: older, max_completion_tokens: newer } = request;
    if (typeof older === 'number' && typeof newer === 'number' && older !== newer) {
      const message = `max_tokens (${older}) and max_completion_tokens (${newer}) contradict each other`;
      ctx.addIssue({ code: 'custom', path: ['max_tokens'], message });
    }
    if (typeof request.top_logprobs === 'number' && request.logprobs !== true) {
      ctx.addIssue({ code: 'custom', path: ['top_logprobs'], message: 'top_logprobs needs logprobs: true' });
    }
    checkStreamOptions(request, ctx);
  });
export type ChatRequest = z.infer<typeof ChatRequest>;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkStreamOptions(request: { stream?: boolean | null | undefined; stream_options?: unknown }, ctx: z.RefinementCtx): void {
  if (request.stream_options && request.stream !== true) {
    ctx.addIssue({ code: 'custom', path: ['stream_options'], message: 'stream_options is allowed only with stream: true' });
  }
}

const Usage = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }).optional(),
});

const answer = { id: z.string(), created: count, model: z.string(), usage: Usage, switchyard: Receipt };
const FinishReason = z.enum(['stop', 'length']);

const Alternative = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() });
const ChatLogprobs = z.object({ content: z.array(Alternative.extend({ top_logprobs: z.array(Alternative) })) });

/** What a worker answers to a ChatRequest without `stream`. */
export const ChatCompletion = z.object({
  ...answer,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: count,
      message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null().optional() }),
      logprobs: ChatLogprobs.nullable(),
      finish_reason: FinishReason,
      token_ids: z.array(count).optional(),
    }),
  ),
});

/** What a worker answers to a CompletionRequest without `stream`. */
export const TextCompletion = z.object({
  ...answer,
  object: z.literal('text_completion'),
  choices: z.array(
    z.object({
      index: count,
      text: z.string(),
      logprobs: z
        .object({
          tokens: z.array(z.string()),
          token_logprobs: z.array(z.number().nullable()),
          top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
          text_offset: z.array(count),
        })
        .nullable(),
      finish_reason: FinishReason,
      token_ids: z.array(count).optional(),
    }),
  ),
});
