/** The real base's tokenizer and chat template, built from its GGUF, against transformers and tokenizers. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { renderChat } from '../../../gpu-worker/tokenizer/chat.ts';
import { createTokenizer } from '../../../gpu-worker/tokenizer/tokenizer.ts';
import { basePath } from '../source/base-path.ts';

function fixture<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../fixtures/smollm2/${name}`, import.meta.url), 'utf8')) as T;
}

const { tokenizer: source } = await openCheckpoint(basePath());
assert.ok(source);
const tokenizer = createTokenizer(source);
const VOCABULARY = 49152;

test('its vocabulary, merges and added tokens are those of the published tokenizer.json', () => {
  const { model, added_tokens } = source.tokenizerJson as {
    model: { vocab: Record<string, number>; merges: [string, string][] };
    added_tokens: { id: number; content: string; special: boolean }[];
  };
  const vocabulary = Object.entries(model.vocab).sort(([, a], [, b]) => a - b);
  const all = [added_tokens.map((token) => [token.id, token.content, token.special]), vocabulary, model.merges];
  const digest = createHash('sha256').update(JSON.stringify(all)).digest('hex');
  assert.equal(digest, '28e2756f6ed852ada9e066761aaaa246c5774ba7dce1f6d7a74c76c1c7a04e03');
});

test('ids of chosen texts', () => {
  for (const { text, ids } of fixture<{ text: string; ids: number[] }[]>('tokenizer_cases.json')) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
  }
});

test('ids and text of random strings in many scripts', () => {
  for (const { text, ids, decoded } of fixture<{ text: string; ids: number[]; decoded: string }[]>('tokenizer_fuzz.json')) {
    assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
    assert.equal(tokenizer.decode(ids), decoded);
  }
});

interface Prompt {
  messages: { role: string; content: string }[];
  rendered: string;
  ids: number[];
  greedy: number[];
  greedy_text: string;
}

test('rendered prompts, their ids, and the text of the answers', () => {
  for (const { messages, rendered, ids, greedy, greedy_text } of fixture<Prompt[]>('prompts.json')) {
    const text = renderChat(source, messages, { addGenerationPrompt: true, tools: null });
    assert.equal(text, rendered);
    assert.deepEqual(tokenizer.encodeRendered(text), ids);
    assert.equal(tokenizer.decode(greedy), greedy_text.replace('<|im_end|>', ''));
  }
});

test('special tokens are named one by one and left out of text', () => {
  assert.deepEqual(tokenizer.encode('<|im_end|>'), [2]);
  assert.equal(tokenizer.decodeToken(2), '<|im_end|>');
  assert.equal(tokenizer.decode([1, 19556, 905, 2]), 'Hello world');
  assert.equal(tokenizer.tokenBytes(2).length, 0);
  assert.equal(Buffer.from(tokenizer.tokenBytes(2, { specials: true })).toString(), '<|im_end|>');
  assert.ok(tokenizer.isSpecial(2));
  assert.ok(!tokenizer.isSpecial(19556));
});

test('an id without a token adds nothing', () => {
  assert.equal(tokenizer.decode([19556, VOCABULARY, -1, 905]), 'Hello world');
  assert.equal(tokenizer.decodeToken(VOCABULARY + 7), '');
});

/** The vocabulary lacks tokens for these bytes, so encoding leaves them out: control characters and unassigned planes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is meant
const UNREPRESENTABLE = /[\x04\x06\x13\x14\x16\x1d\u{40000}-\u{fffff}]|<\|?[a-z]/u;
const text = fc.string({ unit: 'grapheme', maxLength: 60 }).filter((s) => !UNREPRESENTABLE.test(s));

test('decoding undoes encoding', () => {
  fc.assert(
    fc.property(text, (s) => {
      assert.equal(tokenizer.decode(tokenizer.encode(s)), s);
    }),
    { numRuns: 500 },
  );
});

test('streamed text is the text of the whole, for any tokens, and never shows half a character', () => {
  const token = fc.oneof(fc.integer({ min: 0, max: VOCABULARY - 1 }), fc.integer({ min: 113, max: 260 }));
  fc.assert(
    fc.property(fc.array(token, { maxLength: 40 }), (ids) => {
      const bytes = Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id)));
      const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
      const stream = tokenizer.stream();
      let shown = '';
      for (const id of ids) {
        shown += stream.push(id);
        assert.ok(whole.startsWith(shown));
      }
      assert.equal(shown + stream.flush(), whole);
      assert.equal(tokenizer.decode(ids), whole);
    }),
    { numRuns: 500 },
  );
});

test('characters cut apart by tokens appear when they are whole', () => {
  const bike = tokenizer.encode('🚲');
  assert.ok(bike.length > 1);
  const stream = tokenizer.stream();
  assert.deepEqual(
    bike.map((id) => stream.push(id)),
    [...bike.slice(1).map(() => ''), '🚲'],
  );
  stream.push(bike[0]!);
  assert.equal(stream.flush(), '\ufffd');
  assert.equal(stream.push(19556), 'Hello');
});

test('it can be built in a worker thread from the posted source', async () => {
  const module = new URL('../../../gpu-worker/tokenizer/tokenizer.ts', import.meta.url).href;
  const code = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { createTokenizer } = await import(${JSON.stringify(module)});
    parentPort.postMessage(createTokenizer(workerData).encode('Hello world'));`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: source });
  const ids = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await worker.terminate();
  assert.deepEqual(ids, [19556, 905]);
});
