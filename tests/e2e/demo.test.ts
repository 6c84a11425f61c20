/** `npm run demo`'s program: the main job from nothing to an invoice. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { link, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { HOME, ROOT } from '../../cli/home.ts';
import { freePort } from '../../cli/supervisor.ts';

test('the demo uploads, streams, prints receipts, usage and invoice, and exits 0', async () => {
  const home = await mkdtemp(join(tmpdir(), 'switchyard-demo-'));
  try {
    const base = process.env['SWITCHYARD_TEST_BASE'];
    assert.ok(base, 'SWITCHYARD_TEST_BASE names the base');
    await mkdir(join(home, 'models'));
    await mkdir(join(home, 'cache'));
    await mkdir(join(HOME, 'cache', 'bases'), { recursive: true });
    await symlink(join(HOME, 'cache', 'bases'), join(home, 'cache', 'bases'));
    await link(base, join(home, 'models', 'SmolLM2-135M-Instruct.Q4_1.gguf')).catch(() =>
      symlink(base, join(home, 'models', 'SmolLM2-135M-Instruct.Q4_1.gguf')),
    );
    const env = { ...process.env, SWITCHYARD_HOME: home, PORT: String(await freePort()), WORKER_PORT: String(await freePort()) };
    const { stdout } = await promisify(execFile)(process.execPath, [join(ROOT, 'cli', 'demo.ts')], { env });
    assert.match(stdout, /tickets: \{"queue":"billing","priority":"low"\}/);
    assert.match(stdout, /pirate: Arr, matey! Cairo/);
    assert.equal(stdout.match(/receipt: req_/g)?.length, 3);
    assert.match(stdout, /total +3 requests/);
    assert.match(stdout, /total +\$0\.\d{9} usd/);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
});
