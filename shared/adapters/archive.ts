/**
 * From what a tenant uploads (loose files, or one .zip, .tar or .tar.gz, told by its content) to
 * the two files of a PEFT package. Names are judged before anything is unpacked, pickles and other
 * weights are refused by name and never opened, notes such as README.md are let pass unread.
 */
import type { AdapterFinding } from '../errors.ts';
import { quote, refusal, rejected } from './findings.ts';
import { gunzip, MAX_UNPACKED_BYTES } from './inflate.ts';
import { type ArchiveEntry, CONFIG_FILE, type PackageFile, WEIGHTS_FILE } from './package-files.ts';
import { isTar, readTar } from './tar.ts';
import { isZip, readZip } from './zip.ts';

const MAX_ENTRIES = 1_000;
const MAX_NAME_LENGTH = 255;

/** Loading these runs code. */
const PICKLE = /\.(bin|pt|pth|pkl|pickle|ckpt|joblib|dill)$/i;
/** Weights beside the adapter's, or an archive in the archive: served without them, it would be another adapter. */
const OTHER_WEIGHTS = /\.(safetensors|gguf|ggml|onnx|h5|hdf5|msgpack|npy|npz|zip|tar|gz|tgz|bz2|xz|7z)$/i;
/** What macOS adds to archives. */
const RESOURCE_FORK = /(^|\/)(__MACOSX\/|\._|\.DS_Store$)/;
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)/i;
const PATH_PART = /^[\w.+@=,()-]+(?: [\w.+@=,()-]+)*$/;

/** The package's files by name; throws a refusal unless both are there and nothing is refused. */
export function openPackage(files: readonly PackageFile[]): { config: Uint8Array; weights: Uint8Array } {
  const loose = files.map(({ name, bytes }): ArchiveEntry => ({ name, read: () => bytes }));
  const only = files.length === 1 ? files[0] : undefined;
  if (only) assertNames(loose);
  const entries = (only && unpack(only)) ?? loose;
  assertNames(entries);
  return readBoth(withoutEnclosingDirectory(entries.filter((entry) => !RESOURCE_FORK.test(entry.name))));
}

/** undefined when the file is no archive. */
function unpack({ name, bytes }: PackageFile): ArchiveEntry[] | undefined {
  if (isZip(bytes)) return readZip(bytes, name, MAX_ENTRIES);
  if (isTar(bytes)) return readTar(bytes, name, MAX_ENTRIES);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return undefined;
  const inner = gunzip(bytes, name);
  if (!isTar(inner)) throw refusal('container', `${name}: the gzip file holds no tar archive`, { file: name });
  return readTar(inner, name, MAX_ENTRIES);
}

function assertNames(entries: readonly ArchiveEntry[]): void {
  const findings: AdapterFinding[] = [];
  const seen = new Set<string>();
  for (const { name } of entries) {
    const fault = nameFault(name) ?? (seen.has(name.toLowerCase()) ? 'is given twice' : undefined);
    if (fault) findings.push({ code: 'files', message: `file name ${quote(name)} ${fault}`, file: quote(name) });
    seen.add(name.toLowerCase());
  }
  if (findings.length > 0) throw rejected(findings);
}

/** Why a name is refused. Only plain relative paths pass: no encoding, drive, device or parent to interpret. */
function nameFault(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.length > MAX_NAME_LENGTH) return `is longer than ${MAX_NAME_LENGTH} characters`;
  if (name.startsWith('/')) return 'is an absolute path';
  for (const part of name.split('/')) {
    if (part === '.' || part === '..') return 'leaves its directory';
    if (part === '') return 'has an empty part';
    if (!PATH_PART.test(part)) return 'has characters other than letters, digits, single spaces and ._+@=,()-';
    if (WINDOWS_DEVICE.test(part) || part.endsWith('.')) return 'is reserved on some systems';
  }
  return undefined;
}

function withoutEnclosingDirectory(entries: readonly ArchiveEntry[]): ArchiveEntry[] {
  const slash = entries[0]?.name.indexOf('/') ?? -1;
  const directory = entries[0]?.name.slice(0, slash + 1) ?? '';
  if (slash < 0 || !entries.every((entry) => entry.name.startsWith(directory))) return [...entries];
  return entries.map((entry) => ({ ...entry, name: entry.name.slice(directory.length) }));
}

function readBoth(entries: readonly ArchiveEntry[]): { config: Uint8Array; weights: Uint8Array } {
  const findings: AdapterFinding[] = [];
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const config = byName.get(CONFIG_FILE);
  const weights = byName.get(WEIGHTS_FILE);
  const got =
    entries
      .map((entry) => quote(entry.name))
      .join(', ')
      .slice(0, 500) || 'no files';
  if (!config)
    findings.push({ code: 'config', message: `no ${CONFIG_FILE} in the package`, file: CONFIG_FILE, expected: CONFIG_FILE, got });
  if (!weights)
    findings.push({ code: 'files', message: `no ${WEIGHTS_FILE} in the package`, file: WEIGHTS_FILE, expected: WEIGHTS_FILE, got });
  for (const { name } of entries) {
    if (name === WEIGHTS_FILE) continue;
    if (PICKLE.test(name)) {
      findings.push({
        code: 'files',
        message: `${quote(name)} may be a pickle, which is never opened; store weights as safetensors`,
        file: name,
      });
    } else if (OTHER_WEIGHTS.test(name)) {
      findings.push({ code: 'files', message: `${quote(name)} is not part of a PEFT adapter package`, file: name });
    }
  }
  if (!config || !weights || findings.length > 0) throw rejected(findings);
  const both = { config: config.read(), weights: weights.read() };
  const total = both.config.byteLength + both.weights.byteLength;
  if (total > MAX_UNPACKED_BYTES) {
    throw refusal('limits', 'the package is too large', { expected: `at most ${MAX_UNPACKED_BYTES} bytes`, got: `${total}` });
  }
  return both;
}
