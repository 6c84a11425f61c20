/**
 * 4-bit weights, for single streams: decoding waits for memory, and these are half as many bytes as 8 bits. Each 32
 * inputs of an output have a scale and a least value, as in GGUF's Q4_1, whose files come out of this form as they
 * went in; activations have a scale for each 32 (kernels/block_linear.c). Nothing is rotated, or those levels would be
 * lost. The head keeps 8 bits: its errors are those of the logits.
 *
 *   w = d · u + m,   u = 0…2^bits − 1
 */
import type { Graph, Value } from '../graph/ir.ts';
import { addNormQuantize, BLOCK_INPUTS, blockBytes, blockLinear, type Finish, gatedUnits, LANES } from '../graph/kernels.ts';
import * as ops from '../graph/ops.ts';
import { jointName, jointWeight, jointWidth, type LinearSpec } from './linear.ts';
import type { Precision, WeightSource } from './precision.ts';

const bitsOf = (specs: readonly LinearSpec[]): 4 | 8 => (specs.some(({ head }) => head) ? 8 : 4);

function linear(g: Graph, x: Value, specs: readonly LinearSpec[], weights: WeightSource, finish: Finish): Value {
  const [bits, inputs, outputs] = [bitsOf(specs), specs[0]!.in, jointWidth(specs)];
  const dims = [Math.ceil(outputs / LANES), Math.ceil(inputs / BLOCK_INPUTS), blockBytes(bits)];
  const joint = () => jointWeight(specs, ({ path }) => weights.tensor(`${path}.weight`));
  const weight = g.weight(jointName(specs), 'u8', dims, () => encodeBlocks(joint(), inputs, outputs, bits));
  return blockLinear(g, x, weight, bits, finish);
}

const nothing = (specs: readonly LinearSpec[]): Finish => ({
  linears: specs.map(({ out }) => ({ module: 0, out })),
  adapted: null,
  bias: null,
});

export const int4 = (): Precision => ({
  name: 'int4',
  revision: '1',
  rotated: false,
  storage: 'f16',
  linear,
  product: (g, x, specs, weights) => ({ y: linear(g, x, specs, weights, nothing(specs)), rowScale: null }),
  cut: (g, x, pick, counts, groups) => ops.splitRows(g, pick ? ops.gatherRows(g, x, pick, 'picked') : x, counts, groups),
  norm: (g, stream, delta, gain, epsilon) => addNormQuantize(g, stream, delta, gain, epsilon, false),
  gatedUnits: (g, gateUp, activation, signs) => gatedUnits(g, gateUp, activation, signs, false).units,
});

/** w [inputs, outputs] in the layout of kernels/block_linear.c; outputs and inputs beyond the ends are zero. */
export function encodeBlocks(w: Float32Array, inputs: number, outputs: number, bits: 4 | 8): Uint8Array {
  const blocks = Math.ceil(inputs / BLOCK_INPUTS);
  const stride = blockBytes(bits);
  const encoded = new Uint8Array(Math.ceil(outputs / LANES) * blocks * stride);
  const values = new Float32Array(BLOCK_INPUTS);
  for (let output = 0; output < outputs; output++) {
    const lane = output % LANES;
    for (let block = 0; block < blocks; block++) {
      const first = block * BLOCK_INPUTS;
      for (let i = 0; i < BLOCK_INPUTS; i++) values[i] = first + i < inputs ? w[(first + i) * outputs + output]! : 0;
      const at = (Math.floor(output / LANES) * blocks + block) * stride;
      const { d, m } = rangeOf(values, bits);
      const scales = new Float16Array(encoded.buffer, at + stride - SCALE_BYTES, 2 * LANES);
      scales[lane] = d;
      scales[LANES + lane] = m;
      for (let i = 0; i < BLOCK_INPUTS; i++) {
        const level = d === 0 ? 0 : Math.max(0, Math.min(2 ** bits - 1, Math.round((values[i]! - m) / d)));
        const group = Math.floor(i / 4);
        if (bits === 8) encoded[at + group * 4 * LANES + lane * 4 + (i % 4)] = level;
        else encoded[at + Math.floor(group / 2) * 4 * LANES + lane * 4 + (i % 4)]! |= level << (4 * (group % 2));
      }
    }
  }
  return encoded;
}

/** Bytes of the scales and least values behind a block's levels. */
const SCALE_BYTES = 2 * LANES * Float16Array.BYTES_PER_ELEMENT;

/** Scale and least value as half floats: of 4 bits between the least and the largest weight, of 8 around zero (Q8_0). */
function rangeOf(values: Float32Array, bits: 4 | 8): { d: number; m: number } {
  let [least, largest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of values) {
    if (v < least) least = v;
    if (v > largest) largest = v;
  }
  if (bits === 8) {
    const d = Math.f16round(Math.max(largest, -least) / 127);
    return { d, m: -128 * d };
  }
  const m = Math.f16round(least);
  return { d: Math.f16round((largest - m) / 15), m };
}
