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

/** Made by transformers 5.23 (modeling_rope_utils) in float32, for heads of 32. */
const REFERENCE = [
  {
    name: 'yarn, as Qwen2.5 recommends it',
    theta: 1e6,
    scaling: {
      rope_type: 'yarn' as const,
      factor: 4,
      beta_fast: 32,
      beta_slow: 1,
      original_max_position_embeddings: 32768,
      truncate: true,
      attention_factor: 1.138629436111989,
    },
    frequencies: [
      1, 0.4216965, 0.1778279, 0.07498942, 0.03162278, 0.01333521, 0.004779901, 0.001659962, 0.00055, 0.0001686786, 4.445699e-5,
      1.874736e-5, 7.905694e-6, 3.333804e-6, 1.405853e-6, 5.928434e-7,
    ],
  },
  {
    name: 'yarn with bounds between pairs',
    theta: 1e4,
    scaling: {
      rope_type: 'yarn' as const,
      factor: 8,
      beta_fast: 16,
      beta_slow: 2,
      original_max_position_embeddings: 4096,
      truncate: false,
      attention_factor: 1.094179988101349,
    },
    frequencies: [
      1, 0.5623413, 0.3162278, 0.1778279, 0.1, 0.05623413, 0.03162278, 0.01537168, 0.006221889, 0.0021367, 0.0004355756, 0.0002222849,
      0.000125, 7.029266e-5, 3.952847e-5, 2.222849e-5,
    ],
  },
  {
    name: 'longrope within the original context',
    theta: 1e4,
    scaling: {
      rope_type: 'longrope' as const,
      short_factor: Array.from({ length: 16 }, (_, i) => 1 + 0.1 * i),
      attention_factor: 1.1902380714238083,
    },
    frequencies: [
      1, 0.5112194, 0.2635231, 0.1367907, 0.07142857, 0.03748942, 0.01976424, 0.01046047, 0.005555556, 0.002959691, 0.001581139,
      0.0008467998, 0.0004545455, 0.0002444962, 0.0001317616, 7.113117e-5,
    ],
  },
];
for (const { name, theta, scaling, frequencies } of REFERENCE) {
  test(`${name}: transformers' frequencies, tables times the attention factor`, () => {
    const rotary = { dims: 32, theta, scaling, positions: 3 };
    for (const [i, f] of ropeFrequencies(rotary).entries()) near(f, frequencies[i]!, 2e-6);
    assert.equal(ropeTable(rotary, Math.cos)[0], Math.fround(scaling.attention_factor));
  });
}

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
