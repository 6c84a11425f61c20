/** The GGUF loader on a file made by llama.cpp's Python writer, and on damaged copies of it. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { Failure } from '../../../shared/errors.ts';
import { failure, TINY_GGUF, temporaryFolder } from './fixtures.ts';

test('names, shapes, values and row order are those of the Hugging Face model it was made from', async () => {
  const base = await openCheckpoint(TINY_GGUF);
  assert.equal(base.id, 'tiny-llama.gguf');
  assert.deepEqual(base.shape('model.layers.1.self_attn.k_proj.weight'), [4, 8]);
  assert.deepEqual(base.shape('model.layers.0.mlp.down_proj.weight'), [8, 16]);
  // The parameters count up in the order of the names; one misplaced row would break the count.
  let next = 0;
  for (const name of base.tensorNames()) {
    for (const value of base.tensor(name)) assert.equal(value, next++, name);
  }
  assert.equal(next, 12 * 8 * 2 + 8 + 2 * (8 * 8 * 2 + 4 * 8 * 2 + 3 * 8 * 16 + 8 * 2));
});

test('the config is read from the metadata', async () => {
  const { config } = await openCheckpoint(TINY_GGUF);
  assert.equal(config.num_key_value_heads, 1);
  assert.equal(config.head_dim, 4);
  assert.equal(config.tie_word_embeddings, false);
  assert.deepEqual(config.rope_scaling, { rope_type: 'linear', factor: 2 });
  assert.equal(Math.fround(config.rms_norm_eps!), Math.fround(1e-5));
  assert.deepEqual([config.bos_token_id, config.eos_token_id], [[0], [1]]);
});

test('an unknown tensor name is refused, the call names it', async () => {
  const base = await openCheckpoint(TINY_GGUF);
  assert.throws(() => base.tensor('model.layers.2.mlp.up_proj.weight'), failure('internal', /no tensor model\.layers\.2/));
});

/** Replaces an ASCII text in the header by one of the same length. */
function patched(bytes: Buffer, from: string, to: string): Buffer {
  assert.equal(from.length, to.length);
  const position = bytes.indexOf(from, 0, 'latin1');
  assert.ok(position >= 0, from);
  const copy = Buffer.from(bytes);
  copy.write(to, position, 'latin1');
  return copy;
}

const refusals: [string, string, 'unsupported' | 'invalid_request', RegExp][] = [
  ['llama.vocab_size', 'llama.vocab_sizX', 'unsupported', /metadata llama.*vocab_sizX/],
  ['llama.block_count', 'llama.block_counX', 'invalid_request', /metadata llama\.block_count: expected a number, got undefined/],
  ['blk.1.ffn_up.weight', 'blk.1.ffn_xx.weight', 'unsupported', /tensor blk\.1\.ffn_xx\.weight is not supported/],
  [
    'blk.1.ffn_up.weight',
    'blk.7.ffn_up.weight',
    'invalid_request',
    /layers\.1\.mlp\.up_proj\.weight: expected shape \[16, 8\], got no such/,
  ],
  ['blk.1.ffn_up.weight', 'blk.0.ffn_up.weight', 'invalid_request', /listed twice/],
  ['output_norm.weight', 'outrut_norm.weight', 'unsupported', /outrut_norm/],
  ['smollm', 'qwen35', 'unsupported', /pre-tokenizer "qwen35" is not supported/],
  ['a b', 'abc', 'invalid_request', /merge "abc"/],
  ['GGUF', 'GGUX', 'invalid_request', /does not start with "GGUF"/],
];
for (const [from, to, kind, message] of refusals) {
  test(`refuses ${from} → ${to}`, async (t) => {
    const path = join(await temporaryFolder(t), 'patched.gguf');
    await writeFile(path, patched(await readFile(TINY_GGUF), from, to));
    await assert.rejects(openCheckpoint(path), failure(kind, message));
  });
}

test('an architecture without an entry is refused by name', async (t) => {
  const path = join(await temporaryFolder(t), 'qwen.gguf');
  const bytes = await readFile(TINY_GGUF);
  const value = bytes.indexOf('llama', bytes.indexOf('general.architecture'));
  bytes.write('bloom', value, 'latin1');
  await writeFile(path, bytes);
  await assert.rejects(
    openCheckpoint(path),
    failure('unsupported', /architecture "bloom" is not supported in GGUF \(supported: llama, qwen2, /),
  );
});

test('a file that changed after opening is not read any more', async (t) => {
  const path = join(await temporaryFolder(t), 'base.gguf');
  const bytes = await readFile(TINY_GGUF);
  await writeFile(path, bytes);
  const base = await openCheckpoint(path);
  await writeFile(path, Buffer.concat([bytes, Buffer.alloc(32)]));
  assert.throws(() => base.tensor('model.norm.weight'), failure('internal', /changed after it was opened/));
});

/** Opens a damaged file: it may still be whole enough, but the only error is a Failure, and it comes soon. */
async function opensOrRefuses(path: string, bytes: Uint8Array): Promise<'opened' | 'refused'> {
  await writeFile(path, bytes);
  const before = performance.now();
  const rssBefore = process.memoryUsage.rss();
  try {
    const base = await openCheckpoint(path);
    for (const name of base.tensorNames()) base.tensor(name);
    return 'opened';
  } catch (error) {
    assert.ok(error instanceof Failure, `expected a Failure, got ${String(error)}`);
    assert.ok(['invalid_request', 'unsupported'].includes(error.value.kind), error.message);
    return 'refused';
  } finally {
    assert.ok(performance.now() - before < 5000, 'took over 5 s');
    assert.ok(process.memoryUsage.rss() - rssBefore < 500e6, 'took over 500 MB');
  }
}

test('a file that ends inside its last tensor is refused when it is opened', async (t) => {
  const path = join(await temporaryFolder(t), 'short.gguf');
  const bytes = await readFile(TINY_GGUF);
  // The writer pads the last tensor to 32 bytes.
  await writeFile(path, bytes.subarray(0, -32));
  await assert.rejects(openCheckpoint(path), failure('invalid_request', /expected \d+ bytes at \d+, the file has \d+/));
});

test('every truncation is refused', async (t) => {
  const path = join(await temporaryFolder(t), 'short.gguf');
  const bytes = await readFile(TINY_GGUF);
  const lengths = fc.integer({ min: 0, max: bytes.length - 1 });
  await fc.assert(
    fc.asyncProperty(lengths, async (length) => {
      assert.equal(await opensOrRefuses(path, bytes.subarray(0, length)), 'refused');
    }),
    { numRuns: 150 },
  );
});

test('changed header bytes give a base or a clear refusal, in bounded time and memory', async (t) => {
  const path = join(await temporaryFolder(t), 'mutated.gguf');
  const bytes = await readFile(TINY_GGUF);
  const header = bytes.indexOf('output.weight') + 64;
  const change = fc.tuple(
    fc.integer({ min: 0, max: header }),
    fc.oneof(fc.constantFrom(0, 1, 9, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 })),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
      const copy = Buffer.from(bytes);
      for (const [position, value] of changes) copy[position] = value;
      await opensOrRefuses(path, copy);
    }),
    { numRuns: 300 },
  );
});
