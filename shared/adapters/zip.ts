/**
 * Zip archives from untrusted hands, read through the central directory (APPNOTE 4.3).
 *
 * Entries are listed without being opened, so names are judged first and only what a package needs
 * is inflated. Refused: encryption, zip64 and several disks (no package needs them), links, entries
 * whose two headers disagree or whose data overlap, sizes that are not the real ones.
 */
import { quote, refusal } from './findings.ts';
import { crc32, inflate, inflatedLimit } from './inflate.ts';
import type { ArchiveEntry } from './package-files.ts';

const END = { signature: 0x06054b50, size: 22 } as const;
const CENTRAL = { signature: 0x02014b50, size: 46 } as const;
const LOCAL = { signature: 0x04034b50, size: 30 } as const;
const MAX_COMMENT = 0xffff;
const ENCRYPTED = 0x1 | 0x40 | 0x2000;
const STORED = 0;
const DEFLATED = 8;

interface ZipEntry extends ArchiveEntry {
  isDirectory: boolean;
  /** Its bytes in the archive, local header included. */
  from: number;
  to: number;
}

export const isZip = (bytes: Uint8Array): boolean =>
  bytes.byteLength >= END.size &&
  bytes[0] === 0x50 &&
  bytes[1] === 0x4b &&
  ((bytes[2] === 3 && bytes[3] === 4) || (bytes[2] === 5 && bytes[3] === 6));

export function readZip(bytes: Uint8Array, file: string, maxEntries: number): ArchiveEntry[] {
  const refuse = (why: string) => refusal('container', `${file}: ${why}`, { file });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEnd(view);
  if (end === undefined) throw refuse('zip without an end record');
  const count = view.getUint16(end + 10, true);
  const size = view.getUint32(end + 12, true);
  const start = view.getUint32(end + 16, true);
  if (view.getUint16(end + 4, true) !== 0 || view.getUint16(end + 6, true) !== 0 || view.getUint16(end + 8, true) !== count) {
    throw refuse('zip in several parts');
  }
  if (count === 0xffff || size === 0xffffffff || start === 0xffffffff) throw refuse('zip64 is not supported');
  if (start + size !== end) throw refuse('zip whose central directory is not where its end record says');
  if (count > maxEntries)
    throw refusal('limits', `${file}: too many entries`, { file, expected: `at most ${maxEntries}`, got: `${count}` });

  const entries: ZipEntry[] = [];
  let at = start;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL.size > end || view.getUint32(at, true) !== CENTRAL.signature) throw refuse('zip with a damaged central directory');
    const next = at + CENTRAL.size + view.getUint16(at + 28, true) + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (next > end) throw refuse('zip with a damaged central directory');
    entries.push(readEntry(bytes, view, at, start, file));
    at = next;
  }
  if (at !== end) throw refuse('zip with bytes after its central directory');

  let covered = 0;
  for (const entry of entries.toSorted((a, b) => a.from - b.from)) {
    if (entry.from < covered) throw refuse(`zip entry ${quote(entry.name)} shares bytes with another`);
    covered = entry.to;
  }
  return entries.filter((entry) => !entry.isDirectory);
}

/** The last end record whose comment reaches exactly to the end of the file. */
function findEnd(view: DataView): number | undefined {
  const last = view.byteLength - END.size;
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT); at--) {
    if (view.getUint32(at, true) === END.signature && at + END.size + view.getUint16(at + 20, true) === view.byteLength) return at;
  }
  return undefined;
}

function readEntry(bytes: Uint8Array, view: DataView, at: number, dataEnd: number, file: string): ZipEntry {
  const rawName = bytes.subarray(at + CENTRAL.size, at + CENTRAL.size + view.getUint16(at + 28, true));
  let name: string;
  try {
    name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(rawName);
  } catch {
    throw refusal('files', `${file}: a zip entry's name is not valid UTF-8`, { file });
  }
  const refuse = (why: string) => refusal('container', `${file}: zip entry ${quote(name)} ${why}`, { file });
  const flags = view.getUint16(at + 8, true);
  const method = view.getUint16(at + 10, true);
  const checksum = view.getUint32(at + 16, true);
  const compressed = view.getUint32(at + 20, true);
  const size = view.getUint32(at + 24, true);
  const local = view.getUint32(at + 42, true);
  if (flags & ENCRYPTED) throw refuse('is encrypted');
  if (method !== STORED && method !== DEFLATED) throw refuse(`uses compression method ${method}; stored and deflate are supported`);
  if (method === STORED && compressed !== size) throw refuse('is stored with two different sizes');
  if (compressed === 0xffffffff || size === 0xffffffff || local === 0xffffffff) throw refuse('needs zip64, which is not supported');

  if (local + LOCAL.size > dataEnd || view.getUint32(local, true) !== LOCAL.signature) throw refuse('has no local header');
  const nameEnd = local + LOCAL.size + view.getUint16(local + 26, true);
  const from = nameEnd + view.getUint16(local + 28, true);
  const to = from + compressed;
  if (to > dataEnd) throw refuse('lies outside of the file');
  const localName = bytes.subarray(local + LOCAL.size, nameEnd);
  if (localName.length !== rawName.length || localName.some((byte, i) => byte !== rawName[i]))
    throw refuse('has another name in its local header');
  if (view.getUint16(local + 8, true) !== method) throw refuse('has another method in its local header');

  // Unix mode in the upper half of the external attributes: only regular files and directories.
  const type = (view.getUint32(at + 38, true) >>> 28) & 0xf;
  if (type !== 0 && type !== 8 && type !== 4) throw refusal('files', `${file}: zip entry ${quote(name)} is a link or a device`, { file });
  const isDirectory = name.endsWith('/');
  if (isDirectory && size !== 0) throw refuse('is a directory with content');

  const read = () => {
    const limit = inflatedLimit(compressed);
    if (size > limit) {
      throw refusal('limits', `${file}: zip entry ${quote(name)} is too large or compressed too well`, {
        file,
        expected: `at most ${limit} bytes`,
        got: `${size}`,
      });
    }
    const data = bytes.subarray(from, to);
    const out = method === STORED ? data : inflate(data, size, name, () => refuse(`is larger than the ${size} bytes it declares`));
    if (out.byteLength !== size || crc32(out) !== checksum) throw refuse('does not match its size or checksum');
    return out;
  };
  return { name, isDirectory, read, from: local, to };
}
