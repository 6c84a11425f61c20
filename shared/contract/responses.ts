/**
 * OpenAI's responses API, stateless: nothing is stored, so a request carries its whole conversation. Every
 * documented field is honoured, accepted only with the value that asks for nothing, or refused by name.
 */
import { z } from 'zod';
import { equals, isEmpty, Metadata, onlyNeutral, refuse, ServedTier, ServiceTier } from './fields.ts';
import { Receipt } from './worker.ts';

const count = z.number().int().nonnegative();
const Status = z.enum(['in_progress', 'completed', 'incomplete']).nullish();

/** Refuses objects of a `type` that is known to none of the schemas behind it, by name. */
const ofType = (what: string, known: readonly string[]) =>
  z.looseObject({ type: z.string() }).superRefine(({ type }, ctx) => {
    if (!known.includes(type))
      refuse(ctx, `${what} of type ${JSON.stringify(type.slice(0, 60))} are not supported: only ${known.join(', ')}`);
  });

/** `annotations`, `logprobs` and `parsed` of an earlier answer may come back with it; they say nothing beside the text. */
const TextPart = ofType('content parts', ['input_text', 'output_text']).pipe(
  z.strictObject({
    type: z.enum(['input_text', 'output_text']),
    text: z.string(),
    annotations: onlyNeutral('annotations', isEmpty),
    logprobs: z.unknown().optional(),
    parsed: z.unknown().optional(),
    prompt_cache_breakpoint: onlyNeutral('prompt_cache_breakpoint'),
  }),
);
const Text = z.union([z.string(), z.array(TextPart)], {
  error: (issue) => (Array.isArray(issue.input) ? undefined : 'expected a string or an array of text parts'),
});

const Message = z.strictObject({
  type: z.literal('message'),
  id: z.string().nullish(),
  status: Status,
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content: Text,
  phase: onlyNeutral('phase'),
});
const FunctionCall = z.strictObject({
  type: z.literal('function_call'),
  id: z.string().nullish(),
  status: Status,
  call_id: z.string().min(1),
  name: z.string().min(1),
  arguments: z.string(),
  /** What the clients' helpers add to an answer. */
  parsed_arguments: z.unknown().optional(),
  caller: onlyNeutral('caller'),
  namespace: onlyNeutral('namespace'),
});
const FunctionCallOutput = z.strictObject({
  type: z.literal('function_call_output'),
  id: z.string().nullish(),
  status: Status,
  call_id: z.string().min(1),
  output: Text,
  caller: onlyNeutral('caller'),
});

/** A message may leave out its type. */
const withType = (item: unknown) => (typeof item === 'object' && item !== null && 'role' in item ? { type: 'message', ...item } : item);

const InputItem = z.preprocess(
  withType,
  ofType('input items', ['message', 'function_call', 'function_call_output']).pipe(
    z.discriminatedUnion('type', [Message, FunctionCall, FunctionCallOutput]),
  ),
);
export type InputItem = z.infer<typeof InputItem>;

const FunctionTool = ofType('tools', ['function']).pipe(
  z.strictObject({
    type: z.literal('function'),
    name: z.string().min(1).max(64),
    description: z.string().nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
    allowed_callers: onlyNeutral('allowed_callers'),
    defer_loading: onlyNeutral('defer_loading', equals(false)),
    output_schema: onlyNeutral('output_schema'),
  }),
);

/** A word, or the one function that must be called. */
const ToolChoice = z
  .preprocess(
    (choice) => (typeof choice === 'string' ? { type: choice } : choice),
    ofType('tool choices', ['none', 'auto', 'required', 'function']).pipe(
      z.discriminatedUnion('type', [
        z.strictObject({ type: z.enum(['none', 'auto', 'required']) }),
        z.strictObject({ type: z.literal('function'), name: z.string().min(1) }),
      ]),
    ),
  )
  .transform((choice) => (choice.type === 'function' ? choice : choice.type));

const TextFormat = ofType('text formats', ['text', 'json_object', 'json_schema']).pipe(
  z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('text') }),
    z.strictObject({ type: z.literal('json_object') }),
    z.strictObject({
      type: z.literal('json_schema'),
      name: z.string().min(1).max(64),
      schema: z.record(z.string(), z.unknown()),
      description: z.string().nullish(),
      strict: z.boolean().nullish(),
    }),
  ]),
);

const LOGPROBS = 'message.output_text.logprobs';
const Include = z.string().superRefine((value, ctx) => {
  if (value !== LOGPROBS) refuse(ctx, `include of ${JSON.stringify(value.slice(0, 60))} is not supported: only "${LOGPROBS}"`);
});

export const ResponsesRequest = z.strictObject({
  model: z.string().min(1).max(256),
  input: z.union([z.string(), z.array(InputItem).min(1)], {
    error: (issue) =>
      Array.isArray(issue.input) && issue.input.length > 0 ? undefined : 'expected a string or a non-empty array of items',
  }),
  instructions: z.string().nullish(),
  /** A mixture, as in chat completions; `model` is then the base. */
  adapters: z
    .array(z.strictObject({ model: z.string().min(1).max(256), weight: z.number().min(-4).max(4) }))
    .min(1)
    .max(8)
    .nullish(),
  max_output_tokens: z.number().int().min(1).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  text: z.strictObject({ format: TextFormat.nullish(), verbosity: onlyNeutral('text.verbosity', equals('medium')) }).nullish(),
  tools: z.array(FunctionTool).max(128).nullish(),
  tool_choice: ToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  include: z.array(Include).nullish(),
  top_logprobs: z.number().int().min(0).max(20).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_obfuscation: onlyNeutral('stream_options.include_obfuscation', equals(false)) }).nullish(),
  /** Comes back with the answer. */
  metadata: Metadata.nullish(),
  /** These three say who asks; they have no influence on the answer, at OpenAI neither. */
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  /** Nothing is stored: left out, it means false here. */
  store: onlyNeutral('store', equals(false)),
  background: onlyNeutral('background', equals(false)),
  context_management: onlyNeutral('context_management', isEmpty),
  conversation: onlyNeutral('conversation'),
  max_tool_calls: onlyNeutral('max_tool_calls'),
  moderation: onlyNeutral('moderation'),
  previous_response_id: onlyNeutral('previous_response_id'),
  prompt: onlyNeutral('prompt'),
  prompt_cache_options: onlyNeutral('prompt_cache_options', isEmpty),
  prompt_cache_retention: onlyNeutral('prompt_cache_retention', equals('in_memory', 'in-memory')),
  /** What an answer says of it asks for nothing. */
  reasoning: z
    .strictObject({
      effort: onlyNeutral('reasoning.effort', equals('none')),
      summary: onlyNeutral('reasoning.summary'),
      generate_summary: onlyNeutral('reasoning.generate_summary'),
      context: onlyNeutral('reasoning.context', equals('auto')),
      mode: onlyNeutral('reasoning.mode', equals('standard')),
    })
    .nullish(),
  service_tier: ServiceTier.nullish(),
  truncation: onlyNeutral('truncation', equals('disabled')),
});
export type ResponsesRequest = z.infer<typeof ResponsesRequest>;

export const wantsLogprobs = (request: ResponsesRequest): boolean =>
  (request.include ?? []).includes(LOGPROBS) || (request.top_logprobs ?? 0) > 0;

const Alternative = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() });
export const Logprob = Alternative.extend({ top_logprobs: z.array(Alternative) });
export type Logprob = z.infer<typeof Logprob>;

const ItemStatus = z.enum(['in_progress', 'completed', 'incomplete']);
const OutputMessage = z.object({
  type: z.literal('message'),
  id: z.string(),
  status: ItemStatus,
  role: z.literal('assistant'),
  content: z.array(
    z.object({ type: z.literal('output_text'), text: z.string(), annotations: z.array(z.unknown()).max(0), logprobs: z.array(Logprob) }),
  ),
});
const OutputCall = z.object({
  type: z.literal('function_call'),
  id: z.string(),
  status: ItemStatus,
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
});
export type OutputMessage = z.infer<typeof OutputMessage>;
export type OutputCall = z.infer<typeof OutputCall>;
export type OutputItem = OutputMessage | OutputCall;

export const ResponseUsage = z.object({
  input_tokens: count,
  input_tokens_details: z.object({ cached_tokens: count }),
  output_tokens: count,
  output_tokens_details: z.object({ reasoning_tokens: count }),
  total_tokens: count,
});
export type ResponseUsage = z.infer<typeof ResponseUsage>;

/** What comes back; the request's own fields are echoed with their defaults filled in. */
export const ResponseObject = z.object({
  id: z.string(),
  object: z.literal('response'),
  created_at: count,
  completed_at: count.nullable(),
  status: z.enum(['in_progress', 'completed', 'incomplete', 'failed']),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.literal('max_output_tokens') }).nullable(),
  model: z.string(),
  output: z.array(z.union([OutputMessage, OutputCall])),
  usage: ResponseUsage.nullable(),
  instructions: z.string().nullable(),
  max_output_tokens: count.nullable(),
  temperature: z.number(),
  top_p: z.number(),
  text: z.looseObject({ format: z.looseObject({ type: z.string() }) }),
  tools: z.array(z.looseObject({ type: z.literal('function') })),
  tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]),
  parallel_tool_calls: z.boolean(),
  top_logprobs: count,
  metadata: z.record(z.string(), z.string()),
  user: z.string().nullable(),
  safety_identifier: z.string().nullable(),
  prompt_cache_key: z.string().nullable(),
  store: z.literal(false),
  background: z.literal(false),
  previous_response_id: z.null(),
  reasoning: z.object({ effort: z.null(), summary: z.null() }),
  service_tier: ServedTier,
  truncation: z.literal('disabled'),
  switchyard: Receipt.optional(),
});
export type ResponseObject = z.infer<typeof ResponseObject>;
