/** Ownership and errors at the border to ONNX Runtime: nothing leaks, and every error says what was done to what. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as ops from '../../../gpu-worker/graph/ops.ts';
import { RuntimeFailure } from '../../../gpu-worker/runtime/library.ts';
import { Binding, Session } from '../../../gpu-worker/runtime/session.ts';
import { Tensor } from '../../../gpu-worker/runtime/tensor.ts';
import { temporaryFolder } from '../../unit/source/fixtures.ts';
import { f32, runModel, writeModel } from './support.ts';

/** y [batch, 256] = x [batch, 256] · W, with 256 KB of weights: a leaked session would show. */
const model = () =>
  writeModel((g) => {
    const x = g.input('x', 'f32', ['batch', 256]);
    const w = g.weight('w', 'f32', [256, 256], () => Float32Array.from({ length: 65536 }, (_, i) => (i % 257 === 0 ? 2 : 0)));
    g.node('Identity', [ops.matmul(g, x, w)], [g.output({ name: 'y', dtype: 'f32', dims: ['batch', 256] })]);
  });

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const megabytes = (): number => {
  collectGarbage();
  return process.memoryUsage.rss() / 2 ** 20;
};

describe('leaks', () => {
  const CYCLES = 1000;
  /** A leaked session costs more than 256 KB, so a thousand would cost a quarter of a gigabyte; the allocator itself takes 30 MB at times. */
  const SESSION_BOUND_MB = 100;

  test(`${CYCLES} sessions, each with a run, leave memory as it was`, (t) => {
    using file = model();
    const cycle = () => {
      using session = new Session(file.path, { threads: 1 });
      const binding = new Binding(session, file.inputs, file.outputs);
      using x = new Tensor('x', 'f32', [1, 256], new Float32Array(256).fill(1));
      using y = new Tensor('y', 'f32', [1, 256], new Float32Array(256));
      binding.input('x', x);
      binding.output('y', y);
      binding.run();
      assert.equal(y.data[7], 2);
    };
    const open = Session.open;
    for (let i = 0; i < 200; i++) cycle();
    const before = megabytes();
    for (let i = 0; i < CYCLES; i++) cycle();
    const grown = megabytes() - before;
    t.diagnostic(`grown by ${grown.toFixed(1)} MB`);
    assert.ok(grown < SESSION_BOUND_MB, `grown by ${grown} MB`);
    assert.equal(Session.open, open);
  });

  test('sessions that fail to open leave memory as it was', async (t) => {
    const path = join(await temporaryFolder(t), 'broken.onnx');
    writeFileSync(path, Buffer.alloc(100_000, 7));
    const attempt = () => assert.throws(() => new Session(path, { threads: 1 }));
    for (let i = 0; i < 200; i++) attempt();
    const before = megabytes();
    for (let i = 0; i < CYCLES; i++) attempt();
    const grown = megabytes() - before;
    t.diagnostic(`grown by ${grown.toFixed(1)} MB`);
    assert.ok(grown < SESSION_BOUND_MB, `grown by ${grown} MB`);
  });

  test('a hundred thousand tensors leave memory as it was', (t) => {
    const data = new Float32Array(1024);
    const cycle = () => new Tensor('x', 'f32', [4, 256], data)[Symbol.dispose]();
    for (let i = 0; i < 20_000; i++) cycle();
    const before = megabytes();
    for (let i = 0; i < 100_000; i++) cycle();
    const grown = megabytes() - before;
    t.diagnostic(`grown by ${grown.toFixed(1)} MB`);
    // A native tensor is some 200 bytes: all leaked would be 20 MB and more.
    assert.ok(grown < 12, `grown by ${grown} MB`);
  });
});

describe('use after release', () => {
  test('of a tensor', () => {
    const tensor = new Tensor('x', 'f32', [2], new Float32Array(2));
    tensor[Symbol.dispose]();
    tensor[Symbol.dispose]();
    assert.throws(() => tensor.address, /tensor x was used after it was released/);
  });

  test('of a session, and of a tensor that is still bound', () => {
    using file = model();
    const session = new Session(file.path, { threads: 1 });
    const binding = new Binding(session, file.inputs, file.outputs);
    const x = new Tensor('x', 'f32', [1, 256], new Float32Array(256));
    using y = new Tensor('y', 'f32', [1, 256], new Float32Array(256));
    binding.input('x', x);
    binding.output('y', y);
    x[Symbol.dispose]();
    assert.throws(() => binding.run(), /tensor x was used after it was released/);
    using again = new Tensor('x', 'f32', [1, 256], new Float32Array(256));
    binding.input('x', again);
    binding.run();
    session[Symbol.dispose]();
    session[Symbol.dispose]();
    assert.throws(
      () => binding.run(),
      (error: Error) => error.message === `session ${file.path} was used after it was released`,
    );
  });
});

describe('errors', () => {
  const failure = (operation: string, subject: string, reason: RegExp) => (error: unknown) => {
    assert.ok(error instanceof RuntimeFailure, String(error));
    assert.deepEqual([error.operation, error.subject], [operation, subject]);
    assert.match(error.reason, reason);
    for (const part of [operation, subject, error.reason]) assert.ok(error.message.includes(part));
    return true;
  };

  test('a file that is no model', async (t) => {
    const path = join(await temporaryFolder(t), 'broken.onnx');
    writeFileSync(path, 'not a model');
    assert.throws(() => new Session(path, { threads: 1 }), failure('CreateSession', path, /Protobuf parsing failed/));
  });

  test('a file that is not there', () => {
    assert.throws(
      () => new Session('/nowhere/model.onnx', { threads: 1 }),
      failure('CreateSession', '/nowhere/model.onnx', /doesn't exist/),
    );
  });

  test('an operator that there is not', () => {
    using file = writeModel((g) => {
      const x = g.input('x', 'f32', [1]);
      g.node('Levitate', [x], [g.output({ name: 'y', dtype: 'f32', dims: [1] })]);
    });
    assert.throws(() => new Session(file.path, { threads: 1 }), failure('CreateSession', file.path, /Levitate/));
  });

  test('an input of the wrong shape is named, with what was expected and what came', () => {
    using file = model();
    using session = new Session(file.path, { threads: 1 });
    const binding = new Binding(session, file.inputs, file.outputs);
    using x = new Tensor('x', 'f32', [1, 255], new Float32Array(255));
    using y = new Tensor('y', 'f32', [1, 256], new Float32Array(256));
    binding.input('x', x);
    binding.output('y', y);
    assert.throws(() => binding.run(), failure('Run', file.path, /\bx\b[\s\S]*Got: 255 Expected: 256/));
  });

  test('an input of the wrong type is named', () => {
    using file = model();
    using session = new Session(file.path, { threads: 1 });
    const binding = new Binding(session, file.inputs, file.outputs);
    using x = new Tensor('x', 'i32', [1, 256], new Int32Array(256));
    using y = new Tensor('y', 'f32', [1, 256], new Float32Array(256));
    binding.input('x', x);
    binding.output('y', y);
    assert.throws(() => binding.run(), failure('Run', file.path, /tensor\(int32\).*tensor\(float\)/));
  });

  test('inputs and outputs that are not bound, or that there are not, are named', () => {
    using file = model();
    using session = new Session(file.path, { threads: 1 });
    const binding = new Binding(session, file.inputs, file.outputs);
    using x = new Tensor('x', 'f32', [1, 256], new Float32Array(256));
    assert.throws(() => binding.run(), /input x is not bound/);
    binding.input('x', x);
    assert.throws(() => binding.run(), /output y is not bound/);
    assert.throws(() => binding.input('z', x), /no input named z; there are 1: x/);
    assert.throws(() => binding.output('x', x), /no output named x; there are 1: y/);
  });

  test('memory that does not fit the shape is refused before it can be overrun', () => {
    assert.throws(() => new Tensor('x', 'f32', [2, 3], new Float32Array(5)), /tensor x f32\[2, 3\]: expected 24 bytes, got 20/);
  });
});

test('a tensor views any slice of memory, in place', () => {
  using file = model();
  using session = new Session(file.path, { threads: 1 });
  const binding = new Binding(session, file.inputs, file.outputs);
  const memory = Float32Array.from({ length: 4 * 256 }, (_, i) => i);
  using x = new Tensor('x', 'f32', [1, 256], memory.subarray(256, 512));
  using y = new Tensor('y', 'f32', [1, 256], memory.subarray(768));
  binding.input('x', x);
  binding.output('y', y);
  binding.run();
  assert.deepEqual(
    [...memory.subarray(768)],
    Array.from({ length: 256 }, (_, i) => 2 * (256 + i)),
  );
  assert.deepEqual(
    [...memory.subarray(0, 768)],
    Array.from({ length: 768 }, (_, i) => i),
  );
  memory[256] = -5;
  binding.run();
  assert.equal(memory[768], -10);
});

test('weights are read from beside the model, each at its place', () => {
  const { y } = runModel(
    (g) => {
      const x = g.input('x', 'f32', [2]);
      const a = g.weight('a', 'f32', [2], () => Float32Array.of(10, 20));
      const b = g.weight('b', 'f32', [2], () => Float32Array.of(300, 400));
      g.node('Identity', [ops.add(g, ops.add(g, x, a), b)], [g.output({ name: 'y', dtype: 'f32', dims: [2] })]);
    },
    { x: f32([2], [1, 2]) },
    { y: { dtype: 'f32', dims: [2] } },
  );
  assert.deepEqual([...y], [311, 422]);
});
