/**
 * Tar archives from untrusted hands: ustar with pax and GNU long names (POSIX.1-2017, pax).
 * Regular files and directories only; links, devices and sparse files are refused.
 */
import { quote, refusal } from './findings.ts';
import type { ArchiveEntry } from './package-files.ts';

const BLOCK = 512;
/** A pax header or long name is a few hundred bytes. */
const MAX_EXTENSION = 64 << 10;

export const isTar = (bytes: Uint8Array): boolean => bytes.byteLength >= BLOCK && latin1(bytes.subarray(257, 262)) === 'ustar';

export function readTar(bytes: Uint8Array, file: string, maxEntries: number): ArchiveEntry[] {
  const refuse = (why: string) => refusal('container', `${file}: ${why}`, { file });
  const entries: ArchiveEntry[] = [];
  let longName: string | undefined;
  let at = 0;
  for (;;) {
    if (at + BLOCK > bytes.byteLength) throw refuse('tar ends without its end mark');
    const header = bytes.subarray(at, at + BLOCK);
    if (header.every((byte) => byte === 0)) break;
    if (!checksumFits(header)) throw refuse('tar header with a wrong checksum');
    const size = octal(header.subarray(124, 136));
    if (size === undefined) throw refuse('tar entry with an unreadable size');
    const from = at + BLOCK;
    at = from + Math.ceil(size / BLOCK) * BLOCK;
    if (at > bytes.byteLength) throw refuse('tar entry that ends after the file');
    const data = bytes.subarray(from, from + size);
    const type = String.fromCharCode(header[156]!);

    if (type === 'x' || type === 'g' || type === 'L') {
      if (size > MAX_EXTENSION) throw refuse('tar with an oversized extension header');
      const text = utf8(data);
      if (text === undefined) throw refuse('tar extension header that is not UTF-8');
      if (type === 'L') {
        longName = text.replace(/\0.*$/s, '');
        continue;
      }
      const records = paxRecords(text);
      if (!records) throw refuse('tar with a damaged pax header');
      for (const key of records.keys()) {
        if (key === 'size' || key === 'linkpath' || key.startsWith('GNU.sparse.') || (type === 'g' && key === 'path')) {
          throw refuse(`tar with pax record ${quote(key)}, which no adapter package needs`);
        }
      }
      if (type === 'x') longName = records.get('path') ?? longName;
      continue;
    }

    const name = (longName ?? shortName(header)).replace(/^\.\//, '');
    longName = undefined;
    switch (type) {
      case '0':
      case '\0':
        entries.push({ name, read: () => data });
        break;
      case '5':
        break;
      default:
        throw refusal('files', `${file}: tar entry ${quote(name)} is a link, a device or of an unknown type`, { file });
    }
    if (entries.length > maxEntries) throw refusal('limits', `${file}: too many entries`, { file, expected: `at most ${maxEntries}` });
  }
  if (bytes.subarray(at).some((byte) => byte !== 0)) throw refuse('tar with data after its end mark');
  return entries;
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** A NUL-terminated field. Bytes beyond ASCII survive as characters that no package name may hold. */
const field = (bytes: Uint8Array): string => latin1(bytes).replace(/\0.*$/s, '');

function shortName(header: Uint8Array): string {
  const prefix = field(header.subarray(345, 500));
  const name = field(header.subarray(0, 100));
  return prefix && latin1(header.subarray(257, 263)) === 'ustar\0' ? `${prefix}/${name}` : name;
}

/** Base-256 sizes (GNU, for files beyond 8 GB) are not numbers here. */
function octal(bytes: Uint8Array): number | undefined {
  const digits = /^ *([0-7]+)[ \0]*$/.exec(latin1(bytes))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 8);
}

function checksumFits(header: Uint8Array): boolean {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : header[i]!;
  return octal(header.subarray(148, 156)) === sum;
}

/** "<length> <key>=<value>\n", where the length counts its own digits, in bytes. */
function paxRecords(text: string): Map<string, string> | undefined {
  const bytes = new TextEncoder().encode(text);
  const out = new Map<string, string>();
  let at = 0;
  while (at < bytes.length) {
    const digits = /^([1-9][0-9]{0,5}) /.exec(latin1(bytes.subarray(at, at + 8)))?.[1];
    if (digits === undefined) return undefined;
    const end = at + Number(digits);
    const record = utf8(bytes.subarray(at + digits.length + 1, end));
    const equals = record?.indexOf('=') ?? -1;
    if (end > bytes.length || record === undefined || equals < 1 || !record.endsWith('\n')) return undefined;
    out.set(record.slice(0, equals), record.slice(equals + 1, -1));
    at = end;
  }
  return out;
}
