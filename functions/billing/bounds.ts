/** Bounds on what a request can use, known before it runs. Pure. */
import type { Bounds } from '../../shared/billing/amounts.ts';
import type { BaseInfo, ChatMessage, EmbedRequest, GenerateRequest, Tool } from '../../shared/contract/worker.ts';

/** Room for a chat template's own tokens: per request (a default system message), per message, and for the words around tools. */
const TEMPLATE_TOKENS = 64;
const MESSAGE_TOKENS = 16;
const TOOLS_TOKENS = 768;
const TOOL_TOKENS = 128;
/** What stands around a text for an encoder. */
const ENCLOSING_TOKENS = 2;

type Generation = Pick<GenerateRequest, 'input' | 'best_of' | 'max_tokens' | 'adapters'>;

/**
 * The most tokens a request can use. The edge has no tokenizer: a text has at most as many tokens as bytes, in
 * byte-level vocabularies and in word pieces, and no sequence is longer than the base's context.
 */
export function boundsOf(request: Generation | Pick<EmbedRequest, 'inputs' | 'adapters'>, base: BaseInfo): Bounds {
  const context = base.context_length;
  const adapters = request.adapters.length;
  if ('inputs' in request) {
    const tokens = request.inputs.map((input) => Math.min(inputBound(input), context));
    return { prompt: tokens.reduce((sum, n) => sum + n, 0), completion: 0, adapters };
  }
  const prompts = promptBounds(request.input).map((tokens) => Math.min(tokens, context));
  const each = Math.min(request.max_tokens ?? context, context);
  return {
    prompt: prompts.reduce((sum, tokens) => sum + tokens, 0),
    completion: each * request.best_of * prompts.length,
    adapters,
  };
}

const bytes = (text: string) => new TextEncoder().encode(text).byteLength;

const inputBound = (input: string | number[]): number => (typeof input === 'string' ? bytes(input) + ENCLOSING_TOKENS : input.length);

/** Templates write JSON with spaces, perhaps indented: at most three times as long as without. */
const jsonBound = (value: unknown) => 3 * bytes(JSON.stringify(value));

function toolsBound(tools: Tool[]): number {
  return tools.reduce((sum, tool) => sum + jsonBound(tool) + TOOL_TOKENS, tools.length > 0 ? TOOLS_TOKENS : 0);
}

function messageBound(message: ChatMessage): number {
  const calls = message.role === 'assistant' ? (message.tool_calls ?? []) : [];
  const name = message.role === 'tool' ? '' : (message.name ?? '');
  const said = bytes(message.content) + bytes(name) + MESSAGE_TOKENS;
  return calls.reduce((sum, call) => sum + jsonBound(call) + TOOL_TOKENS, said);
}

function promptBounds(input: GenerateRequest['input']): number[] {
  switch (input.kind) {
    case 'chat':
      return [input.messages.reduce((sum, message) => sum + messageBound(message), TEMPLATE_TOKENS + toolsBound(input.tools))];
    case 'completion':
      return input.prompts.map((p) => (typeof p === 'string' ? bytes(p) : p.length));
    default:
      return input satisfies never;
  }
}
