/** Hugging Face folders: one file or shards, three float formats, and what is refused. */
import assert from 'node:assert/strict';
import { cp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { Failure } from '../../../shared/errors.ts';
import { failure, LLAMA, LLAMA_UNTIED, temporaryFolder } from './fixtures.ts';

type Dtype = 'F32' | 'F16' | 'BF16';
interface Stored {
  name: string;
  dtype: Dtype;
  shape: number[];
  data: Uint8Array;
}

/** A plain reader of its own: what the loader finds is compared with it. */
async function readTensors(path: string): Promise<Stored[]> {
  const bytes = await readFile(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: Dtype; shape: number[]; data_offsets: [number, number] }
  >;
  return Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        return { name, dtype, shape, data: bytes.subarray(8 + headerBytes + from, 8 + headerBytes + to) };
      },
    );
}

async function writeTensors(path: string, tensors: Stored[]): Promise<void> {
  const header: Record<string, object> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  await writeFile(path, Buffer.concat([length, json, ...tensors.map((tensor) => tensor.data)]));
}

const floats = (data: Uint8Array) => new Float32Array(Uint8Array.from(data).buffer);

test('the tied and the untied llama open with the tensors of their files', async () => {
  for (const [path, tied] of [
    [LLAMA, true],
    [LLAMA_UNTIED, false],
  ] as const) {
    const base = await openCheckpoint(path);
    assert.equal(base.config.tie_word_embeddings, tied);
    assert.equal(base.tensorNames().includes('lm_head.weight'), !tied);
    assert.equal(base.tokenizer, null);
    assert.match(base.revision, /^[0-9a-f]{64}$/);
    const stored = await readTensors(join(path, 'model.safetensors'));
    assert.deepEqual(base.tensorNames().sort(), stored.map(({ name }) => name).sort());
    for (const { name, shape, data } of stored) {
      assert.deepEqual(base.shape(name), shape);
      assert.deepEqual(base.tensor(name), floats(data));
    }
  }
  assert.equal((await openCheckpoint(`${LLAMA_UNTIED}/`)).id, 'llama-untied-rope3');
});

/** Shortens float32 to bfloat16 by cutting, to float16 by way of Node's own conversion. */
function narrow(dtype: Dtype, data: Uint8Array): Uint8Array {
  const values = floats(data);
  const view = new DataView(new ArrayBuffer(values.length * 2));
  const bits = new Uint32Array(values.buffer);
  for (let i = 0; i < values.length; i++) view.setUint16(i * 2, dtype === 'BF16' ? bits[i]! >>> 16 : halfBits(values[i]!), true);
  return new Uint8Array(view.buffer);
}

/** Normal halves only, cut: enough for the fixture's weights, all between 2^-14 and 2^15 or made 0. */
function halfBits(value: number): number {
  if (Math.abs(value) < 2 ** -14) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | Math.floor((Math.abs(value) / 2 ** exponent - 1) * 1024);
}

for (const dtype of ['F16', 'BF16'] as const) {
  test(`${dtype} weights are decoded, in shards too`, async (t) => {
    const path = await temporaryFolder(t);
    await cp(join(LLAMA, 'config.json'), join(path, 'config.json'));
    const full = await readTensors(join(LLAMA, 'model.safetensors'));
    const short = full.map((tensor) => ({ ...tensor, dtype, data: narrow(dtype, tensor.data) }));
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const shardOf = (i: number) => shards[i % 2]!;
    for (const shard of shards)
      await writeTensors(
        join(path, shard),
        short.filter((_, i) => shardOf(i) === shard),
      );
    const weight_map = Object.fromEntries(short.map(({ name }, i) => [name, shardOf(i)]));
    await writeFile(join(path, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map }));

    const base = await openCheckpoint(path);
    const step = dtype === 'F16' ? 2 ** -10 : 2 ** -7;
    for (const { name, data } of full) {
      const expected = floats(data);
      const got = base.tensor(name);
      assert.equal(got.length, expected.length);
      let exact = 0;
      for (let i = 0; i < got.length; i++) {
        assert.ok(
          Math.abs(got[i]! - expected[i]!) <= Math.abs(expected[i]!) * step + 2 ** -14,
          `${name}[${i}]: ${got[i]} for ${expected[i]}`,
        );
        exact += got[i] === 0 ? 0 : 1;
      }
      assert.ok(exact > got.length / 2, `${name} is mostly zero`);
    }
  });
}

test('the revision covers config, weights and tokenizer, not the folder or other files', async (t) => {
  const path = await temporaryFolder(t);
  await cp(LLAMA, path, { recursive: true });
  const { revision } = await openCheckpoint(path);
  assert.equal(revision, (await openCheckpoint(LLAMA)).revision);
  await writeFile(join(path, 'README.md'), 'notes');
  assert.equal((await openCheckpoint(path)).revision, revision);
  await writeFile(join(path, 'generation_config.json'), '{"eos_token_id": 3}');
  const changed = await openCheckpoint(path);
  assert.notEqual(changed.revision, revision);
  assert.deepEqual(changed.config.eos_token_id, [2, 3]);
});

test('the tokenizer files and a template file of its own are found', async (t) => {
  const path = await temporaryFolder(t);
  await cp(LLAMA, path, { recursive: true });
  await writeFile(join(path, 'tokenizer.json'), '{"model": {"type": "BPE"}}');
  await writeFile(join(path, 'tokenizer_config.json'), '{"bos_token": "<s>", "chat_template": "old"}');
  await writeFile(join(path, 'chat_template.jinja'), 'new');
  const { tokenizer } = await openCheckpoint(path);
  assert.deepEqual(tokenizer, { tokenizerJson: { model: { type: 'BPE' } }, tokenizerConfig: { bos_token: '<s>', chat_template: 'new' } });
});

test('rotary tables and the copy of a tied head are no parameters', async (t) => {
  const path = await temporaryFolder(t);
  await cp(join(LLAMA, 'config.json'), join(path, 'config.json'));
  const tensors = await readTensors(join(LLAMA, 'model.safetensors'));
  const embedding = tensors.find(({ name }) => name === 'model.embed_tokens.weight')!;
  const table = { name: 'model.layers.0.self_attn.rotary_emb.inv_freq', dtype: 'F32' as const, shape: [8], data: new Uint8Array(32) };
  await writeTensors(join(path, 'model.safetensors'), [...tensors, { ...embedding, name: 'lm_head.weight' }, table]);
  const base = await openCheckpoint(path);
  assert.equal(base.tensorNames().length, tensors.length);
  assert.throws(() => base.tensor('lm_head.weight'), failure('internal', /no tensor lm_head\.weight/));
});

const damages: [string, (path: string, tensors: Stored[]) => Promise<void>, RegExp][] = [
  ['no config', (path) => rm(join(path, 'config.json')), /expected config\.json/],
  ['config that is no object', (path) => writeFile(join(path, 'config.json'), '[]'), /config\.json: expected a JSON object/],
  [
    'no weights',
    (path) => rm(join(path, 'model.safetensors')),
    /expected model\.safetensors or model\.safetensors\.index\.json, got neither/,
  ],
  [
    'a tensor missing',
    (path, tensors) => writeTensors(join(path, 'model.safetensors'), tensors.slice(1)),
    /expected shape \[.*\], got no such tensor/,
  ],
  [
    'a tensor of another shape',
    (path, [first, ...rest]) => writeTensors(join(path, 'model.safetensors'), [{ ...first!, shape: [...first!.shape].reverse() }, ...rest]),
    /expected shape \[\d+, \d+\], got \[\d+, \d+\]/,
  ],
  [
    'a tensor too many',
    (path, tensors) => writeTensors(join(path, 'model.safetensors'), [...tensors, { ...tensors[0]!, name: 'model.extra.weight' }]),
    /tensor model\.extra\.weight: not a parameter of this llama/,
  ],
  [
    'integers for weights',
    (path, [first, ...rest]) => writeTensors(join(path, 'model.safetensors'), [{ ...first!, dtype: 'I32' as Dtype }, ...rest]),
    /dtype/,
  ],
  [
    'a shard outside the folder',
    (path) => writeFile(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { 'a.weight': '../model.safetensors' } })),
    /weight_map/,
  ],
  [
    'a shard that is not there',
    (path) => writeFile(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { 'a.weight': 'b.safetensors' } })),
    /b\.safetensors/,
  ],
  [
    'a tensor that its shard lacks',
    (path) => writeFile(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { 'a.weight': 'model.safetensors' } })),
    /tensor a\.weight: expected in model\.safetensors/,
  ],
];
for (const [what, damage, message] of damages) {
  test(`refuses a folder with ${what}`, async (t) => {
    const path = await temporaryFolder(t);
    await cp(LLAMA, path, { recursive: true });
    await damage(path, await readTensors(join(LLAMA, 'model.safetensors')));
    await assert.rejects(openCheckpoint(path), failure('invalid_request', message));
  });
}

test('what is neither a folder nor a .gguf file is refused', async (t) => {
  const path = await temporaryFolder(t);
  await assert.rejects(openCheckpoint(join(path, 'nothing')), failure('invalid_request', /no such file or folder/));
  await symlink(join(LLAMA, 'model.safetensors'), join(path, 'model.bin'));
  await assert.rejects(openCheckpoint(join(path, 'model.bin')), failure('unsupported', /expected a \.gguf file or a Hugging Face folder/));
});

test('damaged safetensors headers are refused or harmless', async (t) => {
  const path = await temporaryFolder(t);
  await cp(LLAMA, path, { recursive: true });
  const whole = await readFile(join(LLAMA, 'model.safetensors'));
  const header = 8 + Number(whole.readBigUInt64LE(0));
  const change = fc.tuple(fc.integer({ min: 0, max: header }), fc.integer({ min: 0, max: 255 }));
  const cut = fc.option(fc.integer({ min: 0, max: whole.length - 1 }), { nil: whole.length, freq: 3 });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 4 }), cut, async (changes, length) => {
      const copy = Buffer.from(whole.subarray(0, length));
      for (const [position, value] of changes) if (position < length) copy[position] = value;
      await writeFile(join(path, 'model.safetensors'), copy);
      const opened = await openCheckpoint(path).then(
        () => true,
        (error: unknown) => {
          assert.ok(error instanceof Failure && error.value.kind === 'invalid_request', String(error));
          return false;
        },
      );
      if (length < whole.length) assert.equal(opened, false);
    }),
    { numRuns: 200 },
  );
});
