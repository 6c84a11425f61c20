/** The sealed form: canonical, exact, and refused when anything about it is off. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readSafetensors, type Tensor, writeSafetensors } from '../../../shared/adapters/safetensors.ts';
import { readSealed, type SealedTarget, writeSealed } from '../../../shared/adapters/sealed.ts';
import { findingsOf } from '../../contract/adapters/support.ts';

const float = fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }), fc.constantFrom(0, -0, 1, -1.5, 2 ** -24, 65504));
const target: fc.Arbitrary<SealedTarget> = fc
  .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 }))
  .chain(([rank, width, height]) =>
    fc.record(
      {
        A: fc.array(float, { minLength: rank * width, maxLength: rank * width }).map((values) => Float32Array.from(values)),
        B: fc.array(float, { minLength: rank * height, maxLength: rank * height }).map((values) => Float32Array.from(values)),
        rank: fc.constant(rank),
      },
      { noNullPrototype: true },
    ),
  );

test('sealing and opening give the same bits', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(fc.constantFrom('m.a', 'm.b', 'A', 'x.B'), target), { minLength: 1, selector: ([name]) => name }),
      (targets) => {
        const adapter = { baseRevision: 'rev', rank: Math.max(...targets.map(([, { rank }]) => rank)), targets: new Map(targets) };
        const opened = readSealed(writeSealed(adapter));
        assert.deepEqual(
          { ...opened, targets: new Map([...opened.targets].sort()) },
          { ...adapter, targets: new Map([...adapter.targets].sort()) },
        );
      },
    ),
  );
});

test('each tensor takes the narrowest format that is exact', () => {
  const dtypeOf = (values: number[]) => {
    const factor = Float32Array.from(values);
    const bytes = writeSealed({ baseRevision: 'rev', rank: 1, targets: new Map([['m', { A: factor, B: factor, rank: 1 }]]) });
    return readSafetensors(bytes, 'x').tensors.get('m.A')?.dtype;
  };
  assert.equal(dtypeOf([1, 0.5, -65504]), 'F16');
  assert.equal(dtypeOf([1, 2 ** 100]), 'BF16');
  assert.equal(dtypeOf([1, 0.1]), 'F32');
  assert.equal(dtypeOf([1 + 2 ** -10, 2 ** 100]), 'F32');
});

test('anything but a complete sealed adapter is refused', () => {
  const pair = (): Map<string, Tensor> =>
    new Map<string, Tensor>([
      ['m.A', { dtype: 'F16', shape: [2, 3], data: new Uint8Array(12) }],
      ['m.B', { dtype: 'F16', shape: [4, 2], data: new Uint8Array(16) }],
    ]);
  const tags = { format: 'switchyard-sealed-1', base_revision: 'rev' };
  const codeOf = (tensors: Map<string, Tensor>, metadata: Record<string, string> = tags) =>
    findingsOf(() => readSealed(writeSafetensors(tensors, new Map(Object.entries(metadata)))))?.[0]?.code;
  const changed = (name: string, tensor?: Tensor) => {
    const out = pair();
    if (tensor) out.set(name, tensor);
    else out.delete(name);
    return out;
  };
  assert.equal(codeOf(pair()), undefined);
  assert.equal(codeOf(pair(), { ...tags, format: 'switchyard-sealed-2' }), 'container');
  assert.equal(codeOf(pair(), { format: tags.format }), 'container');
  assert.equal(codeOf(changed('m.B')), 'tensors');
  assert.equal(codeOf(changed('m.A')), 'tensors');
  assert.equal(codeOf(changed('m.C', { dtype: 'F16', shape: [1], data: new Uint8Array(2) })), 'tensors');
  assert.equal(codeOf(changed('m.B', { dtype: 'F16', shape: [4, 1], data: new Uint8Array(8) })), 'shapes');
  assert.equal(codeOf(changed('m.A', { dtype: 'F16', shape: [6], data: new Uint8Array(12) })), 'shapes');
  assert.equal(codeOf(changed('m.A', { dtype: 'I16', shape: [2, 3], data: new Uint8Array(12) })), 'tensors');
});
