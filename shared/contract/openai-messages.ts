/** Chat messages as OpenAI's clients send them, those included that they got as answers and send back. */
import { z } from 'zod';
import { isEmpty, isShallow, MOST_DEPTH, onlyNeutral, onlyType, refuse } from './fields.ts';

const TextPart = z
  .looseObject({ type: z.string() })
  .superRefine(({ type }, ctx) => {
    if (type !== 'text') refuse(ctx, `content parts of type ${JSON.stringify(type.slice(0, 60))} are not supported: only "text" is`);
  })
  .pipe(
    z.strictObject({
      type: z.literal('text'),
      text: z.string(),
      prompt_cache_breakpoint: onlyNeutral('prompt_cache_breakpoint'),
    }),
  );

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'];

const ChatRole = z.string().superRefine((role, ctx) => {
  if (role === 'function') refuse(ctx, 'messages of role "function" are not supported: use "tool"');
  else if (!ROLES.includes(role)) {
    ctx.addIssue({ code: 'custom', message: `expected ${ROLES.join(', ')}, got ${JSON.stringify(role.slice(0, 40))}` });
  }
});

/** The object that a call's arguments are; null when the text is none. No text at all stands for no arguments. */
export function argumentsOf(text: string): Record<string, unknown> | null {
  if (text.trim() === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject && isShallow(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

const ToolCallInput = z.strictObject({
  id: z.string().min(1).max(256),
  type: onlyType('function', 'tool calls'),
  function: z.strictObject({
    name: z.string().min(1).max(64),
    arguments: z.string().refine((text) => argumentsOf(text) !== null, `expected a JSON object as text, of at most ${MOST_DEPTH} levels`),
    /** The clients' own reading of `arguments`, sent back with them. */
    parsed_arguments: z.unknown().optional(),
  }),
  /** Left over when a client puts a stream together. */
  index: z.number().int().nonnegative().optional(),
});

const EXPECTED_CONTENT = 'expected a string or an array of text parts';

/** Lets a finding inside an array of parts through; a content of another type gets one plain sentence. */
function contentError(issue: { input?: unknown }): string | undefined {
  return Array.isArray(issue.input) ? undefined : EXPECTED_CONTENT;
}

export const ChatMessageInput = z
  .strictObject({
    role: ChatRole,
    content: z.union([z.string(), z.array(TextPart).min(1)], { error: contentError }).nullish(),
    name: z.string().min(1).max(64).nullish(),
    tool_calls: z.array(ToolCallInput).max(128).nullish(),
    tool_call_id: z.string().min(1).max(256).nullish(),
    refusal: onlyNeutral('refusal'),
    audio: onlyNeutral('audio'),
    function_call: onlyNeutral('function_call'),
    annotations: onlyNeutral('annotations', isEmpty),
    /** The clients' own reading of `content`, sent back with it. */
    parsed: z.unknown().optional(),
  })
  .superRefine((message, ctx) => {
    const issue = (field: string, text: string) => ctx.addIssue({ code: 'custom', path: [field], message: text });
    const calls = message.tool_calls?.length ?? 0;
    if (calls > 0 && message.role !== 'assistant') issue('tool_calls', 'only messages of role "assistant" have tool calls');
    if (message.content === null || message.content === undefined) {
      if (message.role !== 'assistant' || calls === 0) issue('content', EXPECTED_CONTENT);
    }
    if (message.role === 'tool' && !message.tool_call_id) issue('tool_call_id', 'expected the id of the call that this message answers');
    if (message.role !== 'tool' && message.tool_call_id) issue('tool_call_id', 'only messages of role "tool" answer a call');
  });
export type ChatMessageInput = z.infer<typeof ChatMessageInput>;

/** Messages in a row of which each tool result answers a call of the assistant's message before it. */
export const ChatMessages = z
  .array(ChatMessageInput)
  .min(1)
  .superRefine((messages, ctx) => {
    let open = new Set<string>();
    messages.forEach((message, i) => {
      if (message.role !== 'tool') {
        open = new Set(message.tool_calls?.map((call) => call.id));
      } else if (message.tool_call_id && !open.delete(message.tool_call_id)) {
        const text = `no open call of the assistant's message before has the id ${JSON.stringify(message.tool_call_id)}`;
        ctx.addIssue({ code: 'custom', path: [i, 'tool_call_id'], message: text });
      }
    });
  });
