/** One holder at a time among processes, and a dead one's lock is free. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { LockHeld, takeLock } from '../../../cli/lockfile.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lock-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const nothing = () => {};

test('a living holder is waited for and then named', async () => {
  const path = join(folder, 'lock');
  const release = await takeLock(path, 0, nothing);
  const told: number[] = [];
  await assert.rejects(
    takeLock(path, 300, (pid) => told.push(pid)),
    (error: unknown) => error instanceof LockHeld && error.pid === process.pid,
  );
  assert.deepEqual(told, [process.pid]);
  await release();
  await (await takeLock(path, 0, nothing))();
  assert.deepEqual(await readdir(folder), []);
});

test('many takers of a dead process’s lock: one at a time gets it', async () => {
  const path = join(folder, 'lock');
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  await writeFile(path, String(pid));
  let holding = 0;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      const release = await takeLock(path, 20_000, nothing);
      assert.equal(++holding, 1);
      await new Promise((resolve) => setTimeout(resolve, 5));
      holding--;
      await release();
    }),
  );
  assert.deepEqual(await readdir(folder), []);
});
