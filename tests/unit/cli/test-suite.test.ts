/** The runner counts what happened: nothing that failed, crashed or was skipped without leave passes. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from '../../../cli/home.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'suite-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const PROGRAM = `
const { runSuite } = await import(process.argv[2]);
const tally = await runSuite(process.argv.slice(3), 1, new Set(['may be skipped']));
console.log(JSON.stringify(tally));
`;

/** In a process of its own: node:test does not run inside itself. */
async function tallyOf(...sources: string[]): Promise<{ tally: unknown; output: string }> {
  const files = await Promise.all(
    sources.map(async (source, i) => {
      const file = join(folder, `${i}.test.mjs`);
      await writeFile(file, `import assert from 'node:assert';\nimport { describe, before, test } from 'node:test';\n${source}`);
      return file;
    }),
  );
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const program = join(folder, 'run.mjs');
  await writeFile(program, PROGRAM);
  const { stdout } = await promisify(execFile)(process.execPath, [program, join(ROOT, 'cli', 'test-suite.ts'), ...files], { env });
  const lines = stdout.trimEnd().split('\n');
  return { tally: JSON.parse(lines.at(-1)!), output: stdout };
}

test('passes, failures, nested suites and allowed skips are counted as tests, suites are not', async () => {
  const { tally, output } = await tallyOf(`
    test('good', () => {});
    test('bad', () => assert.equal(1, 2));
    test('may be skipped', { skip: 'no device' }, () => {});
    describe('suite', () => { test('inner', () => {}); test('inner bad', () => { throw new Error('boom'); }); });
  `);
  assert.deepEqual(tally, { passed: 2, failed: 2, skipped: 1 });
  assert.match(output, /FAILED .*: bad/);
  assert.match(output, /boom/);
});

test('a skip or a todo that is not listed fails', async () => {
  const { tally, output } = await tallyOf(`test('silently left out', { skip: true }, () => {}); test('later', { todo: true }, () => {});`);
  assert.deepEqual(tally, { passed: 0, failed: 2, skipped: 0 });
  assert.match(output, /silently left out\n.*tests\/skips.txt does not list it/);
});

test('a file that crashes, or whose hook fails, fails', async () => {
  const crash = await tallyOf(`throw new Error('at load');`);
  assert.deepEqual(crash.tally, { passed: 0, failed: 1, skipped: 0 });
  const hook = await tallyOf(`before(() => { throw new Error('in the hook'); }); test('never runs', () => {});`);
  assert.deepEqual({ ...(hook.tally as object), failed: 0 }, { passed: 0, failed: 0, skipped: 0 });
  assert.notDeepEqual(hook.tally, { passed: 0, failed: 0, skipped: 0 });
});
