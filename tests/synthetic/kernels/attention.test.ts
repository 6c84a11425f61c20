/** Paged attention against its formula, the same bits however a sequence is cut and whoever runs beside it, and refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RuntimeFailure } from '../../../gpu-worker/runtime/library.ts';
import { Attention, PAGE, type Row, randomFrom, reference, type Shape, widthOf } from './attention-support.ts';

const POOL_PAGES = 48;
const POSITIONS = 700;

const shapes: fc.Arbitrary<Shape> = fc
  .record({
    kvHeads: fc.constantFrom(1, 2, 3),
    group: fc.constantFrom(1, 2, 3, 7, 16),
    headDim: fc.constantFrom(8, 16, 24, 40, 64, 128),
    // null: every position sees the whole row.
    window: fc.constantFrom(null, 0, 0, 1, 6, 33, 300),
    softcap: fc.constantFrom(0, 0, 4),
    turned: fc.constantFrom(0, 0.5, 1),
    norms: fc.boolean(),
    pool: fc.constantFrom('f16', 'f32'),
  })
  .map(({ group, turned, window, ...shape }) => ({
    ...shape,
    heads: shape.kvHeads * group,
    causal: window !== null,
    window: window ?? 0,
    rotary: Math.floor((shape.headDim * turned) / 2) * 2,
  }));

const noise = (random: () => number, length: number): Float32Array => Float32Array.from({ length }, () => 4 * random() - 2);

/** Hands out pages in a random order, each once. */
function pagesOf(random: () => number): (positions: number) => number[] {
  const free = Array.from({ length: POOL_PAGES }, (_, i) => i).sort(() => random() - 0.5);
  return (positions) => free.splice(0, Math.ceil(positions / PAGE));
}

const open = (shape: Shape, threads = 1): Attention => new Attention(shape, { poolPages: POOL_PAGES, positions: POSITIONS, threads });

/** The whole sequence in one run, alone. */
function whole(shape: Shape, qkv: Float32Array): Float32Array {
  using attention = open(shape);
  const tokens = qkv.length / widthOf(shape);
  return attention.run([{ qkv, past: 0, pages: Array.from({ length: Math.ceil(tokens / PAGE) }, (_, i) => i) }])[0]!;
}

test('values are those of the formula in 64-bit arithmetic', () => {
  fc.assert(
    fc.property(shapes, fc.integer({ min: 1, max: 300 }), fc.integer(), (shape, tokens, seed) => {
      const qkv = noise(randomFrom(seed), tokens * widthOf(shape));
      const got = whole(shape, qkv);
      const expected = reference(shape, qkv);
      // A key on the edge between two half floats may round to the other one.
      const tolerance = shape.pool === 'f16' ? 5e-3 : 2e-5;
      for (const [i, x] of expected.entries()) assert.ok(Math.abs(got[i]! - x) <= tolerance, `[${i}] ${got[i]}, not ${x}`);
    }),
    { numRuns: 40 },
  );
});

test('every cut of sequences into runs, in any company, on any threads, gives the same bits', () => {
  fc.assert(
    fc.property(
      shapes,
      fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 3 }),
      fc.integer(),
      (shape, lengths, seed) => {
        const random = randomFrom(seed);
        const width = widthOf(shape);
        const take = pagesOf(random);
        const sequences = lengths.map((tokens) => ({ qkv: noise(random, tokens * width), tokens, pages: take(tokens), done: 0 }));
        const results = sequences.map(({ tokens }) => new Float32Array(tokens * shape.heads * shape.headDim));
        using attention = open(shape, 2);
        for (;;) {
          const rows: (Row & { of: number; tokens: number })[] = [];
          sequences.forEach((s, of) => {
            if (s.done === s.tokens || random() < 0.3) return;
            const most = random() < 0.5 ? 1 + Math.floor(random() * 4) : 1 + Math.floor(random() * s.tokens);
            const tokens = shape.causal ? Math.min(most, s.tokens - s.done) : s.tokens;
            rows.push({ of, tokens, qkv: s.qkv.subarray(s.done * width, (s.done + tokens) * width), past: s.done, pages: s.pages });
          });
          if (sequences.every((s) => s.done === s.tokens)) break;
          if (rows.length === 0) continue;
          rows.sort(() => random() - 0.5);
          attention.run(rows).forEach((out, r) => {
            const { of, tokens, past } = rows[r]!;
            results[of]!.set(out, past * shape.heads * shape.headDim);
            sequences[of]!.done += tokens;
          });
        }
        for (const [i, { qkv }] of sequences.entries())
          assert.deepEqual(bits(results[i]!), bits(whole(shape, qkv)), `sequence ${i} of ${lengths}`);
      },
    ),
    { numRuns: 25 },
  );
});

const bits = (x: Float32Array): Uint32Array => new Uint32Array(x.buffer.slice(x.byteOffset, x.byteOffset + x.byteLength));

const PLAIN: Shape = { heads: 4, kvHeads: 2, headDim: 16, causal: true, window: 0, softcap: 0, rotary: 16, norms: false, pool: 'f16' };

test('rows that share the pages of a common beginning get what they would get with pages of their own', () => {
  const random = randomFrom(3);
  const width = widthOf(PLAIN);
  const beginning = noise(random, 2 * PAGE * width);
  const endings = [noise(random, 5 * width), noise(random, 40 * width)];
  using attention = open(PLAIN);
  attention.run([{ qkv: beginning, past: 0, pages: [7, 3] }]);
  const got = attention.run(endings.map((qkv, i) => ({ qkv, past: 2 * PAGE, pages: [7, 3, 10 + 2 * i, 11 + 2 * i] })));
  endings.forEach((qkv, i) => {
    const sequence = new Float32Array(beginning.length + qkv.length);
    sequence.set(beginning);
    sequence.set(qkv, beginning.length);
    assert.deepEqual(bits(got[i]!), bits(whole(PLAIN, sequence)).slice(2 * PAGE * PLAIN.heads * PLAIN.headDim));
  });
});

test('half a pool keeps values that are too large for it finite', () => {
  const qkv = new Float32Array(3 * widthOf(PLAIN)).fill(1e6);
  assert.ok(whole(PLAIN, qkv).every((x) => x === 65504));
});

/** Runs two rows, of 3 tokens after 30 and of 1 after 0, in one page and two. */
function spoilt(spoil: Parameters<Attention['run']>[1]): void {
  using attention = open(PLAIN);
  const width = widthOf(attention.shape);
  attention.run([{ qkv: new Float32Array(30 * width), past: 0, pages: [1] }]);
  const rows = [
    { qkv: new Float32Array(3 * width), past: 30, pages: [1, 2] },
    { qkv: new Float32Array(width), past: 0, pages: [4] },
  ];
  attention.run(rows, spoil);
}

const refused: Record<string, [Parameters<Attention['run']>[1], RegExp]> = {
  'a page beyond the pool': [{ pages: (pages) => pages.set([POOL_PAGES], 1) }, /row 0: page 48 at position 32, the pool has 48/],
  'a negative page': [{ pages: (pages) => pages.set([-1], 2) }, /row 1: page -1/],
  'more positions than pages': [{ rows: (rows) => rows.set([62], 2) }, /row 0: 65 positions, pages for 64/],
  'a negative past': [{ rows: (rows) => rows.set([-1], 5) }, /row 1 \(first 3, tokens 1, past -1\)/],
  'a past that overflows': [{ rows: (rows) => rows.set([2 ** 31 - 1], 2) }, /row 0 /],
  'a row without tokens': [{ rows: (rows) => rows.set([0], 4) }, /row 1 \(first 3, tokens 0/],
  'a row that begins inside another': [{ rows: (rows) => rows.set([2], 3) }, /row 1 \(first 2.*expected first 3/],
  'rows that leave tokens over': [{ rows: (rows) => rows.set([2, 30, 2], 1) }, /rows cover 3 of 4 tokens/],
  'rows beyond the tokens': [{ rows: (rows) => rows.set([9], 4) }, /rows cover 12 of 4 tokens/],
};

for (const [what, [spoil, message]] of Object.entries(refused)) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => spoilt(spoil),
      (e: unknown) => e instanceof RuntimeFailure && message.test(e.message),
    );
  });
}

test('refused: a position that cos and sin do not reach', () => {
  using attention = new Attention(PLAIN, { poolPages: 4, positions: 2 });
  const row = { qkv: new Float32Array(3 * widthOf(PLAIN)), past: 0, pages: [0] };
  assert.throws(() => attention.run([row]), /cos must be \[≥ 3 positions, 8\]/);
});

test('refused: more heads for one kv head than an item of work holds', () => {
  using attention = open({ ...PLAIN, heads: 65, kvHeads: 1 });
  const row = { qkv: new Float32Array(widthOf(attention.shape)), past: 0, pages: [0] };
  assert.throws(() => attention.run([row]), /65 heads of 16 for one kv head/);
});

test('refused when the session is made: heads that kv heads do not divide', () => {
  assert.throws(() => open({ ...PLAIN, heads: 5 }), /5 heads over 2 kv heads/);
});

test('refused when the session is made: a window where every position sees all others', () => {
  assert.throws(() => open({ ...PLAIN, causal: false, window: 6 }), /a window needs causal attention/);
});

test('pages before a window need not exist', () => {
  const shape = { ...PLAIN, window: 6 };
  const qkv = noise(randomFrom(9), 100 * widthOf(shape));
  using attention = open(shape);
  attention.run([{ qkv: qkv.subarray(0, 90 * widthOf(shape)), past: 0, pages: [5, 6, 7] }]);
  const [got] = attention.run([{ qkv: qkv.subarray(90 * widthOf(shape)), past: 90, pages: [-1, -1, 7, 8] }]);
  assert.deepEqual(bits(got!), bits(whole(shape, qkv)).slice(90 * shape.heads * shape.headDim));
});
