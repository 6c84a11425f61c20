/**
 * GGML's block formats decoded to float32, each as its reference defines it
 * (ggml-quants.c, dequantize_row_*). Every product of scale and level is exact in float32 or
 * rounded once, so results equal the reference bit for bit.
 */
import { decodeFloats } from '../../../shared/adapters/floats.ts';

export interface BlockFormat {
  name: string;
  /** Elements and bytes of one block. */
  elements: number;
  bytes: number;
  decode(blocks: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer>;
}

let halfTable: Float32Array | undefined;

/** All half floats, for the scales: a block has one or two. */
function halves(): Float32Array {
  halfTable ??= decodeFloats('F16', new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
  return halfTable;
}

type BlockDecoder = (b: Uint8Array, at: number, out: Float32Array, to: number, half: (at: number) => number) => void;

function blocks(name: string, elements: number, bytes: number, decodeBlock: BlockDecoder): BlockFormat {
  return {
    name,
    elements,
    bytes,
    decode(data) {
      const table = halves();
      const half = (at: number): number => table[data[at]! | (data[at + 1]! << 8)]!;
      const count = data.length / bytes;
      const out = new Float32Array(count * elements);
      for (let i = 0; i < count; i++) decodeBlock(data, i * bytes, out, i * elements, half);
      return out;
    },
  };
}

/** Levels 0…15 about 8: low nibbles are the first half of the block, high nibbles the second. */
const q4_0: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at);
  for (let j = 0; j < 16; j++) {
    const packed = b[at + 2 + j]!;
    out[to + j] = d * ((packed & 15) - 8);
    out[to + 16 + j] = d * ((packed >> 4) - 8);
  }
};

/** As Q4_0 with a minimum m instead of the fixed centre. */
const q4_1: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at);
  const m = half(at + 2);
  for (let j = 0; j < 16; j++) {
    const packed = b[at + 4 + j]!;
    out[to + j] = d * (packed & 15) + m;
    out[to + 16 + j] = d * (packed >> 4) + m;
  }
};

const word = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24);

/** Q4_0 with a fifth bit per level in one 32-bit word. */
const q5_0: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at);
  const high = word(b, at + 2);
  for (let j = 0; j < 16; j++) {
    const packed = b[at + 6 + j]!;
    out[to + j] = d * (((packed & 15) | (((high >>> j) & 1) << 4)) - 16);
    out[to + 16 + j] = d * (((packed >> 4) | (((high >>> (j + 16)) & 1) << 4)) - 16);
  }
};

const q5_1: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at);
  const m = half(at + 2);
  const high = word(b, at + 4);
  for (let j = 0; j < 16; j++) {
    const packed = b[at + 8 + j]!;
    out[to + j] = d * ((packed & 15) | (((high >>> j) & 1) << 4)) + m;
    out[to + 16 + j] = d * ((packed >> 4) | (((high >>> (j + 16)) & 1) << 4)) + m;
  }
};

const q8_0: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at);
  for (let j = 0; j < 32; j++) out[to + j] = d * ((b[at + 2 + j]! << 24) >> 24);
};

/** 8 sub-blocks of 32 with 6-bit scales and minima packed in 12 bytes; nibbles of 32 bytes serve two sub-blocks. */
const q4_K: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at);
  const dmin = half(at + 2);
  const packed = at + 4;
  for (let s = 0; s < 8; s++) {
    const low = s < 4;
    const scale = low ? b[packed + s]! & 63 : (b[packed + s + 4]! & 15) | ((b[packed + s - 4]! >> 6) << 4);
    const min = low ? b[packed + s + 4]! & 63 : (b[packed + s + 4]! >> 4) | ((b[packed + s]! >> 6) << 4);
    const from = at + 16 + (s >> 1) * 32;
    const shift = (s & 1) * 4;
    for (let j = 0; j < 32; j++) out[to + s * 32 + j] = d * scale * ((b[from + j]! >> shift) & 15) - dmin * min;
  }
};

/** 16 sub-blocks of 16 with signed 8-bit scales; levels are a nibble and two more bits about 32. */
const q6_K: BlockDecoder = (b, at, out, to, half) => {
  const d = half(at + 208);
  for (let i = 0; i < 256; i++) {
    const part = i >> 7;
    const lane = i & 127;
    const nibble = (b[at + part * 64 + (lane & 63)]! >> (lane >= 64 ? 4 : 0)) & 15;
    const top = (b[at + 128 + part * 32 + (lane & 31)]! >> ((lane >> 5) * 2)) & 3;
    const scale = (b[at + 192 + (i >> 4)]! << 24) >> 24;
    out[to + i] = d * scale * ((nibble | (top << 4)) - 32);
  }
};

/** By GGML's type number. */
export const BLOCK_FORMATS: ReadonlyMap<number, BlockFormat> = new Map([
  [0, { name: 'F32', elements: 1, bytes: 4, decode: (data) => decodeFloats('F32', data) }],
  [1, { name: 'F16', elements: 1, bytes: 2, decode: (data) => decodeFloats('F16', data) }],
  [2, blocks('Q4_0', 32, 18, q4_0)],
  [3, blocks('Q4_1', 32, 20, q4_1)],
  [6, blocks('Q5_0', 32, 22, q5_0)],
  [7, blocks('Q5_1', 32, 24, q5_1)],
  [8, blocks('Q8_0', 32, 34, q8_0)],
  [12, blocks('Q4_K', 256, 144, q4_K)],
  [14, blocks('Q6_K', 256, 210, q6_K)],
  [30, { name: 'BF16', elements: 1, bytes: 2, decode: (data) => decodeFloats('BF16', data) }],
] satisfies [number, BlockFormat][]);
