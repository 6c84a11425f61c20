/**
 * An orthonormal change of basis that spreads outliers over all channels, cheap to apply and needing no storage:
 *
 *   x ↦ (x ∘ signs) · (C_m ⊗ H_n),   width = m·n, n the largest power of two in it
 *
 * H_n is the normalised Walsh–Hadamard matrix, C_m the orthonormal DCT-II. Folding it into the weights on both
 * sides of an activation leaves the network's function as it is and makes the activation nearly Gaussian, which
 * is what 8-bit rows want (QuaRot, arXiv:2404.00456).
 */
export interface Rotation {
  readonly width: number;
  /** Of a width that is a power of two: the rotation is x ∘ signs times the Walsh–Hadamard matrix of ±1. */
  readonly signs: Float32Array | null;
  /** Rotates every row of `data` [rows, width] in place. */
  apply(data: Float32Array): void;
}

/** ±1 for every channel from a fixed xorshift stream, so that all processes agree. */
function signsOf(width: number): Float32Array {
  let state = 0x9e3779b9;
  return Float32Array.from({ length: width }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 1 ? 1 : -1;
  });
}

/** The orthonormal DCT-II of size m, divided by √n for the butterflies that come before it. */
function mixing(m: number, n: number): Float64Array {
  const c = new Float64Array(m * m);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < m; j++) c[i * m + j] = Math.sqrt((j === 0 ? 1 : 2) / (m * n)) * Math.cos((Math.PI * (2 * i + 1) * j) / (2 * m));
  return c;
}

export function rotation(width: number): Rotation {
  const n = width & -width;
  const m = width / n;
  const signs = signsOf(width);
  const mix = mixing(m, n);
  const row = new Float64Array(width);

  /** Walsh–Hadamard butterflies within each block of n: two levels in one pass, the last alone if their number is odd. */
  function butterflies(): void {
    let half = 1;
    for (; half * 4 <= n; half *= 4) {
      for (let block = 0; block < width; block += 4 * half) {
        for (let i = block; i < block + half; i++) {
          const a = row[i]! + row[i + half]!;
          const b = row[i]! - row[i + half]!;
          const c = row[i + 2 * half]! + row[i + 3 * half]!;
          const d = row[i + 2 * half]! - row[i + 3 * half]!;
          row[i] = a + c;
          row[i + half] = b + d;
          row[i + 2 * half] = a - c;
          row[i + 3 * half] = b - d;
        }
      }
    }
    if (half === n) return;
    for (let block = 0; block < width; block += n) {
      for (let i = block; i < block + half; i++) {
        const a = row[i]!;
        row[i] = a + row[i + half]!;
        row[i + half] = a - row[i + half]!;
      }
    }
  }

  function rotateRow(data: Float32Array, at: number): void {
    for (let i = 0; i < width; i++) row[i] = data[at + i]! * signs[i]!;
    butterflies();
    for (let j = 0; j < m; j++) {
      for (let i = 0; i < n; i++) {
        let sum = 0;
        for (let k = 0; k < m; k++) sum += row[k * n + i]! * mix[k * m + j]!;
        data[at + j * n + i] = sum;
      }
    }
  }

  return {
    width,
    signs: m === 1 ? signs.map((sign) => sign / Math.sqrt(n)) : null,
    apply(data) {
      if (data.length % width !== 0) throw new RangeError(`rotation of width ${width}: got ${data.length} elements`);
      for (let at = 0; at < data.length; at += width) rotateRow(data, at);
    },
  };
}
