/**
 * Text to token ids and back. Encoding is @huggingface/tokenizers'; decoding works on bytes, so
 * that streamed and whole text are the same.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { Failure } from '../../shared/errors.ts';
import { byteLevelAlphabet, tokenBytesBy } from './bytes.ts';
import { exactPreTokenizer } from './pre-tokenizer.ts';
import type { TokenizerSource } from './source.ts';
import { TextStream } from './stream.ts';

export interface TextTokenizer {
  /**
   * Ids of a plain text, with the tokens that this tokenizer puts around every text (a beginning-of-text token, say).
   * Names of special tokens in the text become those tokens, and bytes that the vocabulary lacks are left out, as in transformers.
   */
  encode(text: string): number[];
  /** Ids of a text that a chat template rendered, which has its special tokens already. */
  encodeRendered(text: string): number[];
  /** Shown text of a whole sequence; special tokens are left out. */
  decode(ids: readonly number[]): string;
  /** Text of one token, special tokens by name; bytes that are no whole character appear as U+FFFD. */
  decodeToken(id: number): string;
  /** Bytes that a token adds to the shown text; none for a special token (unless asked for) and for ids without a token. */
  tokenBytes(id: number, options?: { specials: boolean }): Uint8Array;
  isSpecial(id: number): boolean;
  /** Bytes of the longest token: a text of n tokens is at most n times as long. Looks at the whole vocabulary. */
  longestToken(): number;
  stream(): TextStream;
}

const NO_BYTES = new Uint8Array();

/** The parts read here; the library checks the rest. */
const TokenizerJson = z.object({
  added_tokens: z.array(z.object({ id: z.number().int().nonnegative(), content: z.string(), special: z.boolean() })).default([]),
  decoder: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  model: z.looseObject({
    type: z.literal('BPE'),
    // Checked entry by entry it would take longer than building the tokenizer.
    vocab: z.custom<Record<string, number>>((vocab) => typeof vocab === 'object' && vocab !== null && !Array.isArray(vocab)),
    unk_token: z.string().nullish(),
    byte_fallback: z.boolean().default(false),
  }),
});

/** Characters of the byte-level alphabet that encoding leaves out: no token for them, and none for the unknown. */
function droppedCharacters({ vocab, unk_token, byte_fallback }: z.infer<typeof TokenizerJson>['model']): string[] {
  if (typeof unk_token === 'string' || byte_fallback) return [];
  return [...byteLevelAlphabet().keys()].filter((char) => !Object.hasOwn(vocab, char));
}

function buildLibraryTokenizer(source: TokenizerSource, preTokenizer: object | null): Tokenizer {
  try {
    // The library demands every section, tokenizer.json may leave out what is null.
    const sections = { normalizer: null, post_processor: null, decoder: null, added_tokens: [] };
    return new Tokenizer({ ...sections, ...source.tokenizerJson, pre_tokenizer: preTokenizer }, source.tokenizerConfig);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Failure({ kind: 'invalid_request', message: `open tokenizer: ${why}` }, { cause });
  }
}

export function createTokenizer(source: TokenizerSource): TextTokenizer {
  const parsed = TokenizerJson.safeParse(source.tokenizerJson);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new Failure({ kind: 'invalid_request', message: `open tokenizer: tokenizer.json: ${issue.path.join('.')}: ${issue.message}` });
  }
  const library = buildLibraryTokenizer(source, exactPreTokenizer(parsed.data.pre_tokenizer, droppedCharacters(parsed.data.model)));
  const bytesOf = tokenBytesBy(parsed.data.decoder);
  const added = new Map(parsed.data.added_tokens.map((token) => [token.id, token]));
  const utf8 = new TextEncoder();
  const cache = new Map<number, Uint8Array>();

  /** Bounded by the vocabulary: ids without a token are not kept. */
  const allBytes = (id: number): Uint8Array => {
    const known = cache.get(id);
    if (known) return known;
    const token = library.id_to_token(id);
    if (token === undefined) return NO_BYTES;
    const bytes = added.has(id) ? utf8.encode(token) : bytesOf(token);
    cache.set(id, bytes);
    return bytes;
  };
  const encode = (text: string, addSpecialTokens: boolean): number[] => library.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  const tokenizer: TextTokenizer = {
    encode: (text) => encode(text, true),
    encodeRendered: (text) => encode(text, false),
    decode(ids) {
      const stream = tokenizer.stream();
      return ids.map((id) => stream.push(id)).join('') + stream.flush();
    },
    decodeToken: (id) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(allBytes(id)),
    tokenBytes: (id, options) => (options?.specials || !tokenizer.isSpecial(id) ? allBytes(id) : NO_BYTES),
    isSpecial: (id) => added.get(id)?.special ?? false,
    longestToken() {
      const tokens = [
        ...Object.keys(parsed.data.model.vocab).map(bytesOf),
        ...parsed.data.added_tokens.map(({ content }) => utf8.encode(content)),
      ];
      return tokens.reduce((most, bytes) => Math.max(most, bytes.length), 1);
    },
    stream: () => new TextStream(tokenizer.tokenBytes),
  };
  return tokenizer;
}
