/** The change of basis is orthonormal, the same each time, and spreads a single channel over all. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { rotation } from '../../../gpu-worker/models/rotation.ts';

/** The matrix that rows are multiplied by: the images of the unit vectors. */
function matrixOf(width: number): Float32Array {
  const rows = new Float32Array(width * width);
  for (let i = 0; i < width; i++) rows[i * width + i] = 1;
  rotation(width).apply(rows);
  return rows;
}

for (const width of [1, 2, 7, 16, 48, 64, 576, 1536]) {
  describe(`width ${width}`, () => {
    const matrix = matrixOf(width);

    test('rows are orthonormal', () => {
      // All pairs of the narrow ones, a spread of the wide ones: 1,536² pairs would take a minute.
      const stride = Math.max(1, Math.floor(width / 60));
      for (let i = 0; i < width; i += stride) {
        for (let j = i; j < width; j += stride) {
          let product = 0;
          for (let k = 0; k < width; k++) product += matrix[i * width + k]! * matrix[j * width + k]!;
          assert.ok(Math.abs(product - (i === j ? 1 : 0)) < 1e-5, `rows ${i} and ${j}: ${product}`);
        }
      }
    });

    test('every row is turned by the same matrix, again in another instance', () => {
      const rows = Float32Array.from({ length: 3 * width }, (_, i) => Math.sin(i + 1));
      const expected = new Float64Array(3 * width);
      for (let r = 0; r < 3; r++)
        for (let k = 0; k < width; k++)
          for (let j = 0; j < width; j++) expected[r * width + j]! += rows[r * width + k]! * matrix[k * width + j]!;
      rotation(width).apply(rows);
      const worst = rows.reduce((max, x, i) => Math.max(max, Math.abs(x - expected[i]!)), 0);
      assert.ok(worst < 1e-4, `off by ${worst}`);
    });

    test('one loud channel becomes many quiet ones', () => {
      const loudest = matrix.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
      assert.ok(loudest <= Math.sqrt(2 / width) + 1e-6, `${loudest} of 1 stays in one channel`);
    });
  });
}

test('rows that are not whole are refused', () => {
  assert.throws(() => rotation(48).apply(new Float32Array(50)), /width 48: got 50/);
});
