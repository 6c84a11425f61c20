/** A base's tokens as bytes: read once, then shared by the grammar threads, which have no other use for a tokenizer. */
import { Failure } from '../../../shared/errors.ts';
import { openCheckpoint } from '../../models/source/checkpoint.ts';
import { createTokenizer, type TextTokenizer } from '../../tokenizer/tokenizer.ts';

export interface Vocabulary {
  /** All tokens' bytes one after the other; special tokens have none and are never allowed, but for those that end a text. */
  bytes: Uint8Array<SharedArrayBuffer>;
  /** Where each token's end. As many as there are logits in a row. */
  ends: Uint32Array<SharedArrayBuffer>;
  /** The tokens that end a text. */
  stops: readonly number[];
}

export async function readVocabulary(basePath: string): Promise<Vocabulary> {
  const { tokenizer, config } = await openCheckpoint(basePath);
  const refuse = (what: string) => new Failure({ kind: 'unsupported', message: `a grammar: this base has no ${what}` });
  if (!tokenizer) throw refuse('tokenizer');
  if (config.eos_token_id.length === 0) throw refuse('token that ends a text');
  return packVocabulary(createTokenizer(tokenizer), config.vocab_size, config.eos_token_id);
}

export function packVocabulary({ tokenBytes }: Pick<TextTokenizer, 'tokenBytes'>, size: number, stops: readonly number[]): Vocabulary {
  const tokens = Array.from({ length: size }, (_, id) => tokenBytes(id));
  const ends = new Uint32Array(new SharedArrayBuffer(size * Uint32Array.BYTES_PER_ELEMENT));
  let end = 0;
  for (const [id, bytes] of tokens.entries()) {
    end += bytes.length;
    ends[id] = end;
  }
  const bytes = new Uint8Array(new SharedArrayBuffer(end));
  for (const [id, token] of tokens.entries()) bytes.set(token, ends[id]! - token.length);
  return { bytes, ends, stops };
}

export const tokenBytes = ({ bytes, ends }: Vocabulary, id: number): Uint8Array => bytes.subarray(id === 0 ? 0 : ends[id - 1]!, ends[id]!);
