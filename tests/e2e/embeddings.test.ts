/**
 * Embeddings through the whole stack: a tiny BERT beside a tiny decoder, an adapter of PEFT, both official clients, a batch,
 * and a bill that is exact.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import OpenAI, { toFile } from 'openai';
import { ROOT } from '../../cli/home.ts';
import { floatsOf, largestDifference, promptsOf, tensorsOf } from '../synthetic/models/support.ts';
import { eventually, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

const exec = promisify(execFile);
const FIXTURES = join(ROOT, 'tests', 'fixtures');
const ENCODER = 'tiny-bert';
const DECODER = 'llama';
const TOLERANCE = 2e-5;

/** Word pieces for the fixture's 320 tokens: special tokens, letters as words and as parts of words, and three whole words. */
function tokenizerJson(): object {
  const letters = [...'abcdefghijklmnopqrstuvwxyz'];
  const names = [
    '[PAD]',
    '[UNK]',
    '[CLS]',
    '[SEP]',
    '[MASK]',
    'red',
    'green',
    'blue',
    ...letters,
    ...letters.map((letter) => `##${letter}`),
  ];
  const special = (id: number) => ({
    id,
    content: names[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const edge = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  return {
    version: '1.0',
    added_tokens: [0, 1, 2, 3, 4].map(special),
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [edge('[CLS]'), { Sequence: { id: 'A', type_id: 0 } }, edge('[SEP]')],
      pair: [],
      special_tokens: Object.fromEntries(['[CLS]', '[SEP]'].map((id) => [id, { id, ids: [names.indexOf(id)], tokens: [id] }])),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(names.map((name, id) => [name, id])),
    },
  };
}

let folder: string;
let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-encoder-'));
  const base = join(folder, ENCODER);
  await cp(join(FIXTURES, 'encoders', 'bert'), base, { recursive: true });
  await writeFile(join(base, 'tokenizer.json'), JSON.stringify(tokenizerJson()));
  const bases = [base, join(FIXTURES, 'families', DECODER)].join(',');
  stack = await Stack.start({ SWITCHYARD_BASE: bases, SWITCHYARD_PRECISION: 'fp32' });
  tenant = await stack.tenant();
});
after(async () => {
  await stack[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const embed = async (input: OpenAI.EmbeddingCreateParams['input'], more: Partial<OpenAI.EmbeddingCreateParams> = {}) =>
  tenant.client.embeddings.create({ model: ENCODER, input, ...more });

test("vectors are the reference's", async () => {
  const cases = await tensorsOf(join(FIXTURES, 'encoders', 'bert', 'cases.safetensors'));
  const { data, usage } = await embed(promptsOf(cases, 'b.input_ids'));
  assert.ok(largestDifference(data[0]!.embedding, floatsOf(cases, 'b.embedding')) <= TOLERANCE);
  assert.deepEqual(usage, { prompt_tokens: 5, total_tokens: 5 });
});

test('the Node client: text and its ids are the same, formats agree, fewer dimensions have length 1', async () => {
  const texts = ['red green', 'Blue sky'];
  const [text, ids, floats, short] = await Promise.all([
    embed(texts),
    embed([
      [2, 5, 6, 3],
      [2, 7, 26, 44, 58, 3],
    ]),
    embed(texts, { encoding_format: 'float' }),
    embed(texts, { dimensions: 8 }),
  ]);
  assert.deepEqual(text.data, ids.data);
  assert.equal(text.usage.total_tokens, 10);
  for (const [i, { embedding, index, object }] of text.data.entries()) {
    assert.deepEqual([index, object, embedding.length], [i, 'embedding', 64]);
    assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-5);
    assert.ok(largestDifference(embedding, floats.data[i]!.embedding) < 1e-7);
    const length = Math.hypot(...embedding.slice(0, 8));
    const scaled = embedding.slice(0, 8).map((x) => x / length);
    assert.ok(largestDifference(short.data[i]!.embedding, scaled) < 1e-6);
  }
});

const PROGRAM = `
import json, openai, sys
client = openai.OpenAI(max_retries=0)
created = client.embeddings.create(model=sys.argv[1], input=["red green", "blue"])
try:
    client.embeddings.create(model=sys.argv[2], input="x")
    error = None
except openai.BadRequestError as refused:
    error = refused.body["message"]
json.dump({"vectors": [item.embedding for item in created.data], "tokens": created.usage.total_tokens, "error": error}, sys.stdout)
`;

test('the Python client, which asks for base64', async () => {
  const bin = (await exec(join(ROOT, 'tests', 'setup-peers'))).stdout.trim();
  const env = { ...process.env, OPENAI_BASE_URL: `${stack.url}/v1`, OPENAI_API_KEY: tenant.key };
  const { stdout } = await exec(join(bin, 'python3'), ['-c', PROGRAM, ENCODER, DECODER], { env });
  const answer = JSON.parse(stdout) as { vectors: number[][]; tokens: number; error: string };
  const { data } = await embed(['red green', 'blue']);
  assert.ok(Math.max(...data.map(({ embedding }, i) => largestDifference(embedding, answer.vectors[i]!))) < 1e-7);
  assert.equal(answer.tokens, 7);
  assert.match(answer.error, /"llama" generates text: use \/v1\/chat\/completions/);
});

test("an adapter of PEFT's on the encoder, alone and in a mixture", async () => {
  const files = await Promise.all(
    ['adapter_config.json', 'adapter_model.safetensors'].map(async (name) => ({
      name,
      bytes: await readFile(join(FIXTURES, 'encoders', 'bert', 'adapters', 'lora-bert', name)),
    })),
  );
  const { digest } = await stack.upload(tenant, 'mine', files, ENCODER);
  const [plain, adapted, mixed] = [
    await embed('red green'),
    await embed('red green', { model: 'mine' }),
    await tenant.client.embeddings.create({
      model: ENCODER,
      input: 'red green',
      adapters: [{ model: 'mine', weight: 1 }],
    } as OpenAI.EmbeddingCreateParams),
  ];
  assert.ok(largestDifference(plain.data[0]!.embedding, adapted.data[0]!.embedding) > 0.01);
  assert.deepEqual(mixed.data, adapted.data);
  const { switchyard } = adapted as unknown as { switchyard: { adapters: { digest: string }[] } };
  assert.deepEqual(switchyard.adapters, [{ digest, weight: 1 }]);
});

test('what does not fit is refused', async () => {
  const refusal = async (ask: Promise<unknown>) => {
    const error = await ask.then(
      () => assert.fail('answered'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof OpenAI.BadRequestError);
    return [error.param, error.code];
  };
  assert.deepEqual(await refusal(embed(['red', 'red '.repeat(63)])), ['input', 'context_length_exceeded']);
  assert.deepEqual(await refusal(embed([[320]])), ['input', null]);
  assert.deepEqual(await refusal(embed('red', { dimensions: 65 })), ['dimensions', null]);
  const chat = tenant.client.chat.completions.create({ model: ENCODER, messages: [{ role: 'user', content: 'hi' }] });
  assert.deepEqual(await refusal(chat), ['model', 'unsupported_value']);
});

test('many texts at once, and a batch: the same vectors, and the bill is exact', async () => {
  const texts = Array.from({ length: 600 }, (_, i) => `red ${'green '.repeat(i % 17)}`);
  const whole = await embed(texts);
  assert.equal(whole.data.length, 600);
  const few = await embed(texts.slice(0, 17));
  assert.ok(few.data.every(({ embedding }, i) => largestDifference(embedding, whole.data[i]!.embedding) < 1e-5));

  const line = { custom_id: 'a', method: 'POST', url: '/v1/embeddings', body: { model: ENCODER, input: texts.slice(0, 17) } };
  const file = await tenant.client.files.create({ purpose: 'batch', file: await toFile(Buffer.from(JSON.stringify(line)), 'in.jsonl') });
  const { id } = await tenant.client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/embeddings',
    completion_window: '24h',
  });
  const batch = await eventually('the batch is completed', 30_000, async () => {
    const now = await tenant.client.batches.retrieve(id);
    return now.status === 'completed' && now;
  });
  const text = await (await tenant.client.files.content(batch.output_file_id!)).text();
  const { body } = (JSON.parse(text) as { response: { body: OpenAI.CreateEmbeddingResponse } }).response;
  assert.ok(body.data.every(({ embedding }, i) => largestDifference(embedding, few.data[i]!.embedding) < 1e-5));
  assert.equal(batch.usage?.total_tokens, few.usage.total_tokens);

  const { settled } = await stack.settled(tenant);
  const { total } = (await (await stack.call('/v1/usage', tenant.key)).json()) as {
    total: { prompt_tokens: number; completion_tokens: number };
  };
  assert.deepEqual([total.prompt_tokens, total.completion_tokens], [settled, 0]);
});

test('both bases are listed', async () => {
  const { data } = await tenant.client.models.list();
  assert.deepEqual(data.map(({ id }) => id).slice(0, 2), [ENCODER, DECODER]);
});
