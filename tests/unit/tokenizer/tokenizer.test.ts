/** Other tokenizers than the base's: ids and text as the Rust reference gives them, and what is refused by name. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import type { TokenizerSource } from '../../../gpu-worker/tokenizer/source.ts';
import { createTokenizer } from '../../../gpu-worker/tokenizer/tokenizer.ts';
import { failure } from '../source/fixtures.ts';

interface Reference {
  tokenizerJson: Record<string, unknown>;
  /** `decoded` is without special tokens. */
  cases: { text: string; ids: number[]; rendered_ids: number[]; decoded: string }[];
}

const reference = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../fixtures/tokenizers/${name}.json`, import.meta.url), 'utf8')) as Reference;
const source = (tokenizerJson: Record<string, unknown>): TokenizerSource => ({ tokenizerJson, tokenizerConfig: {} });

const byteLevel = reference('llama3-style');
const pieces = reference('sentencepiece-style');

test('byte-level tokenizer with its own split pattern and a leading token', () => {
  const tokenizer = createTokenizer(source(byteLevel.tokenizerJson));
  for (const { text, ids, rendered_ids, decoded } of byteLevel.cases) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.deepEqual(tokenizer.encodeRendered(text), rendered_ids);
    assert.equal(tokenizer.decode(ids), decoded);
  }
});

test("SentencePiece's pieces with bytes for the rest", () => {
  const tokenizer = createTokenizer(source(pieces.tokenizerJson));
  for (const { text, ids, rendered_ids, decoded } of pieces.cases) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.deepEqual(tokenizer.encodeRendered(text), rendered_ids);
    // The reference drops the space that encoding had put before the text; a continuation keeps its spaces.
    assert.equal(tokenizer.decode(ids).replace(/^ /, ''), decoded);
  }
});

test('with a token for every byte, decoding undoes encoding of any text', () => {
  const tokenizer = createTokenizer(source(byteLevel.tokenizerJson));
  const text = fc.string({ unit: 'binary', maxLength: 80 }).filter((s) => s.isWellFormed() && !/<\/?s>/.test(s));
  fc.assert(fc.property(text, (s) => assert.equal(tokenizer.decode(tokenizer.encode(s)), s)));
});

const changed = (change: Record<string, unknown>) => () => createTokenizer(source({ ...byteLevel.tokenizerJson, ...change }));

const refusals: [string, Record<string, unknown>, RegExp][] = [
  ['decoder', { decoder: { type: 'WordPiece' } }, /decoder WordPiece is not supported/],
  ['missing decoder', { decoder: null }, /decoder undefined is not supported/],
  ['pre-tokenizer', { pre_tokenizer: { type: 'BertPreTokenizer' } }, /pre-tokenizer .*BertPreTokenizer/],
  ['leading space', { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } }, /add_prefix_space/],
  [
    'split behaviour',
    { pre_tokenizer: { type: 'Split', pattern: { Regex: 'a' }, behavior: 'MergedWithNext', invert: false } },
    /MergedWithNext/,
  ],
];
for (const [what, change, message] of refusals) {
  test(`refuses by name: ${what}`, () => assert.throws(changed(change), failure('unsupported', message)));
}

test('refuses a tokenizer.json that is none', () => {
  assert.throws(() => createTokenizer(source({})), failure('invalid_request', /tokenizer\.json: model/));
  assert.throws(changed({ model: { type: 'Unigram', vocab: [] } }), failure('invalid_request', /model\.type/));
  assert.throws(changed({ model: { type: 'BPE', vocab: {} } }), failure('invalid_request', /open tokenizer/));
});
