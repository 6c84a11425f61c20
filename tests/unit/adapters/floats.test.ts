/** Half floats against the platform's own conversion, all 65,536 values of each format. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeFloats, encodeBF16Exact, encodeF16Exact } from '../../../shared/adapters/floats.ts';

const every = Uint16Array.from({ length: 65536 }, (_, i) => i);
const bytes = new Uint8Array(every.buffer);
const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
const float = (word: number) => new Float32Array(Uint32Array.of(word).buffer);

/** Half floats by definition: sign × 2^e × mantissa. */
function half(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >> 10) & 31;
  const mantissa = word & 0x3ff;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + mantissa / 1024) : sign * 2 ** -14 * (mantissa / 1024);
}

test('every half float decodes to its value and encodes back to its bits', () => {
  const values = decodeFloats('F16', bytes);
  for (let i = 0; i < 65536; i++) assert.ok(Object.is(values[i], half(i)), `0x${i.toString(16)}: ${values[i]} is not ${half(i)}`);
  assert.deepEqual(encodeF16Exact(values), every);
});

test('every bfloat16 decodes to the upper half of a float32 and encodes back', () => {
  const values = decodeFloats('BF16', bytes);
  assert.deepEqual(
    bits(values),
    Uint32Array.from(every, (v) => v << 16),
  );
  assert.deepEqual(encodeBF16Exact(values), every);
});

test('bytes at an odd offset decode the same', () => {
  const shifted = new Uint8Array(9);
  shifted.set(new Uint8Array(Float32Array.of(1.5, -2.25).buffer), 1);
  assert.deepEqual(decodeFloats('F32', shifted.subarray(1)), Float32Array.of(1.5, -2.25));
  shifted.set([0x00, 0x3c, 0x01, 0x00], 1);
  assert.deepEqual(decodeFloats('F16', shifted.subarray(1, 5)), Float32Array.of(1, 2 ** -24));
});

test('one value between two half floats keeps the whole tensor wide', () => {
  for (const word of [0x3f800001, 0x3f801000, 0x47800000 /* 65536 */, 0x33000000 /* 2^-25 */, 0x00000001, 0x33800001]) {
    assert.equal(encodeF16Exact(Float32Array.of(1, ...float(word))), null, word.toString(16));
  }
  assert.equal(encodeBF16Exact(Float32Array.of(1, ...float(0x3f800001))), null);
  assert.notEqual(encodeF16Exact(Float32Array.of(65504, -(2 ** -24), -0)), null);
});

test('bytes that are not whole values are refused', () => {
  assert.throws(() => decodeFloats('F16', new Uint8Array(3)), RangeError);
});
