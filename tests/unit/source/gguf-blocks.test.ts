/** Block formats against values that llama.cpp's Python package decoded from the same bytes. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { BLOCK_FORMATS } from '../../../gpu-worker/models/source/gguf-blocks.ts';
import { GGUF_BLOCKS } from './fixtures.ts';

type Vectors = Record<string, { type: number; blocks: string; values: string }>;
const vectors = JSON.parse(readFileSync(GGUF_BLOCKS, 'utf8')) as Vectors;
const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'));

for (const [name, { type, blocks, values }] of Object.entries(vectors)) {
  test(`${name} decodes bit for bit as the reference`, () => {
    const format = BLOCK_FORMATS.get(type);
    assert.equal(format?.name, name);
    const expected = new Float32Array(bytes(values).buffer);
    const got = format.decode(bytes(blocks));
    assert.ok(expected.some((value) => value !== 0));
    assert.deepEqual(got, expected);
    assert.equal(got.length / format.elements, bytes(blocks).length / format.bytes);
  });
}

test('every format but F32 has vectors', () => {
  const names = [...BLOCK_FORMATS.values()].map((format) => format.name).filter((name) => name !== 'F32');
  assert.deepEqual(Object.keys(vectors).sort(), names.sort());
});
