/**
 * The image of an adapter: its factors as one base in one precision reads them, in one block of memory that is also
 * the file on disk and the object in storage, so that a load moves bytes and computes nothing.
 *
 *   0    header       magic, CRC-32 of all that follows the first 8 bytes, size, linears, largest rank, which adapter in which form
 *   128  table        one entry of 32 bytes for each linear of the base, in the order of its numbers:
 *                     A u64, B u64 (offsets), scale f32, rank i32, kind i32 (0 absent, 1 f32, 2 f16), 0 i32
 *   …    factors      A [rank, in] and B [rank, out] of each adapted linear, at multiples of 64
 *
 *   Δy = scale · (x · Aᵀ) · B
 *
 * Half floats are shifted by powers of two, undone by `scale`: the largest magnitude of each factor is at most 2^10, so
 * nothing overflows, and what is 2^24 times smaller still has all its bits. All numbers are little-endian.
 */
import { createHash } from 'node:crypto';
import { setImmediate as yieldTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { readSealed, type SealedTarget } from '../../shared/adapters/sealed.ts';
import { intoBasis, type LinearSpec, transpose } from './linear.ts';

const MAGIC = 0x31_49_41_53; // "SAI1"
const CRC_FROM = 8;
const TABLE_AT = 128;
const ENTRY_BYTES = 32;
const ALIGNMENT = 64;
/** The adapter's digest and the SHA-256 of its form's id, up to the table. */
const IDENTITY_AT = 64;
const KINDS = { absent: 0, f32: 1, f16: 2 } as const;
/** Of the largest magnitude of a factor in half floats. */
const TARGET_EXPONENT = 9;
/** Factors that would need a larger shift stay float32, or their scale could leave its range. */
const MOST_SHIFT = 60;

/** What images are made for: one base, in one precision. */
export interface ImageForm {
  /** Names the form wherever images are kept; changes with base, precision, their weights' revision and this file's layout. */
  id: string;
  baseRevision: string;
  factors: 'f32' | 'f16';
  linears: readonly LinearSpec[];
}

const tableEnd = (linears: number): number => TABLE_AT + linears * ENTRY_BYTES;

const sha256 = (data: string | Uint8Array): Buffer => createHash('sha256').update(data).digest();
const identityOf = (digest: string, formId: string): Buffer => Buffer.concat([Buffer.from(digest, 'hex'), sha256(formId)]);

/** Throws when the bytes are not the sealed adapter `digest` for this base. Gives way to other work between linears. */
export async function buildImage(digest: string, sealed: Uint8Array, form: ImageForm): Promise<ArrayBuffer> {
  const actual = sha256(sealed).toString('hex');
  if (actual !== digest) throw new Error(`adapter ${digest}: its sealed bytes have SHA-256 ${actual}`);
  const adapter = readSealed(sealed);
  if (adapter.baseRevision !== form.baseRevision)
    throw new Error(`adapter ${digest}: sealed for base revision ${adapter.baseRevision}, this base is ${form.baseRevision}`);
  const known = new Set(form.linears.map(({ path }) => path));
  for (const path of adapter.targets.keys()) if (!known.has(path)) throw new Error(`adapter ${digest}: the base has no linear ${path}`);

  const pairs = new Map<number, Pair>();
  for (const [number, spec] of form.linears.entries()) {
    const target = adapter.targets.get(spec.path);
    if (!target) continue;
    pairs.set(number, servedPair(target, spec, form.factors));
    await yieldTurn();
  }
  return assemble(digest, form, adapter.rank, pairs);
}

interface Pair {
  rank: number;
  /** [rank, in] */
  A: Float32Array | Float16Array;
  /** [rank, out] */
  B: Float32Array | Float16Array;
  scale: number;
}

/** Brings sealed factors, A [rank, in] and B [out, rank], into the linear's bases and the stored format. The sealed A is consumed. */
function servedPair({ A, B, rank }: SealedTarget, spec: LinearSpec, format: ImageForm['factors']): Pair {
  intoBasis(A, spec.in, spec.input);
  const rows = transpose(B, spec.out, rank);
  intoBasis(rows, spec.out, spec.output);
  if (format === 'f32') return { rank, A, B: rows, scale: 1 };
  const shifts = [A, rows].map((factor) => TARGET_EXPONENT - exponentOf(largest(factor)));
  if (shifts.some((shift) => Math.abs(shift) > MOST_SHIFT)) return { rank, A, B: rows, scale: 1 };
  const [a, b] = shifts as [number, number];
  return { rank, A: halves(A, 2 ** a), B: halves(rows, 2 ** b), scale: 2 ** -(a + b) };
}

function largest(values: Float32Array): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]!));
  return most;
}

const exponentOf = (magnitude: number): number => (magnitude === 0 ? TARGET_EXPONENT : Math.floor(Math.log2(magnitude)));

function halves(values: Float32Array, factor: number): Float16Array {
  for (let i = 0; i < values.length; i++) values[i]! *= factor;
  return new Float16Array(values);
}

function assemble(digest: string, form: ImageForm, rank: number, pairs: ReadonlyMap<number, Pair>): ArrayBuffer {
  let end = tableEnd(form.linears.length);
  const places = new Map<Float32Array | Float16Array, number>();
  for (const factor of [...pairs.values()].flatMap(({ A, B }) => [A, B])) {
    const at = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    places.set(factor, at);
    end = at + factor.byteLength;
  }
  const image = new ArrayBuffer(end);
  const view = new DataView(image);
  const bytes = new Uint8Array(image);
  view.setUint32(0, MAGIC, true);
  view.setBigUint64(8, BigInt(end), true);
  view.setUint32(16, form.linears.length, true);
  view.setUint32(20, rank, true);
  bytes.set(identityOf(digest, form.id), IDENTITY_AT);
  for (const [number, { A, B, scale, rank }] of pairs) {
    const entry = TABLE_AT + number * ENTRY_BYTES;
    for (const [field, factor] of [A, B].entries()) {
      const at = places.get(factor)!;
      view.setBigUint64(entry + field * 8, BigInt(at), true);
      bytes.set(new Uint8Array(factor.buffer, factor.byteOffset, factor.byteLength), at);
    }
    view.setFloat32(entry + 16, scale, true);
    view.setInt32(entry + 20, rank, true);
    view.setInt32(entry + 24, A instanceof Float16Array ? KINDS.f16 : KINDS.f32, true);
  }
  view.setUint32(4, crc32(bytes.subarray(CRC_FROM)), true);
  return image;
}

/** Whether these bytes are, undamaged, the image of that adapter in that form. */
export function isImage(image: ArrayBuffer, digest: string, formId: string): boolean {
  if (image.byteLength < TABLE_AT) return false;
  const view = new DataView(image);
  const bytes = new Uint8Array(image);
  return (
    view.getUint32(0, true) === MAGIC &&
    view.getBigUint64(8, true) === BigInt(image.byteLength) &&
    identityOf(digest, formId).equals(bytes.subarray(IDENTITY_AT, TABLE_AT)) &&
    view.getUint32(4, true) === crc32(bytes.subarray(CRC_FROM))
  );
}

/** Largest rank over the adapter's linears. */
export const imageRank = (image: ArrayBuffer): number => new DataView(image).getUint32(20, true);

/** The table with addresses in place of offsets, for an image that lies at `address`. The image itself stays as it is. */
export function addressTable(image: ArrayBuffer, address: bigint): Uint8Array<ArrayBuffer> {
  const linears = new DataView(image).getUint32(16, true);
  const table = new Uint8Array(image.slice(TABLE_AT, tableEnd(linears)));
  const view = new DataView(table.buffer);
  for (let entry = 0; entry < table.length; entry += ENTRY_BYTES) {
    if (view.getInt32(entry + 24, true) === KINDS.absent) continue;
    for (const field of [entry, entry + 8]) view.setBigUint64(field, address + view.getBigUint64(field, true), true);
  }
  return table;
}
