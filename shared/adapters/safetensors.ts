/**
 * The safetensors container, read strictly and written deterministically.
 *
 *     u64 little-endian N | N bytes of JSON, beginning with '{' | data
 *     JSON: { name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {string: string} }
 *
 * The reader takes nothing on trust: the tensors must tile the data exactly (no gap, overlap or
 * rest), and every size is checked before anything is allocated. Tensor data are views, not copies.
 * https://github.com/huggingface/safetensors#format
 */
import { z } from 'zod';
import { quote, refusal } from './findings.ts';
import { isJsonObject, type JsonObject, type JsonValue, parseJson } from './json.ts';

/** A megabyte of header describes some 8,000 tensors; the largest expert adapters need a few. */
const MAX_HEADER_BYTES = 16 << 20;
/** header → entry → shape is all the format has. */
const MAX_HEADER_DEPTH = 4;

const BITS_PER_ITEM = {
  ...{ BOOL: 8, U8: 8, I8: 8, I16: 16, U16: 16, I32: 32, U32: 32, I64: 64, U64: 64 },
  ...{ F16: 16, BF16: 16, F32: 32, F64: 64, C64: 64, F4: 4, F6_E2M3: 6, F6_E3M2: 6 },
  ...{ F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8 },
} as const;
export type Dtype = keyof typeof BITS_PER_ITEM;

export interface Tensor {
  dtype: Dtype;
  shape: readonly number[];
  data: Uint8Array;
}
export interface SafetensorsFile {
  tensors: ReadonlyMap<string, Tensor>;
  metadata: ReadonlyMap<string, string>;
}

const size = z.number().int().nonnegative();
const Entry = z.object({
  dtype: z.enum(Object.keys(BITS_PER_ITEM) as [Dtype, ...Dtype[]]),
  shape: z.array(size).max(8),
  data_offsets: z.tuple([size, size]),
});
/** Fields beside these are passed over, as the reference reader does: they cannot change what is read. */
const ENTRY_FIELDS = ['dtype', 'shape', 'data_offsets'] as const;

/** Throws a refusal with code 'container', or 'limits' when there are more than `maxTensors`. */
export function readSafetensors(bytes: Uint8Array, file: string, maxTensors = 65_536): SafetensorsFile {
  const refuse = (message: string, more: { tensor?: string; expected?: string; got?: string } = {}) =>
    refusal('container', `${file}: ${message}`, { file, ...more });
  const { header, data } = split(bytes, file, refuse);
  const metadata = readMetadata(header.get('__metadata__'), refuse);
  const count = header.size - (header.has('__metadata__') ? 1 : 0);
  if (count > maxTensors) {
    throw refusal('limits', `${file}: too many tensors`, { file, expected: `at most ${maxTensors}`, got: `${count}` });
  }

  const entries: { name: string; begin: number; end: number; dtype: Dtype; shape: readonly number[] }[] = [];
  for (const [name, value] of header) {
    if (name === '__metadata__') continue;
    const label = quote(name);
    if (!isJsonObject(value)) throw refuse(`tensor ${label} is not described by an object`, { tensor: label });
    const parsed = Entry.safeParse(Object.fromEntries(ENTRY_FIELDS.map((key) => [key, value.get(key)])));
    if (!parsed.success) throw refuse(`tensor ${label}: ${describe(parsed.error)}`, { tensor: label });
    const { dtype, shape, data_offsets: offsets } = parsed.data;
    const [begin, end] = offsets;
    if (end < begin || end > data.byteLength) {
      throw refuse(`tensor ${label} lies outside of the file`, {
        tensor: label,
        expected: `0 ≤ begin ≤ end ≤ ${data.byteLength}`,
        got: `${begin}, ${end}`,
      });
    }
    const bytesNeeded = byteLength(dtype, shape);
    if (bytesNeeded !== end - begin) {
      throw refuse(`tensor ${label}: shape [${shape}] of ${dtype} does not fill its bytes`, {
        tensor: label,
        expected: bytesNeeded === null ? 'a size below 2^53 in whole bytes' : `${bytesNeeded} bytes`,
        got: `${end - begin}`,
      });
    }
    entries.push({ name, begin, end, dtype, shape });
  }

  const byPosition = entries.toSorted((a, b) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const { name, begin, end } of byPosition) {
    if (begin !== covered) {
      const label = quote(name);
      throw refuse(`tensor ${label} ${begin > covered ? 'leaves a gap before it' : 'shares bytes with another'}`, {
        tensor: label,
        expected: `begin ${covered}`,
        got: `${begin}`,
      });
    }
    covered = end;
  }
  if (covered !== data.byteLength) {
    throw refuse('bytes after the last tensor', { expected: `${covered} bytes of data`, got: `${data.byteLength}` });
  }
  const tensors = new Map(entries.map(({ name, begin, end, dtype, shape }) => [name, { dtype, shape, data: data.subarray(begin, end) }]));
  return { tensors, metadata };
}

type Refuse = (message: string, more?: { expected?: string; got?: string }) => Error;

function split(bytes: Uint8Array, file: string, refuse: Refuse): { header: JsonObject; data: Uint8Array } {
  if (bytes.byteLength < 8) throw refuse('no safetensors header', { expected: 'at least 8 bytes', got: `${bytes.byteLength}` });
  const declared = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  const available = Math.min(bytes.byteLength - 8, MAX_HEADER_BYTES);
  if (declared > available) throw refuse('the declared header is too long', { expected: `at most ${available} bytes`, got: `${declared}` });
  const length = Number(declared);
  if (bytes[8] !== 0x7b || length === 0) throw refuse('the header does not begin with "{"');
  const header = parseJson(bytes.subarray(8, 8 + length), {
    file,
    code: 'container',
    maxBytes: MAX_HEADER_BYTES,
    maxDepth: MAX_HEADER_DEPTH,
  });
  if (!isJsonObject(header)) throw refuse('the header is not an object');
  return { header, data: bytes.subarray(8 + length) };
}

function readMetadata(value: JsonValue | undefined, refuse: Refuse): ReadonlyMap<string, string> {
  const out = new Map<string, string>();
  if (value === undefined) return out;
  if (!isJsonObject(value)) throw refuse('__metadata__ is not an object');
  for (const [key, text] of value) {
    if (typeof text !== 'string') throw refuse(`__metadata__ ${quote(key)} is not a string`);
    out.set(key, text);
  }
  return out;
}

/** null where the size is no safe integer or not in whole bytes. */
function byteLength(dtype: Dtype, shape: readonly number[]): number | null {
  let items = 1;
  for (const dimension of shape) items *= dimension;
  const bits = items * BITS_PER_ITEM[dtype];
  return Number.isSafeInteger(bits) && bits % 8 === 0 ? bits / 8 : null;
}

const describe = (error: z.ZodError): string => error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');

/** Tensors sorted by name, header padded to 8 bytes: equal content gives equal bytes. */
export function writeSafetensors(tensors: ReadonlyMap<string, Tensor>, metadata: ReadonlyMap<string, string>): Uint8Array<ArrayBuffer> {
  const byCodeUnit = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : 1);
  const sorted = [...tensors].sort(byCodeUnit);
  const parts: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].sort(byCodeUnit).map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`);
    parts.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  let offset = 0;
  for (const [name, { dtype, shape, data }] of sorted) {
    if (byteLength(dtype, shape) !== data.byteLength)
      throw new RangeError(`${name}: [${shape}] of ${dtype} is not ${data.byteLength} bytes`);
    const end = offset + data.byteLength;
    parts.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${offset},${end}]}`);
    offset = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const headerLength = Math.ceil(json.byteLength / 8) * 8;
  const out = new Uint8Array(8 + headerLength + offset);
  new DataView(out.buffer).setBigUint64(0, BigInt(headerLength), true);
  out.fill(0x20, 8 + json.byteLength, 8 + headerLength);
  out.set(json, 8);
  let at = 8 + headerLength;
  for (const [, { data }] of sorted) {
    out.set(data, at);
    at += data.byteLength;
  }
  return out;
}
