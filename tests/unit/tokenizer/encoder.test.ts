/** WordPiece for encoders: ids as the Rust reference gives them, whatever its file says of truncation and padding. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createTextEncoding } from '../../../gpu-worker/tokenizer/encoder.ts';
import { Failure } from '../../../shared/errors.ts';

interface Reference {
  /** MiniLM's, with the words that the cases need. */
  tokenizerJson: Record<string, unknown>;
  cases: { text: string; ids: number[] }[];
}

const { tokenizerJson, cases } = JSON.parse(
  readFileSync(new URL('../../fixtures/tokenizers/minilm-style.json', import.meta.url), 'utf8'),
) as Reference;
const { encode } = createTextEncoding({ tokenizerJson, tokenizerConfig: {} });

test('accents, scripts, symbols and special tokens as the reference has them', () => {
  assert.ok(cases.length > 100);
  for (const { text, ids } of cases) assert.deepEqual(encode(text), ids, JSON.stringify(text));
});

test('a text is neither cut nor filled up', () => {
  assert.ok(tokenizerJson['truncation'] && tokenizerJson['padding']);
  const [first, last] = [encode('').at(0), encode('').at(-1)];
  const long = encode('cat '.repeat(300));
  assert.equal(long.length, 302);
  assert.deepEqual([long[0], long.at(-1)], [first, last]);
});

test('refused: tokenizers of other kinds', () => {
  const refused = (json: Record<string, unknown>, kind: string, message: RegExp) =>
    assert.throws(
      () => createTextEncoding({ tokenizerJson: json, tokenizerConfig: {} }),
      (error) => error instanceof Failure && error.value.kind === kind && message.test(error.message),
    );
  refused({ ...tokenizerJson, model: { type: 'Unigram' } }, 'unsupported', /model\.type/);
  refused({ ...tokenizerJson, normalizer: { type: 'NoSuch' } }, 'invalid_request', /open tokenizer/);
});
