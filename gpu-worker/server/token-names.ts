/** Tokens by name, as logprobs show them. */
import type { TextTokenizer } from '../tokenizer/tokenizer.ts';

export type TokenNames = (id: number) => { text: string; bytes: number[] | null };

export const tokenNames =
  (tokenizer: TextTokenizer | null): TokenNames =>
  (id) =>
    tokenizer
      ? { text: tokenizer.decodeToken(id), bytes: [...tokenizer.tokenBytes(id, { specials: true })] }
      : { text: `token_id:${id}`, bytes: null };
