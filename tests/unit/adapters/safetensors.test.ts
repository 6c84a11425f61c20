/** The safetensors container: what is written is read back, equal content gives equal bytes, and no mutation gets past the reader. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readSafetensors, type Tensor, writeSafetensors } from '../../../shared/adapters/safetensors.ts';
import { Failure } from '../../../shared/errors.ts';

const tensor: fc.Arbitrary<Tensor> = fc
  .tuple(fc.constantFrom('F32' as const, 'F16' as const, 'U8' as const), fc.array(fc.nat(4), { maxLength: 3 }), fc.nat(255))
  .map(([dtype, shape, fill]) => {
    const items = shape.reduce((a, b) => a * b, 1);
    return { dtype, shape, data: new Uint8Array(items * { F32: 4, F16: 2, U8: 1 }[dtype]).fill(fill) };
  });
const key = fc.string({ unit: 'grapheme', maxLength: 8 }).filter((name) => name !== '__metadata__' && name.isWellFormed());
const file = fc.tuple(
  fc.uniqueArray(fc.tuple(key, tensor), { selector: ([name]) => name, maxLength: 6 }),
  fc.array(fc.tuple(key, key), { maxLength: 3 }),
);

test('reads what it writes, whatever the order it was given in', () => {
  fc.assert(
    fc.property(file, ([tensors, metadata]) => {
      const bytes = writeSafetensors(new Map(tensors), new Map(metadata));
      assert.deepEqual(writeSafetensors(new Map(tensors.toReversed()), new Map([...new Map(metadata)].reverse())), bytes);
      const read = readSafetensors(bytes, 'x');
      assert.deepEqual(read.metadata, new Map(metadata));
      assert.deepEqual(new Map([...read.tensors].map(([name, value]) => [name, { ...value, data: value.data.slice() }])), new Map(tensors));
      const headerLength = new DataView(bytes.buffer).getBigUint64(0, true);
      assert.equal(headerLength % 8n, 0n);
    }),
  );
});

test('a mutated file is read within its own bytes or refused', () => {
  const good = writeSafetensors(
    new Map<string, Tensor>([
      ['a', { dtype: 'F32', shape: [2, 3], data: new Uint8Array(24).fill(1) }],
      ['b', { dtype: 'F16', shape: [4], data: new Uint8Array(8).fill(2) }],
    ]),
    new Map([['format', 'pt']]),
  );
  const mutation = fc.tuple(
    fc.nat(good.length - 1),
    fc.oneof(fc.nat(255), fc.constantFrom(...[...'{}[]",:0123456789-eF'].map((c) => c.charCodeAt(0)))),
  );
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), fc.integer({ min: -40, max: 8 }), (mutations, extra) => {
      const bytes = new Uint8Array(Math.max(0, good.length + Math.min(extra, 8)));
      bytes.set(good.subarray(0, bytes.length));
      for (const [at, value] of mutations) if (at < bytes.length) bytes[at] = value;
      try {
        const { tensors } = readSafetensors(bytes, 'x');
        const covered = [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
        assert.equal(covered, bytes.length - 8 - Number(new DataView(bytes.buffer).getBigUint64(0, true)));
      } catch (error) {
        assert.ok(error instanceof Failure, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});
