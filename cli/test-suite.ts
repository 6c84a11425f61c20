/** Runs test files with node:test, each in a process of its own, and prints one line a file and every failure. */
import { relative } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';
import { ROOT } from './home.ts';

export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** No test file may take longer: a hang must not eat the time of the whole run. */
const FILE_TIMEOUT_MS = 8 * 60_000;

const nameOf = (file: string | undefined): string => (file ? relative(ROOT, file) : 'unknown file');

export async function runSuite(files: string[], concurrency: number, allowedSkips: ReadonlySet<string>): Promise<Tally> {
  const byFile = new Map<string, Tally>();
  const tallyOf = (file: string): Tally => {
    const tally = byFile.get(file) ?? { passed: 0, failed: 0, skipped: 0 };
    byFile.set(file, tally);
    return tally;
  };
  const fail = (file: string, name: string, detail: string) => {
    tallyOf(file).failed++;
    process.stdout.write(`FAILED  ${file}: ${name}\n${detail.replace(/^/gm, '        ')}\n`);
  };

  for await (const event of run({ files, concurrency, cwd: ROOT, timeout: FILE_TIMEOUT_MS })) {
    switch (event.type) {
      case 'test:pass': {
        const { name, details, skip, todo } = event.data;
        const file = nameOf(event.data.file);
        if (details.type === 'suite') break;
        if (skip === undefined && todo === undefined) tallyOf(file).passed++;
        else if (allowedSkips.has(name)) tallyOf(file).skipped++;
        else fail(file, name, `skipped (${String(skip ?? todo)}), but tests/skips.txt does not list it`);
        break;
      }
      case 'test:fail': {
        const { name, details } = event.data;
        // A suite fails because of its tests, which are reported themselves, unless a hook failed.
        if (details.type === 'suite' && details.error.failureType === 'subtestsFailed') break;
        fail(nameOf(event.data.file), name, inspect(details.error.cause ?? details.error));
        break;
      }
      case 'test:stderr':
        process.stderr.write(event.data.message);
        break;
      case 'test:summary': {
        if (event.data.file === undefined) break;
        const file = nameOf(event.data.file);
        const { passed, failed, skipped } = tallyOf(file);
        const seconds = (event.data.duration_ms / 1000).toFixed(1);
        process.stdout.write(
          `${failed ? 'FAILED' : 'ok'}  ${file}: ${passed} passed, ${failed} failed, ${skipped} skipped (${seconds} s)\n`,
        );
        break;
      }
    }
  }
  const sum: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const tally of byFile.values()) {
    for (const key of ['passed', 'failed', 'skipped'] as const) sum[key] += tally[key];
  }
  return sum;
}
