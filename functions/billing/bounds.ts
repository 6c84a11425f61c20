/** Bounds on what a request can use, known before it runs. Pure. */
import type { Bounds } from '../../shared/billing/amounts.ts';
import type { BaseInfo, GenerateRequest } from '../../shared/contract/worker.ts';

/** Room for a chat template's own tokens: per request (a default system message) and per message. */
const TEMPLATE_TOKENS = 64;
const MESSAGE_TOKENS = 16;

/**
 * The most tokens a request can use. The edge has no tokenizer: with byte-level vocabularies a text has at
 * most as many tokens as bytes, and no sequence is longer than the base's context.
 */
export function boundsOf(request: Pick<GenerateRequest, 'input' | 'n' | 'max_tokens' | 'adapters'>, base: BaseInfo): Bounds {
  const context = base.context_length;
  const prompts = promptBounds(request.input).map((tokens) => Math.min(tokens, context));
  const each = Math.min(request.max_tokens ?? context, context);
  return {
    prompt: prompts.reduce((sum, tokens) => sum + tokens, 0),
    completion: each * request.n * prompts.length,
    adapters: request.adapters.length,
  };
}

function promptBounds(input: GenerateRequest['input']): number[] {
  const bytes = (text: string) => new TextEncoder().encode(text).byteLength;
  switch (input.kind) {
    case 'chat':
      return [input.messages.reduce((sum, m) => sum + bytes(m.content) + MESSAGE_TOKENS, TEMPLATE_TOKENS)];
    case 'completion':
      return input.prompts.map((p) => (typeof p === 'string' ? bytes(p) : p.length));
    default:
      return input satisfies never;
  }
}
