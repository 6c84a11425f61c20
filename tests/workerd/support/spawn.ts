/** cli/edge.ts as a program of its own, to be killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ADMIN_KEY, S3_SECRET, SECRET } from './stack.ts';

export interface SpawnedEdge {
  url: string;
  child: ChildProcess;
  /** kill -9; resolves once the process is gone. */
  kill(): Promise<void>;
}

export async function spawnEdge(home: string): Promise<SpawnedEdge> {
  const child = spawn(process.execPath, [fileURLToPath(new URL('../../../cli/edge.ts', import.meta.url))], {
    env: {
      ...process.env,
      PORT: '0',
      SWITCHYARD_HOME: home,
      SWITCHYARD_SECRET: SECRET,
      SWITCHYARD_S3_SECRET: S3_SECRET,
      SWITCHYARD_ADMIN_KEY_HASH: createHash('sha256').update(ADMIN_KEY).digest('hex'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const { ready, url } = JSON.parse(line) as { ready: boolean; url: string };
  assert.equal(ready, true);
  return {
    url,
    child,
    async kill() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}
