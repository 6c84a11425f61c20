/**
 * Half-precision formats to and from float32, bit for bit.
 *
 * Decoding is exact (every F16 and BF16 value is a float32), so it never rounds. Encoding exists
 * only in its exact form: a value that the narrow format cannot hold makes the whole tensor stay
 * wide, because sealing an adapter must not change it. All bytes are little-endian, as in
 * safetensors and GGUF and on every machine that runs this.
 */
export type FloatDtype = 'F32' | 'F16' | 'BF16';

export const BYTES_PER_FLOAT: Record<FloatDtype, number> = { F32: 4, F16: 2, BF16: 2 };

let f16Table: Uint32Array | undefined;

/** float32 bits of all 65,536 half floats: one load per value instead of a branch per value. */
function f16Bits(): Uint32Array {
  if (f16Table) return f16Table;
  const table = new Uint32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 31;
    const mantissa = half & 0x3ff;
    let bits: number;
    if (exponent === 31) {
      bits = 0x7f800000 | (mantissa << 13);
    } else if (exponent > 0) {
      bits = ((exponent + 112) << 23) | (mantissa << 13);
    } else if (mantissa > 0) {
      // Subnormal: shift the leading one into float32's implicit place.
      const shift = Math.clz32(mantissa) - 21;
      bits = ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
    } else {
      bits = 0;
    }
    table[half] = sign | bits;
  }
  f16Table = table;
  return table;
}

/** A view of `bytes` where alignment allows it, else of a copy. */
function halves(bytes: Uint8Array): Uint16Array {
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
}

/** The values as a new array of their own. `bytes` must hold whole values. */
export function decodeFloats(dtype: FloatDtype, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  if (bytes.byteLength % BYTES_PER_FLOAT[dtype] !== 0) throw new RangeError(`${bytes.byteLength} bytes are not whole ${dtype} values`);
  switch (dtype) {
    case 'F32':
      return new Float32Array(bytes.slice().buffer);
    case 'F16': {
      const table = f16Bits();
      const source = halves(bytes);
      const bits = new Uint32Array(source.length);
      for (let i = 0; i < source.length; i++) bits[i] = table[source[i]!]!;
      return new Float32Array(bits.buffer);
    }
    case 'BF16': {
      const source = halves(bytes);
      const bits = new Uint32Array(source.length);
      for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
      return new Float32Array(bits.buffer);
    }
    default:
      return dtype satisfies never;
  }
}

const bitsOf = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length);

/** The values as half floats, or null when any of them is not exactly one. */
export function encodeF16Exact(values: Float32Array): Uint16Array<ArrayBuffer> | null {
  const bits = bitsOf(values);
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    const sign = (word >>> 16) & 0x8000;
    const exponent = (word >>> 23) & 255;
    const mantissa = word & 0x7fffff;
    if (exponent === 255 || (exponent >= 113 && exponent <= 142)) {
      if (mantissa & 0x1fff) return null;
      out[i] = sign | ((exponent === 255 ? 31 : exponent - 112) << 10) | (mantissa >>> 13);
    } else if (exponent >= 103 && exponent < 113) {
      // Below 2^-14 a half float is a multiple of 2^-24.
      const shift = 126 - exponent;
      const whole = mantissa | 0x800000;
      if (whole & ((1 << shift) - 1)) return null;
      out[i] = sign | (whole >>> shift);
    } else if (exponent === 0 && mantissa === 0) {
      out[i] = sign;
    } else {
      return null;
    }
  }
  return out;
}

/** The values as bfloat16, or null when any of them is not exactly one. */
export function encodeBF16Exact(values: Float32Array): Uint16Array<ArrayBuffer> | null {
  const bits = bitsOf(values);
  const out = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    if (word & 0xffff) return null;
    out[i] = word >>> 16;
  }
  return out;
}
