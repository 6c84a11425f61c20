/** A request's input as token ids: chat messages through the base's template, texts, or ids as they are. */
import type { BaseInfo, GenerateRequest } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { renderChat } from '../tokenizer/chat.ts';
import type { TokenizerSource } from '../tokenizer/source.ts';
import { createTokenizer, type TextTokenizer } from '../tokenizer/tokenizer.ts';

/** A base's text side; a base without a tokenizer has none. */
export interface TextSide {
  source: TokenizerSource;
  tokenizer: TextTokenizer;
}

export const openTextSide = (source: TokenizerSource | null): TextSide | null => source && { source, tokenizer: createTokenizer(source) };

export function encodePrompts(input: GenerateRequest['input'], base: BaseInfo, text: TextSide | null): number[][] {
  const needText = (param: string): TextSide => {
    if (text) return text;
    const message = `generate with ${base.id}: this base has no tokenizer; expected token ids in /v1/completions`;
    throw new Failure({ kind: 'unsupported', message, param });
  };
  switch (input.kind) {
    case 'chat': {
      const { source, tokenizer } = needText('messages');
      return [tokenizer.encodeRendered(renderChat(source, input.messages, { addGenerationPrompt: true }))];
    }
    case 'completion':
      return input.prompts.map((prompt) => {
        const ids = typeof prompt === 'string' ? needText('prompt').tokenizer.encode(prompt) : prompt;
        const refuse = (message: string) => new Failure({ kind: 'invalid_request', message, param: 'prompt' });
        if (ids.length === 0) throw refuse('prompt: expected at least one token, got an empty text');
        const outside = ids.find((id) => id >= base.vocab_size);
        if (outside !== undefined) throw refuse(`prompt: expected token ids under ${base.vocab_size}, got ${outside}`);
        return ids;
      });
    default:
      return input satisfies never;
  }
}
