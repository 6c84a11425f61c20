/**
 * `npm test`: everything that must hold before a change lands. Checks of the code first, then the test
 * suites layer by layer; the last line is the count. Skips are allowed only by tests/skips.txt.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { DEFAULT_BASE, resolveBases } from './base.ts';
import { HOME, ROOT } from './home.ts';
import { runSuite, type Tally } from './test-suite.ts';

const HELP = `npm test [-- <text>]

Runs the checks (format and lint, types, structure, unused code) and the test suites.
With <text>, runs only the checks and test files whose name contains it, e.g. "unit/server" or "check:types".
`;

const CHECKS: [name: string, program: string, args: string[]][] = [
  ['check:format', 'biome', ['check', '--error-on-warnings']],
  ['check:types', 'tsc', ['-p', 'tsconfig.json']],
  ['check:types-edge', 'tsc', ['-p', 'functions/tsconfig.json']],
  ['check:structure', 'depcruise', ['--config', '.dependency-cruiser.cjs', 'functions', 'gpu-worker', 'shared', 'cli']],
  ['check:unused', 'knip', ['--no-progress']],
];

/** Layers in order of cost. Those that load the real base or a workerd run one file at a time. */
const SUITES: [layer: string, concurrency: number][] = [
  ['unit', availableParallelism()],
  ['contract', availableParallelism()],
  ['synthetic', availableParallelism()],
  ['workerd', 1],
  ['model', 1],
  ['e2e', 1],
];

async function runCheck(program: string, args: string[]): Promise<boolean> {
  const bin = join(ROOT, 'node_modules', '.bin');
  // The tools' launchers ask PATH for node: give them the project's own.
  const path = [dirname(process.execPath), bin, process.env['PATH']].join(delimiter);
  const child = spawn(join(bin, program), args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH: path } });
  const output: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => output.push(chunk));
  const ok = await new Promise<boolean>((done, failed) => {
    child.on('error', failed);
    child.on('close', (code) => done(code === 0));
  });
  if (!ok) process.stdout.write(Buffer.concat(output));
  return ok;
}

/** Lines `name of the test | reason`; blank lines and those after # are comments. */
async function readAllowedSkips(): Promise<Set<string>> {
  const allowed = new Set<string>();
  for (const line of (await readFile(join(ROOT, 'tests', 'skips.txt'), 'utf8')).split('\n')) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [name, reason] = line.split(' | ');
    if (!name || !reason?.trim()) throw new Error(`tests/skips.txt: expected "name of the test | reason", got: ${line}`);
    allowed.add(name.trim());
  }
  return allowed;
}

async function main(args: string[]): Promise<number> {
  if (args.includes('--help')) {
    process.stdout.write(HELP);
    return 0;
  }
  if (args.length > 1 || args[0]?.startsWith('-')) throw new Error(`expected at most one text to filter by, got: ${args.join(' ')}`);
  const filter = args[0] ?? '';
  const allowedSkips = await readAllowedSkips();
  const total: Tally = { passed: 0, failed: 0, skipped: 0 };

  for (const [name, program, programArgs] of CHECKS.filter(([name]) => name.includes(filter))) {
    const ok = await runCheck(program, programArgs);
    process.stdout.write(`${ok ? 'ok' : 'FAILED'}  ${name}\n`);
    total[ok ? 'passed' : 'failed']++;
  }

  const suites: [files: string[], concurrency: number][] = [];
  for (const [layer, concurrency] of SUITES) {
    const files = globSync(`tests/${layer}/**/*.test.ts`, { cwd: ROOT })
      .filter((file) => file.includes(filter))
      .sort();
    if (files.length > 0) suites.push([files, concurrency]);
  }
  if (suites.length > 0) {
    const [base] = await resolveBases(DEFAULT_BASE, HOME);
    process.env['SWITCHYARD_TEST_BASE'] = base;
  }
  for (const [files, concurrency] of suites) {
    const tally = await runSuite(files, concurrency, allowedSkips);
    for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += tally[key];
  }

  if (total.passed + total.failed + total.skipped === 0) throw new Error(`no check or test file has a name that contains "${filter}"`);
  process.stdout.write(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`);
  return total.failed === 0 ? 0 : 1;
}

process.once('disconnect', () => process.exit(1));
process.channel?.unref();
process.exitCode = await main(process.argv.slice(2)).catch((error: Error) => {
  process.stderr.write(`npm test: ${error.message}\n`);
  return 1;
});
