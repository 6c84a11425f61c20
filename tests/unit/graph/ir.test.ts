/** Names are paths and unique; equal constants and weights of one name are one value. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Graph } from '../../../gpu-worker/graph/ir.ts';
import * as ops from '../../../gpu-worker/graph/ops.ts';

test('values are named by the path they are made under, a second one apart', () => {
  const g = new Graph();
  const x = g.input('x', 'f32', ['batch', 8]);
  const [first, second] = g.within('layers.0', () => g.within('attn', () => [ops.tanh(g, x), ops.tanh(g, x)]));
  const outside = ops.tanh(g, x);
  assert.deepEqual([first!.name, second!.name, outside.name], ['layers.0.attn.tanh', 'layers.0.attn.tanh~1', 'tanh']);
});

test('the path is left when building fails', () => {
  const g = new Graph();
  assert.throws(() =>
    g.within('broken', () => {
      throw new Error('no such layer');
    }),
  );
  assert.equal(g.path('x'), 'x');
});

test('equal constants are shared, those of another type or value are not', () => {
  const g = new Graph();
  assert.equal(g.scalar('f32', 1), g.scalar('f32', 1));
  assert.notEqual(g.scalar('f32', 1), g.scalar('u8', 1));
  assert.notEqual(g.scalar('f32', 1), g.scalar('f32', 2));
  assert.equal(g.ints([0, 1]), g.ints([0, 1]));
  assert.notEqual(g.ints([0, 1]), g.ints([1, 0]));
  assert.equal(g.constants.length, 5);
});

test('a weight asked for twice is one weight, and its data are not made before they are needed', () => {
  const g = new Graph();
  const never = () => {
    throw new Error('made too early');
  };
  assert.equal(g.weight('w', 'f32', [2], never), g.weight('w', 'f32', [2], never));
  assert.equal(g.weights.size, 1);
});
