/**
 * OpenAI's chat and text completion requests as this platform takes them. Every field that OpenAI
 * documents is listed: honoured, or accepted only with the value that asks for nothing, or refused by
 * name. Unknown fields are refused too. `null` means the same as leaving a field out, as at OpenAI.
 */
import { z } from 'zod';
import { equals, isEmpty, Metadata, onlyNeutral, refuse, ServedTier, ServiceTier } from './fields.ts';
import { ChatMessages } from './openai-messages.ts';
import { namedFunction, ResponseFormatInput, ToolChoiceInput, Tools } from './openai-tools.ts';
import { Receipt } from './worker.ts';

const count = z.number().int().nonnegative();

export const MODEL = z.string().min(1).max(256);

/** One adapter of a mixture; `model` of the request is then the base. */
export const MixtureEntry = z.strictObject({ model: MODEL, weight: z.number().min(-4).max(4) });

const StreamOptions = z.strictObject({
  include_usage: z.boolean().nullish(),
  include_obfuscation: onlyNeutral('stream_options.include_obfuscation', equals(false)),
});

/** OpenAI documents at most 4 stop strings; vLLM's clients send more. */
const Stop = z.union([z.string().min(1), z.array(z.string().min(1)).max(16)], {
  error: 'expected a string or an array of 1 to 16 non-empty strings',
});

const MAX_BIASES = 1024;

/** By token id; the worker knows which ids there are. */
const LogitBias = z
  .record(z.string().regex(/^(0|[1-9]\d{0,8})$/, 'expected a token id'), z.number().min(-100).max(100))
  .refine((bias) => Object.keys(bias).length <= MAX_BIASES, `expected at most ${MAX_BIASES} tokens`);

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
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  /** vLLM's, over prompt and answer: 1 is off. */
  repetition_penalty: z.number().gt(0).max(10).nullish(),
  /** vLLM's: 0 is off. */
  min_p: z.number().min(0).max(1).nullish(),
  logit_bias: LogitBias.nullish(),
  /** OpenAI has it for chat only. */
  service_tier: ServiceTier.nullish(),
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
    /** Choices to generate, all of them billed, of which the n likeliest by token are answered. */
    best_of: z.number().int().min(1).max(128).nullish(),
    suffix: onlyNeutral('suffix', equals('')),
  })
  .superRefine((request, ctx) => {
    const n = request.n ?? 1;
    const best = request.best_of ?? n;
    if (best < n) ctx.addIssue({ code: 'custom', path: ['best_of'], message: `expected at least n (${n}), got ${best}` });
    if (best > n && request.stream)
      refuse(ctx, 'best_of above n cannot be streamed: which choices are best is known at their end', ['best_of']);
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

export const ChatRequest = z
  .strictObject({
    ...shared,
    messages: ChatMessages,
    max_tokens: z.number().int().min(1).nullish(),
    max_completion_tokens: z.number().int().min(1).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.number().int().min(0).max(20).nullish(),
    safety_identifier: z.string().nullish(),
    response_format: ResponseFormatInput.nullish(),
    tools: Tools.nullish(),
    tool_choice: ToolChoiceInput.nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    functions: onlyNeutral('functions', isEmpty),
    function_call: onlyNeutral('function_call', equals('none', 'auto')),
    modalities: onlyNeutral('modalities', (v) => Array.isArray(v) && v.length === 1 && v[0] === 'text'),
    store: onlyNeutral('store', equals(false)),
    /** Kept with stored completions at OpenAI; nothing is stored here, so it is checked and goes no further. */
    metadata: Metadata.nullish(),
    /** Prompts are cached for each tenant by what they say: a key changes nothing. */
    prompt_cache_key: z.string().nullish(),
    prompt_cache_options: onlyNeutral('prompt_cache_options', isEmpty),
    prompt_cache_retention: onlyNeutral('prompt_cache_retention', equals('in_memory', 'in-memory')),
    audio: onlyNeutral('audio'),
    moderation: onlyNeutral('moderation'),
    prediction: onlyNeutral('prediction'),
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
    checkToolChoice(request, ctx);
    checkStreamOptions(request, ctx);
  });
export type ChatRequest = z.infer<typeof ChatRequest>;

function checkToolChoice({ tools, tool_choice: choice }: Pick<ChatRequest, 'tools' | 'tool_choice'>, ctx: z.RefinementCtx): void {
  const issue = (message: string) => ctx.addIssue({ code: 'custom', path: ['tool_choice'], message });
  const named = namedFunction(choice);
  if ((choice === 'required' || named !== null) && !tools?.length) issue('a call can be required only with tools');
  else if (named !== null && !tools?.some((tool) => tool.function.name === named)) issue(`no tool is named "${named}"`);
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
  completion_tokens_details: z.object({ reasoning_tokens: count }).optional(),
});

const answer = { id: z.string(), created: count, model: z.string(), service_tier: ServedTier, usage: Usage, switchyard: Receipt };
const FinishReason = z.enum(['stop', 'length']);
const CalledFunction = z.object({
  id: z.string(),
  type: z.literal('function'),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

const Alternative = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() });
const ChatLogprobs = z.object({ content: z.array(Alternative.extend({ top_logprobs: z.array(Alternative) })) });

/** What a worker answers to a ChatRequest without `stream`. */
export const ChatCompletion = z.object({
  ...answer,
  object: z.literal('chat.completion'),
  choices: z.array(
    z.object({
      index: count,
      message: z.object({
        role: z.literal('assistant'),
        /** null when the answer is calls alone. */
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z.array(CalledFunction).optional(),
      }),
      logprobs: ChatLogprobs.nullable(),
      finish_reason: z.enum(['stop', 'length', 'tool_calls']),
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
