/** Draws against a naive reference in float64, their distribution by chi-square, seeds by repetition. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type DrawOptions, draw } from '../../../../gpu-worker/engine/sampling/draw.ts';
import { argmax, logSumExp, tokenLogprob, topIndices } from '../../../../gpu-worker/engine/sampling/order.ts';
import { Random } from '../../../../gpu-worker/engine/sampling/random.ts';

const row = (options: { min?: number; max?: number } = {}) =>
  fc
    .array(fc.float({ min: -12, max: 12, noNaN: true }), { minLength: options.min ?? 1, maxLength: options.max ?? 60 })
    .map((values) => Float32Array.from(values));
/** Logits on a grid, so that float32 weights tell apart what float64 does. */
const grid = (options: { min: number; max: number }) =>
  fc
    .array(fc.integer({ min: -768, max: 768 }), { minLength: options.min, maxLength: options.max })
    .map((values) => Float32Array.from(values, (x) => x / 64));
/** Few distinct values, so that ties are common. */
const tied = fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 40 }).map((values) => Float32Array.from(values));

const sorted = (logits: Float32Array): number[] => [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);

describe('order', () => {
  test('topIndices is the head of a full sort, ties by index', () => {
    fc.assert(
      fc.property(fc.oneof(row(), tied), fc.nat(50), (logits, k) => {
        assert.deepEqual(topIndices(logits, k), sorted(logits).slice(0, k));
      }),
    );
  });

  test('argmax is the first of the largest', () => {
    fc.assert(
      fc.property(fc.oneof(row(), tied), (logits) => {
        assert.equal(argmax(logits), sorted(logits)[0]);
      }),
    );
  });
});

describe('log-probabilities', () => {
  test('logSumExp, also of large and small logits', () => {
    fc.assert(
      fc.property(row(), fc.constantFrom(-1e4, 0, 1e4), (logits, shift) => {
        const shifted = logits.map((x) => x + shift);
        const max = Math.max(...shifted);
        const expected = max + Math.log([...shifted].reduce((sum, x) => sum + Math.exp(x - max), 0));
        assert.ok(Math.abs(logSumExp(shifted) - expected) <= 1e-9 * Math.max(1, Math.abs(expected)));
      }),
    );
  });

  test('a token is told with its own and the best alternatives, whose probabilities sum to one', () => {
    fc.assert(
      fc.property(row({ min: 2 }), fc.nat(), (logits, at) => {
        const id = at % logits.length;
        const { id: told, logprob, top } = tokenLogprob(logits, id, logits.length);
        assert.equal(told, id);
        assert.deepEqual(
          top.map((t) => t.id),
          sorted(logits),
        );
        assert.equal(top.find((t) => t.id === id)!.logprob, logprob);
        assert.ok(Math.abs(top.reduce((sum, t) => sum + Math.exp(t.logprob), 0) - 1) < 1e-9);
        assert.deepEqual(tokenLogprob(logits, id, 0).top, []);
      }),
    );
  });
});

/** Probability of each id, and the ids at whose edge of the nucleus rounding may decide either way. */
function reference(
  logits: Float32Array,
  { temperature, minP, topP, topK }: DrawOptions,
): { probabilities: Map<number, number>; edge: boolean } {
  const max = logits[argmax(logits)]!;
  const weights = [...logits].map((x) => Math.exp((x - max) / temperature));
  let kept = [...weights.keys()].filter((i) => weights[i]! >= minP).sort((a, b) => weights[b]! - weights[a]! || a - b);
  if (topK > 0) kept = kept.slice(0, topK);
  const total = kept.reduce((sum, i) => sum + weights[i]!, 0);
  const nucleus: number[] = [];
  let mass = 0;
  let edge = minP > 0 && weights.some((weight) => Math.abs(weight - minP) < 1e-6);
  for (const i of kept) {
    if (topP < 1 && Math.abs(mass - topP * total) < 1e-5 * total) edge = true;
    if (nucleus.length > 0 && topP < 1 && mass >= topP * total) break;
    nucleus.push(i);
    mass += weights[i]!;
  }
  return { probabilities: new Map(nucleus.map((i) => [i, weights[i]! / mass])), edge };
}

const options = fc.record({
  temperature: fc.float({ min: Math.fround(0.1), max: 2, noNaN: true }),
  minP: fc.oneof(fc.constant(0), fc.double({ min: 0.001, max: 1, noNaN: true })),
  topP: fc.oneof(fc.constant(1), fc.double({ min: 0.01, max: 1, noNaN: true })),
  topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 70 })),
});

describe('sampling', () => {
  test('temperature 0 takes the largest and draws nothing', () => {
    fc.assert(
      fc.property(fc.oneof(row(), tied), (logits) => {
        const random = new Random(1, 0);
        assert.equal(draw(logits, { temperature: 0, minP: 0.1, topP: 0.5, topK: 3 }, random), argmax(logits));
        assert.equal(random.next(), new Random(1, 0).next());
      }),
    );
  });

  test('only what temperature, min_p, top_k and top_p leave is ever drawn', () => {
    fc.assert(
      fc.property(grid({ min: 1, max: 60 }), options, fc.nat(), (logits, how, seed) => {
        const { probabilities, edge } = reference(logits, how);
        fc.pre(!edge);
        const random = new Random(seed, 0);
        for (let i = 0; i < 20; i++) assert.ok(probabilities.has(draw(logits, how, random)));
      }),
      { numRuns: 300 },
    );
  });

  test('a draw is the first id at which the running sum of probabilities passes u', () => {
    fc.assert(
      fc.property(grid({ min: 2, max: 20 }), options, fc.nat(), (logits, how, seed) => {
        const { probabilities, edge } = reference(logits, how);
        fc.pre(!edge);
        const u = new Random(seed, 3).next();
        const drawn = draw(logits, how, new Random(seed, 3));
        const ids = [...probabilities.keys()];
        // Without top_k and top_p ids stand in their own order, else heaviest first.
        if (how.topK === 0 && how.topP === 1) ids.sort((a, b) => a - b);
        let below = 0;
        for (const id of ids) {
          if (id === drawn) break;
          below += probabilities.get(id)!;
        }
        assert.ok(below - 1e-5 <= u && u <= below + probabilities.get(drawn)! + 1e-5, `u ${u}, drawn at ${below}`);
      }),
      { numRuns: 300 },
    );
  });

  const logits = Float32Array.of(2, 1.5, 1, 0.9, 0.2, 0, -0.5, -1, -2, -30);
  for (const how of [
    { temperature: 1, minP: 0, topP: 1, topK: 0 },
    { temperature: 0.6, minP: 0, topP: 1, topK: 0 },
    { temperature: 1.7, minP: 0, topP: 0.85, topK: 0 },
    { temperature: 1, minP: 0, topP: 1, topK: 4 },
    { temperature: 1, minP: 0.2, topP: 1, topK: 0 },
    { temperature: 0.9, minP: 0.05, topP: 0.7, topK: 6 },
  ]) {
    test(`${JSON.stringify(how)} draws in the right proportions`, () => {
      const draws = 40_000;
      const random = new Random(20_240_601, 0);
      const counts = new Map<number, number>();
      for (let i = 0; i < draws; i++) {
        const id = draw(logits, how, random);
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
      let chiSquare = 0;
      const { probabilities } = reference(logits, how);
      for (const [id, p] of probabilities) if (p * draws > 5) chiSquare += ((counts.get(id) ?? 0) - p * draws) ** 2 / (p * draws);
      // 99.9 % of chi-square with at most 9 degrees of freedom lie below 27.9.
      assert.ok(chiSquare < 27.9, `chi-square ${chiSquare}`);
    });
  }

  test('in a large vocabulary, top_p takes the same nucleus as a full sort', () => {
    const random = new Random(5, 0);
    const large = Float32Array.from({ length: 49_152 }, () => 8 * random.next() ** 4);
    for (const topP of [0.1, 0.5, 0.95, 0.9999]) {
      const { probabilities } = reference(large, { temperature: 1, minP: 0, topP, topK: 0 });
      for (let i = 0; i < 5; i++) assert.ok(probabilities.has(draw(large, { temperature: 1, minP: 0, topP, topK: 0 }, random)));
    }
  });
});

describe('random numbers', () => {
  test('a seed gives the same numbers again, in [0, 1)', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.nat(127), (seed, stream) => {
        const [a, b] = [new Random(seed, stream), new Random(seed, stream)];
        for (let i = 0; i < 50; i++) {
          const x = a.next();
          assert.equal(x, b.next());
          assert.ok(x >= 0 && x < 1);
        }
      }),
    );
  });

  test('they are uniform, and the streams of one seed are uncorrelated', () => {
    const draws = 20_000;
    const streams = [0, 1, 2, 127].map((stream) => {
      const random = new Random(7, stream);
      return Float64Array.from({ length: draws }, () => random.next());
    });
    for (const numbers of streams) {
      const bins = new Float64Array(20);
      for (const x of numbers) bins[Math.floor(x * 20)]! += 1;
      const chiSquare = bins.reduce((sum, n) => sum + (n - draws / 20) ** 2 / (draws / 20), 0);
      // 99.99 % of chi-square with 19 degrees of freedom lie below 50.8.
      assert.ok(chiSquare < 50.8, `chi-square ${chiSquare}`);
    }
    for (const [i, a] of streams.entries()) {
      for (const b of streams.slice(i + 1)) {
        const correlation = a.reduce((sum, x, k) => sum + (x - 0.5) * (b[k]! - 0.5), 0) / (draws / 12);
        assert.ok(Math.abs(correlation) < 0.03, `correlation ${correlation}`);
      }
    }
  });

  test('the reference numbers of PCG32 with seed 42 and stream 54 (pcg32-demo)', () => {
    const random = new Random(42, 54);
    const expected = [0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e];
    assert.deepEqual(
      expected.map(() => random.next() * 2 ** 32),
      expected,
    );
  });
});
