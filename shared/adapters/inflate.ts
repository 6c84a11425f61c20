/**
 * Decompression of untrusted data with a bound on what comes out, enforced while inflating: the
 * sizes that an archive declares are claims. Input goes in small steps, because one step can grow
 * a thousandfold before the bound is looked at.
 */
import { Inflate } from 'fflate';
import { refusal } from './findings.ts';

/** All that a package may hold once unpacked: an fp32 adapter of rank 64 on every linear of a 7 B base. */
export const MAX_UNPACKED_BYTES = 1 << 30;
/** Adapter weights hardly compress (zeros in an untrained B do); beyond this it is a bomb. */
const MAX_RATIO = 64;
const RATIO_FREE_BYTES = 1 << 20;
const STEP = 8 << 10;

/** What `compressed` bytes may honestly grow to. */
export const inflatedLimit = (compressed: number): number => Math.min(MAX_UNPACKED_BYTES, RATIO_FREE_BYTES + compressed * MAX_RATIO);

/** Raw DEFLATE. Throws `excess()` as soon as the output passes `maxBytes`. */
export function inflate(data: Uint8Array, maxBytes: number, name: string, excess: () => Error): Uint8Array {
  const chunks: Uint8Array[] = [];
  let total = 0;
  let tooLarge = false;
  const stream = new Inflate((chunk) => {
    total += chunk.byteLength;
    tooLarge ||= total > maxBytes;
    chunks.push(chunk);
  });
  try {
    for (let at = 0; at < data.byteLength && !tooLarge; at += STEP) {
      stream.push(data.subarray(at, at + STEP), at + STEP >= data.byteLength);
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw refusal('container', `${name}: the compressed data are damaged (${why})`, { file: name });
  }
  if (tooLarge) throw excess();
  const out = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.byteLength;
  }
  return out;
}

let crcTable: Uint32Array | undefined;

/** CRC-32 as zip and gzip use it. */
export function crc32(bytes: Uint8Array): number {
  crcTable ??= Uint32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    return c;
  });
  const table = crcTable;
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}

const FLAGS = { HCRC: 2, EXTRA: 4, NAME: 8, COMMENT: 16, RESERVED: 0xe0 } as const;

/** The content of one gzip member (RFC 1952); `name` is the file's, for messages. */
export function gunzip(bytes: Uint8Array, name: string): Uint8Array {
  const refuse = (why: string) => refusal('container', `${name}: ${why}`, { file: name });
  if (bytes.byteLength < 18 || bytes[2] !== 8) throw refuse('not a complete gzip file');
  const flags = bytes[3]!;
  if (flags & FLAGS.RESERVED) throw refuse('gzip with reserved flags');
  let at = 10;
  if (flags & FLAGS.EXTRA) at += 2 + (bytes[at]! | (bytes[at + 1]! << 8));
  for (const flag of [FLAGS.NAME, FLAGS.COMMENT]) {
    if (!(flags & flag)) continue;
    const end = bytes.indexOf(0, at);
    if (end < 0) throw refuse('gzip header without an end');
    at = end + 1;
  }
  if (flags & FLAGS.HCRC) at += 2;
  const end = bytes.byteLength - 8;
  if (at > end) throw refuse('gzip header without an end');
  const limit = inflatedLimit(bytes.byteLength);
  const out = inflate(bytes.subarray(at, end), limit, name, () =>
    refusal('limits', `${name}: decompresses to more than is allowed for its size`, { file: name, expected: `at most ${limit} bytes` }),
  );
  const trailer = new DataView(bytes.buffer, bytes.byteOffset + end, 8);
  if (trailer.getUint32(0, true) !== crc32(out) || trailer.getUint32(4, true) !== out.byteLength % 2 ** 32) {
    throw refuse('gzip checksum or length does not fit its one member');
  }
  return out;
}
