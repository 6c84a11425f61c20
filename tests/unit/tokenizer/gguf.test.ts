/** GGUF's tokenizer lists, rearranged: added tokens, the leading token, and what is refused by name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tokenizerFromGguf } from '../../../gpu-worker/tokenizer/gguf.ts';
import { createTokenizer } from '../../../gpu-worker/tokenizer/tokenizer.ts';
import { failure } from '../source/fixtures.ts';

const metadata = {
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'smollm',
  'tokenizer.ggml.tokens': ['<s>', '</s>', 'a', 'b', 'ab', 'Ġ', '1', '2', '12', '<tool>', '__proto__'],
  'tokenizer.ggml.token_type': [3, 3, 1, 1, 1, 1, 1, 1, 1, 4, 1],
  'tokenizer.ggml.merges': ['a b', '1 2'],
  'tokenizer.ggml.bos_token_id': 0,
  'tokenizer.ggml.eos_token_id': 1,
};
const open = (change: Record<string, unknown> = {}, vocabSize = 11) =>
  tokenizerFromGguf('base.gguf', { ...metadata, ...change }, vocabSize);

function build(change: Record<string, unknown> = {}) {
  const source = open(change);
  assert.ok(source);
  return createTokenizer(source);
}

test('control tokens are special, user-defined ones are shown', () => {
  const tokenizer = build();
  const ids = tokenizer.encode('<s>ab<tool></s>');
  assert.deepEqual(ids, [0, 4, 9, 1]);
  assert.equal(tokenizer.decode(ids), 'ab<tool>');
  assert.equal(tokenizer.decode([10]), '__proto__');
});

test('digits are single under "smollm", not under "gpt-2"', () => {
  assert.deepEqual(build().encode('12'), [6, 7]);
  assert.deepEqual(build({ 'tokenizer.ggml.pre': 'gpt-2' }).encode('12'), [8]);
});

test('"qwen2" composes characters and has single digits', () => {
  const composing = { 'tokenizer.ggml.pre': 'qwen2', 'tokenizer.ggml.tokens': [...metadata['tokenizer.ggml.tokens'], 'Ã', '©', 'Ã©'] };
  const source = open({ ...composing, 'tokenizer.ggml.merges': ['a b', '1 2', 'Ã ©'] }, 14);
  const tokenizer = createTokenizer(source!);
  assert.deepEqual(tokenizer.encode('12'), [6, 7]);
  assert.deepEqual(tokenizer.encode('e\u0301'), [13]);
});

test('"llama-bpe" has runs of digits, whole tokens without merges, and begins texts unless the file says otherwise', () => {
  const llama = { 'tokenizer.ggml.pre': 'llama-bpe' };
  assert.deepEqual(build(llama).encode('12ab'), [0, 8, 4]);
  assert.deepEqual(build({ ...llama, 'tokenizer.ggml.merges': [], 'tokenizer.ggml.add_bos_token': false }).encode('ab'), [4]);
  assert.deepEqual(build({ 'tokenizer.ggml.merges': [] }).encode('ab'), [2, 3]);
});

test('add_bos_token puts the token before plain text and not before a rendered chat', () => {
  const tokenizer = build({ 'tokenizer.ggml.add_bos_token': true });
  assert.deepEqual(tokenizer.encode('ab'), [0, 4]);
  assert.deepEqual(tokenizer.encodeRendered('ab'), [4]);
  assert.deepEqual(build().encode('ab'), [4]);
});

test('a file without a tokenizer has none', () => {
  assert.equal(tokenizerFromGguf('base.gguf', {}, 11), null);
  assert.equal(open({ 'tokenizer.ggml.model': 'no_vocab' }), null);
});

test('special tokens and the chat template are named', () => {
  assert.deepEqual(open({ 'tokenizer.chat_template': 'T' })?.tokenizerConfig, {
    bos_token: '<s>',
    eos_token: '</s>',
    chat_template: 'T',
    clean_up_tokenization_spaces: false,
  });
});

const refusals: [Record<string, unknown>, 'unsupported' | 'invalid_request', RegExp][] = [
  [{ 'tokenizer.ggml.model': 'llama' }, 'unsupported', /tokenizer\.ggml\.model.*got "llama"/],
  [{ 'tokenizer.ggml.pre': 'deepseek-llm' }, 'unsupported', /pre-tokenizer "deepseek-llm" is not supported \(supported: .*smollm/],
  [{ 'tokenizer.ggml.pre': undefined }, 'unsupported', /pre-tokenizer "default"/],
  [{ 'tokenizer.ggml.add_eos_token': true }, 'unsupported', /add_eos_token/],
  [{ 'tokenizer.ggml.tokens': undefined }, 'invalid_request', /tokenizer\.ggml\.tokens/],
  [{ 'tokenizer.ggml.merges': ['a b c'] }, 'invalid_request', /merge "a b c": expected two tokens/],
  [{ 'tokenizer.ggml.eos_token_id': 99 }, 'invalid_request', /eos_token 99 is outside the 11 tokens/],
  [{ 'tokenizer.ggml.bos_token_id': undefined, 'tokenizer.ggml.add_bos_token': true }, 'invalid_request', /without bos_token_id/],
];
for (const [change, kind, message] of refusals) {
  test(`refuses ${JSON.stringify(change)}`, () => assert.throws(() => open(change), failure(kind, message)));
}

test('refuses more tokens than the embedding has rows', () => {
  assert.throws(() => open({}, 10), failure('invalid_request', /11 tokens, the embedding has 10 rows/));
});
