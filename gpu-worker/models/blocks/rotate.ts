/** Changes of basis inside a network, where no weight can absorb them or only part of a row is turned. */
import type { Graph, Value } from '../../graph/ir.ts';
import * as ops from '../../graph/ops.ts';
import { type Basis, ORIGINAL } from '../linear.ts';
import { type Rotation, rotation } from '../rotation.ts';

/** Activations are turned while running in blocks small enough to cost next to nothing. */
const MAX_BLOCK = 64;

/** A turn of `width` channels in blocks; the same for every activation of this width. */
export const blockRotation = (width: number): Rotation => rotation(Math.min(MAX_BLOCK, width & -width));

/** The basis of an activation that `rotateBlocks` turns while running. */
export const runningBasis = (width: number, rotated: boolean): Basis =>
  rotated ? { gain: null, rotation: blockRotation(width) } : ORIGINAL;

/** x [..., width] turned block by block: the part of a change of basis that no weight can absorb. */
export function rotateBlocks(g: Graph, x: Value, { rotation: turn }: Basis): Value {
  if (!turn) return x;
  const { width } = turn;
  const matrix = g.weight(`rotation.${width}`, 'f32', [width, width], () => {
    const rows = Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
    turn.apply(rows);
    return rows;
  });
  const outer = x.dims.slice(0, -1);
  const kept = outer.map(() => 0);
  const blocks = Number(x.dims.at(-1)) / width;
  const cut = ops.reshape(g, x, [...kept, blocks, width], [...outer, blocks, width]);
  return ops.reshape(g, ops.matmul(g, cut, matrix, 'rotated'), [...kept, blocks * width], x.dims);
}

/** The turn of a running basis for operators that make an activation and turn it at once: signs of a Walsh–Hadamard matrix. */
export function blockSigns(g: Graph, { rotation: turn }: Basis): Value | null {
  if (!turn) return null;
  const { signs, width } = turn;
  if (!signs) throw new Error(`blocks of ${width} channels: expected a power of two`);
  return g.weight(`signs.${width}`, 'f32', [width], () => signs);
}

/** A basis of rows of `width` channels of which only those from `from` on are turned, by `turn`. */
export function tailBasis(turn: Basis, from: number, width: number): Basis {
  const { rotation: inner } = turn;
  if (!inner) return ORIGINAL;
  return {
    gain: null,
    rotation: {
      width,
      signs: null,
      apply(data) {
        if (data.length % width !== 0) throw new RangeError(`rotation of the tail of ${width}: got ${data.length} elements`);
        for (let at = 0; at < data.length; at += width) inner.apply(data.subarray(at + from, at + width));
      },
    },
  };
}
