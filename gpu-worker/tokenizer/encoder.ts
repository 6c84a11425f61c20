/**
 * Texts to token ids for an encoder: WordPiece, with the tokens that stand around every text ([CLS] … [SEP]). What
 * tokenizer.json says of truncation and padding is for batches of equal lengths and has no part in it.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import type { TokenizerSource } from './source.ts';

export interface TextEncoding {
  encode(text: string): number[];
}

/** The part that is checked here; the library checks the rest. */
const WordPiece = z.looseObject({
  model: z.looseObject({ type: z.literal('WordPiece') }),
  normalizer: z.looseObject({ lowercase: z.boolean().default(false) }).nullish(),
});

/** Throws Failure 'unsupported' for tokenizers of other kinds. */
export function createTextEncoding({ tokenizerJson, tokenizerConfig }: TokenizerSource): TextEncoding {
  const parsed = WordPiece.safeParse(tokenizerJson);
  if (!parsed.success) {
    const { path, message } = parsed.error.issues[0]!;
    throw new Failure({ kind: 'unsupported', message: `open tokenizer: tokenizer.json: ${path.join('.')}: ${message}` });
  }
  const sections = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  try {
    const library = new Tokenizer({ ...sections, ...parsed.data }, tokenizerConfig);
    // The reference lowers letter by letter; JavaScript knows that a sigma at a word's end has another form.
    const lowered = parsed.data.normalizer?.lowercase ? (text: string) => text.replaceAll('Σ', 'σ') : (text: string) => text;
    return { encode: (text) => library.encode(lowered(text)).ids };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Failure({ kind: 'invalid_request', message: `open tokenizer: ${why}` }, { cause });
  }
}
