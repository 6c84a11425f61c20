/** A request's input as token ids: chat messages through the base's template, texts, or ids as they are. */
import { setImmediate as turn } from 'node:timers/promises';
import type { BaseInfo, GenerateRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import type { TokenizerSource } from '../tokenizer/source.ts';
import { createTokenizer, type TextTokenizer } from '../tokenizer/tokenizer.ts';
import { conversationText } from './tools/conversation.ts';
import type { ToolOffer } from './tools/offer.ts';

/** A base's text side; a base without a tokenizer has none. */
export interface TextSide {
  source: TokenizerSource;
  tokenizer: TextTokenizer;
  /** Bytes of its longest token. */
  longestToken: number;
}

export function openTextSide(source: TokenizerSource | null): TextSide | null {
  if (!source) return null;
  const tokenizer = createTokenizer(source);
  return { source, tokenizer, longestToken: tokenizer.longestToken() };
}

/** Encoding holds up everything else on this thread: a text that cannot fit is refused unseen, and others get a turn between two. */
export async function encodePrompts(
  input: GenerateRequest['input'],
  offer: ToolOffer | null,
  base: BaseInfo,
  text: TextSide | null,
): Promise<number[][]> {
  const needText = (param: string): TextSide => {
    if (text) return text;
    const message = `generate with ${base.id}: this base has no tokenizer; expected token ids in /v1/completions`;
    throw new Failure({ kind: 'unsupported', message, param });
  };
  const fitting = (prompt: string, param: string): string => {
    const bytes = Buffer.byteLength(prompt);
    const most = base.context_length * needText(param).longestToken;
    if (bytes <= most) return prompt;
    const message = `This model's maximum context length is ${base.context_length} tokens, at most ${most} bytes of text; ${param} has ${bytes} bytes`;
    throw new Failure({ kind: 'invalid_request', message, param, code: 'context_length_exceeded' });
  };
  switch (input.kind) {
    case 'chat': {
      const { source, tokenizer } = needText('messages');
      const rendered = conversationText(source, input.messages, offer);
      return [tokenizer.encodeRendered(fitting(rendered, 'messages'))];
    }
    case 'completion': {
      const prompts: number[][] = [];
      for (const prompt of input.prompts) {
        if (prompts.length > 0) await turn();
        const ids = typeof prompt === 'string' ? needText('prompt').tokenizer.encode(fitting(prompt, 'prompt')) : prompt;
        const refuse = (message: string) => new Failure({ kind: 'invalid_request', message, param: 'prompt' });
        if (ids.length === 0) throw refuse('prompt: expected at least one token, got an empty text');
        const outside = ids.find((id) => id >= base.vocab_size);
        if (outside !== undefined) throw refuse(`prompt: expected token ids under ${base.vocab_size}, got ${outside}`);
        prompts.push(ids);
      }
      return prompts;
    }
    default:
      return input satisfies never;
  }
}
