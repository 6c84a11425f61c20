/** What the writer writes reads back, and has the very bytes of the specification's examples. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ProtobufWriter } from '../../../gpu-worker/graph/protobuf.ts';
import { Message, readFields } from './protobuf-reader.ts';

test('the examples of the encoding specification', () => {
  assert.deepEqual([...new ProtobufWriter().int(1, 150).finish()], [0x08, 0x96, 0x01]);
  assert.deepEqual([...new ProtobufWriter().string(2, 'testing').finish()], [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
  assert.deepEqual([...new ProtobufWriter().message(3, new ProtobufWriter().int(1, 150)).finish()], [0x1a, 0x03, 0x08, 0x96, 0x01]);
  assert.deepEqual([...new ProtobufWriter().int(1, -2).finish()], [0x08, 0xfe, ...Array<number>(8).fill(0xff), 0x01]);
  assert.deepEqual([...new ProtobufWriter().float(4, 1).finish()], [0x25, 0, 0, 0x80, 0x3f]);
});

test('any sequence of fields reads back in order', () => {
  const number = fc.integer({ min: 1, max: 100_000 });
  const field = fc.oneof(
    fc.record({ kind: fc.constant('int' as const), field: number, value: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) }),
    fc.record({ kind: fc.constant('bytes' as const), field: number, value: fc.uint8Array({ maxLength: 300 }) }),
    fc.record({ kind: fc.constant('string' as const), field: number, value: fc.string({ unit: 'binary', maxLength: 40 }) }),
    fc.record({ kind: fc.constant('float' as const), field: number, value: fc.float({ noNaN: true }) }),
  );
  fc.assert(
    fc.property(fc.array(field, { maxLength: 12 }), (written) => {
      const writer = new ProtobufWriter();
      for (const f of written) {
        switch (f.kind) {
          case 'int':
            writer.int(f.field, f.value);
            break;
          case 'bytes':
            writer.bytes(f.field, f.value);
            break;
          case 'string':
            writer.string(f.field, f.value);
            break;
          case 'float':
            writer.float(f.field, f.value);
            break;
          default:
            f satisfies never;
        }
      }
      const outer = new Message(new ProtobufWriter().message(7, writer).finish());
      const read = readFields(outer.bytes(7));
      assert.deepEqual(
        read.map((f) => f.field),
        written.map((f) => f.field),
      );
      for (const [i, f] of written.entries()) {
        const { value } = read[i]!;
        if (f.kind === 'int') assert.equal(BigInt.asIntN(64, value as bigint), f.value);
        else if (f.kind === 'bytes') assert.deepEqual([...(value as Uint8Array)], [...f.value]);
        else if (f.kind === 'string') assert.equal(Buffer.from(value as Uint8Array).toString('utf8'), f.value);
        else assert.equal(Buffer.from(value as Uint8Array).readFloatLE(0), f.value);
      }
    }),
  );
});
