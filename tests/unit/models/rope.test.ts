/** Rotary tables against the formulas written down again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Rotary, ropeFrequencies, ropeTable } from '../../../gpu-worker/models/rope.ts';

const base: Rotary = { dims: 16, theta: 10000, scaling: null, positions: 40 };
const near = (got: number, expected: number, tolerance: number) =>
  assert.ok(Math.abs(got - expected) <= tolerance * Math.abs(expected), `${got} is not ${expected}`);

test('frequencies are θ^(−2i/d)', () => {
  const got = ropeFrequencies(base);
  assert.equal(got.length, 8);
  for (const [i, f] of got.entries()) near(f, 1 / 10000 ** (i / 8), 1e-12);
});

test('linear scaling divides every frequency', () => {
  const scaled = ropeFrequencies({ ...base, scaling: { rope_type: 'linear', factor: 8 } });
  for (const [i, f] of ropeFrequencies(base).entries()) near(scaled[i]!, f / 8, 1e-12);
});

test('dynamic scaling leaves the positions that are served as they are', () => {
  assert.deepEqual(ropeFrequencies({ ...base, scaling: { rope_type: 'dynamic', factor: 8 } }), ropeFrequencies(base));
});

test('llama3 scaling keeps short waves, divides long ones and blends between', () => {
  const scaling = {
    rope_type: 'llama3' as const,
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  // Llama 3.1: d = 128, θ = 500,000. Blended channels are those with wavelengths of 2,048 to 8,192 tokens.
  const rotary = { ...base, dims: 128, theta: 500000, scaling };
  const plain = ropeFrequencies({ ...rotary, scaling: null });
  const got = ropeFrequencies(rotary);
  const kinds = { kept: 0, blended: 0, divided: 0 };
  for (const [i, f] of plain.entries()) {
    const wavelength = (2 * Math.PI) / f;
    if (wavelength < 2048) {
      assert.equal(got[i], f);
      kinds.kept++;
    } else if (wavelength > 8192) {
      assert.equal(got[i], f / 8);
      kinds.divided++;
    } else {
      const share = (8192 / wavelength - 1) / 3;
      near(got[i]!, share * f + ((1 - share) * f) / 8, 1e-12);
      kinds.blended++;
    }
  }
  assert.deepEqual(kinds, { kept: 29, blended: 6, divided: 29 });
});

test('a table has one row for each position', () => {
  const cos = ropeTable(base, Math.cos);
  const sin = ropeTable(base, Math.sin);
  assert.equal(cos.length, 40 * 8);
  for (const position of [0, 1, 39]) {
    for (let i = 0; i < 8; i++) {
      const angle = position / 10000 ** (i / 8);
      assert.equal(cos[position * 8 + i], Math.fround(Math.cos(angle)));
      assert.equal(sin[position * 8 + i], Math.fround(Math.sin(angle)));
    }
  }
});
