/** The Worker that runs locally is the one that deploys: wrangler builds it from the same wrangler.toml. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../', import.meta.url));

test('wrangler deploy --dry-run passes, with every binding', async (t) => {
  const out = await mkdtemp(join(tmpdir(), 'switchyard-deploy-'));
  t.after(() => rm(out, { recursive: true, force: true }));
  const wrangler = join(root, 'node_modules/wrangler/bin/wrangler.js');
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [wrangler, 'deploy', '--dry-run', '--outdir', out, '--config', join(root, 'functions/wrangler.toml')],
    { cwd: root, env: { ...process.env, CI: '1', WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG_PATH: join(out, 'logs') } },
  );
  for (const binding of ['env.DB', 'env.BUCKET', 'env.FLEET', 'env.LEDGER', 'env.USAGE_QUEUE'])
    assert.ok(stdout.includes(binding), binding);
  assert.ok((await readdir(out)).includes('index.js'));
});
