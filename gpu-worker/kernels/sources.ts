/** What the prebuilt libraries are made of and where they lie: read by the build, by the loader and by the test that compares them. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface Target {
  /** Zig's name of the platform, with the oldest C library that it runs on. */
  triple: string;
  flags: readonly string[];
  /** Instruction sets that operators are compiled for, chosen among when the library is loaded, and their flags. */
  variants: Readonly<Record<string, readonly string[]>>;
  link: readonly string[];
}

const common = ['-std=c11', '-O3', '-Wall', '-Wextra', '-Werror', '-fPIC', '-fvisibility=hidden', '-fno-sanitize=all'];
// A compiler that contracts a·b + c on its own would round differently from one instruction set to the next.
// (psabi: vectors cross no function that is not inlined.)
const flags = [...common, '-ffp-contract=off', '-fno-math-errno', '-Wno-psabi'];
const x64 = {
  avx2: ['-mavx2', '-mfma', '-mf16c'],
  avx512: ['-mavx2', '-mfma', '-mf16c', '-mavx512f', '-mavx512bw', '-mavx512dq', '-mavx512vl', '-mavx512vnni', '-mprefer-vector-width=512'],
};
const arm64 = { neon: [] };
// Otherwise the library would carry the path of the folder that it was linked in.
const darwinLink = ['-install_name', '@rpath/libswitchyard_kernels.dylib'];

export const targets: Readonly<Record<string, Target>> = {
  'linux-x64': { triple: 'x86_64-linux-gnu.2.17', flags, variants: x64, link: ['-lm'] },
  'linux-arm64': { triple: 'aarch64-linux-gnu.2.17', flags, variants: arm64, link: ['-lm'] },
  'darwin-x64': { triple: 'x86_64-macos', flags, variants: x64, link: darwinLink },
  'darwin-arm64': { triple: 'aarch64-macos', flags, variants: arm64, link: darwinLink },
};

export const folder = import.meta.dirname;

export const libraryName = (target: string): string => `libswitchyard_kernels.${target.startsWith('darwin') ? 'dylib' : 'so'}`;

/** Path of a target's library ("linux-x64"). */
export const prebuilt = (target: string): string => path.join(folder, 'prebuilt', target, libraryName(target));

export const sourceFiles = (): string[] =>
  readdirSync(folder)
    .filter((file) => /\.[ch]$/.test(file))
    .sort();

/** Identifies the sources and how they are compiled: names, contents, targets. */
export function sourcesDigest(): string {
  const hash = createHash('sha256').update(JSON.stringify(targets));
  for (const file of sourceFiles()) hash.update(`\0${file}\0`).update(readFileSync(path.join(folder, file)));
  return hash.digest('hex');
}
