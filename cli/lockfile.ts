/**
 * A lock between processes of one machine: a file that holds its owner's pid. A lock whose owner is
 * dead is free. Taking it is one hard link, so the file never exists without its content.
 */
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomId } from '../shared/ids.ts';

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

async function holderOf(path: string): Promise<number | null> {
  try {
    return Number(await readFile(path, 'utf8'));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** One attempt. Answers the pid of a living holder, or null when the lock is ours now. */
async function attempt(path: string): Promise<number | null> {
  const mine = `${path}.${process.pid}-${randomId(6)}`;
  await writeFile(mine, String(process.pid));
  try {
    for (;;) {
      try {
        await link(mine, path);
        return null;
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error;
      }
      const holder = await holderOf(path);
      if (holder === null) continue;
      if (holder > 0 && isAlive(holder)) return holder;
      // Several may find the same dead holder: one who moved away a newer owner's lock puts it back.
      const stale = `${mine}.stale`;
      await rename(path, stale).catch((error: unknown) => {
        if (codeOf(error) !== 'ENOENT') throw error;
      });
      const moved = await holderOf(stale);
      if (moved !== null && moved !== holder) await link(stale, path);
      await rm(stale, { force: true });
    }
  } finally {
    await rm(mine, { force: true });
  }
}

export class LockHeld extends Error {
  readonly pid: number;
  constructor(path: string, pid: number) {
    super(`${path} is held by process ${pid}`);
    this.name = 'LockHeld';
    this.pid = pid;
  }
}

/** Takes the lock at `path`, waiting up to `waitMs` for a living holder; then throws LockHeld. Answers its release. */
export async function takeLock(path: string, waitMs: number, onWait: (pid: number) => void): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  const deadline = Date.now() + waitMs;
  for (let told = false; ; told = true) {
    const holder = await attempt(path);
    if (holder === null) return () => rm(path, { force: true });
    if (Date.now() >= deadline) throw new LockHeld(path, holder);
    if (!told) onWait(holder);
    await sleep(200);
  }
}
