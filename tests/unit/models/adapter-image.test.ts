/** The image of an adapter computes what the sealed adapter does, in the served bases, and damage of any kind shows. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressTable, buildImage, type ImageForm, imageRank, isImage } from '../../../gpu-worker/models/adapter-image.ts';
import { intoBasis, type LinearSpec, ORIGINAL } from '../../../gpu-worker/models/linear.ts';
import { rotation } from '../../../gpu-worker/models/rotation.ts';
import { type SealedTarget, writeSealed } from '../../../shared/adapters/sealed.ts';

const REVISION = 'c'.repeat(64);
const TABLE_AT = 128;
const stream = { gain: Float32Array.from({ length: 48 }, (_, i) => 1 + (i % 5) / 4), rotation: rotation(48) };
const LINEARS: LinearSpec[] = [
  { path: 'a', in: 48, out: 24, bias: false, input: stream, output: ORIGINAL },
  { path: 'b', in: 24, out: 48, bias: false, input: ORIGINAL, output: { gain: null, rotation: rotation(48) } },
  { path: 'c', in: 40, out: 40, bias: false, input: { gain: null, rotation: rotation(8) }, output: ORIGINAL },
];
const FORM: ImageForm = { id: 'form', baseRevision: REVISION, factors: 'f16', linears: LINEARS };

const floats = (length: number, amplitude: number, seed: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => amplitude * Math.sin(seed * 12.9898 + i * 78.233) * ((i % 7) + 1));

function sealed(targets: Record<string, { rank: number; a: number; b: number }>): { digest: string; bytes: Uint8Array } {
  const factors = Object.entries(targets).map(([path, { rank, a, b }]): [string, SealedTarget] => {
    const spec = LINEARS.find((linear) => linear.path === path) ?? LINEARS[0]!;
    return [path, { rank, A: floats(rank * spec.in, a, rank), B: floats(spec.out * rank, b, rank + 1) }];
  });
  const bytes = writeSealed({ baseRevision: REVISION, rank: Math.max(...factors.map(([, { rank }]) => rank)), targets: new Map(factors) });
  return { digest: createHash('sha256').update(bytes).digest('hex'), bytes };
}

/** The pair of a linear as a kernel finds it through the table, null where the adapter has none. */
function pairOf(image: ArrayBuffer, number: number) {
  const address = 4096n;
  const table = new DataView(addressTable(image, address).buffer);
  const entry = number * 32;
  const [at, to] = [0, 8].map((field) => Number(table.getBigUint64(entry + field, true) - address)) as [number, number];
  const [scale, rank, kind] = [table.getFloat32(entry + 16, true), table.getInt32(entry + 20, true), table.getInt32(entry + 24, true)];
  if (kind === 0) return null;
  assert.equal((at | to) % 64, 0, 'vectors begin at multiples of their size');
  const read = (offset: number, length: number) =>
    Float32Array.from(kind === 1 ? new Float32Array(image, offset, length) : new Float16Array(image, offset, length));
  const { in: width, out } = LINEARS[number]!;
  return { kind, rank, scale, A: read(at, rank * width), B: read(to, rank * out) };
}

/** scale · (x · Aᵀ) · B in double precision. */
function product(x: Float32Array, { A, B, rank, scale }: { A: Float32Array; B: Float32Array; rank: number; scale: number }): Float32Array {
  const y = new Float64Array(B.length / rank);
  for (let r = 0; r < rank; r++) {
    let t = 0;
    for (let i = 0; i < x.length; i++) t += x[i]! * A[r * x.length + i]!;
    for (let j = 0; j < y.length; j++) y[j]! += scale * t * B[r * y.length + j]!;
  }
  return Float32Array.from(y);
}

for (const factors of ['f16', 'f32'] as const) {
  test(`each linear adds what the sealed factors add, brought into its bases: ${factors}`, async () => {
    const amplitude = fc.double({ min: -12, max: 12, noNaN: true }).map((exponent) => 10 ** exponent);
    const target = fc.record({ rank: fc.integer({ min: 1, max: 9 }), a: amplitude, b: amplitude });
    await fc.assert(
      fc.asyncProperty(fc.record({ a: target, b: target, c: target }, { requiredKeys: ['b'] }), async (targets) => {
        const { digest, bytes } = sealed(targets);
        const image = await buildImage(digest, bytes, { ...FORM, factors });
        assert.ok(isImage(image, digest, FORM.id));
        assert.equal(imageRank(image), Math.max(...Object.values(targets).map(({ rank }) => rank)));
        for (const [number, spec] of LINEARS.entries()) {
          const own = targets[spec.path as keyof typeof targets];
          const pair = pairOf(image, number);
          assert.equal(pair?.rank, own?.rank);
          if (!own || !pair) continue;
          const A = floats(own.rank * spec.in, own.a, own.rank);
          const rows = floats(spec.out * own.rank, own.b, own.rank + 1);
          const B = Float32Array.from({ length: rows.length }, (_, i) => rows[(i % spec.out) * own.rank + Math.floor(i / spec.out)]!);
          const x = floats(spec.in, 1, 3);
          const expected = product(x, { A, B, rank: own.rank, scale: 1 });
          intoBasis(expected, spec.out, spec.output);
          // x' · (A diag(gain) R)ᵀ = x · Aᵀ for x' = (x / gain) · R.
          const served = x.map((value, i) => value / (spec.input.gain?.[i] ?? 1));
          spec.input.rotation?.apply(served);
          const got = product(served, pair);
          const norm = (values: Float32Array) => Math.hypot(...values);
          const size = norm(A) * norm(B) * norm(x);
          const error = norm(got.map((value, i) => value - expected[i]!));
          assert.ok(error <= size * (factors === 'f16' ? 1e-3 : 1e-6), `off by ${error / size} of ${size}`);
        }
      }),
      { numRuns: 60 },
    );
  });
}

test('half floats use their range whatever the size of the values; beyond what a scale holds they stay float32', async () => {
  for (const [a, b, kind] of [
    [1e-9, 1e9, 2],
    [1e12, 1e-12, 2],
    [1e-25, 1, 1],
    [0, 1, 2],
  ] as const) {
    const { digest, bytes } = sealed({ b: { rank: 4, a, b } });
    const pair = pairOf(await buildImage(digest, bytes, FORM), 1)!;
    assert.equal(pair.kind, kind, `amplitudes ${a} and ${b}`);
    if (kind === 1) continue;
    for (const [factor, amplitude] of [
      [pair.A, a],
      [pair.B, b],
    ] as const) {
      const largest = Math.max(...factor.map(Math.abs));
      assert.ok(amplitude === 0 ? largest === 0 : largest >= 2 ** 9 && largest <= 2 ** 10, `${largest}`);
    }
  }
});

test('any changed byte, any missing or additional one, another adapter, another form: not the image', async () => {
  const { digest, bytes } = sealed({ a: { rank: 2, a: 1, b: 1 }, c: { rank: 3, a: 1, b: 1 } });
  const image = await buildImage(digest, bytes, FORM);
  assert.ok(isImage(image, digest, FORM.id));
  assert.ok(!isImage(image, 'd'.repeat(64), FORM.id));
  assert.ok(!isImage(image, digest, 'other'));
  fc.assert(
    fc.property(fc.nat(image.byteLength - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const damaged = image.slice();
      new Uint8Array(damaged)[at]! ^= change;
      assert.ok(!isImage(damaged, digest, FORM.id), `byte ${at}`);
    }),
    { numRuns: 300 },
  );
  for (const length of [0, 1, TABLE_AT, image.byteLength - 1]) assert.ok(!isImage(image.slice(0, length), digest, FORM.id));
  assert.ok(!isImage(new Uint8Array([...new Uint8Array(image), 0]).buffer, digest, FORM.id));
});

test('the table holds addresses; the image stays as it was', async () => {
  const { digest, bytes } = sealed({ c: { rank: 1, a: 1, b: 1 } });
  const image = await buildImage(digest, bytes, FORM);
  const table = addressTable(image, 1n << 40n);
  assert.equal(table.length, LINEARS.length * 32);
  assert.deepEqual(table.subarray(0, 64), new Uint8Array(64), 'linears without a pair are absent');
  assert.ok(new DataView(table.buffer).getBigUint64(64, true) >= 1n << 40n);
  assert.ok(isImage(image, digest, FORM.id));
});

test('sealed bytes that are not their digest, of another base, or for linears that the base lacks are refused', async () => {
  const { digest, bytes } = sealed({ a: { rank: 1, a: 1, b: 1 } });
  await assert.rejects(buildImage('d'.repeat(64), bytes, FORM), /SHA-256/);
  await assert.rejects(buildImage(digest, bytes, { ...FORM, baseRevision: 'e'.repeat(64) }), /base revision/);
  const strange = sealed({ x: { rank: 1, a: 1, b: 1 } });
  await assert.rejects(buildImage(strange.digest, strange.bytes, FORM), /no linear x/);
});
