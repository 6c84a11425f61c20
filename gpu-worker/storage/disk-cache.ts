/**
 * Sealed adapters on local disk, named by digest. A cache only: bytes are checked against their name
 * at every read, a damaged file counts as absent, and the folder may be deleted while the worker is
 * stopped.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomId } from '../../shared/ids.ts';

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export interface DiskCache {
  get(digest: string): Promise<Uint8Array | null>;
  put(digest: string, bytes: Uint8Array): Promise<void>;
}

/** At most `limit` bytes are kept; the files used longest ago go first. */
export async function openDiskCache(folder: string, limit: number): Promise<DiskCache> {
  await mkdir(folder, { recursive: true });
  const sizes = new Map<string, number>();
  const found = await Promise.all((await readdir(folder)).map(async (name) => ({ name, info: await stat(join(folder, name)) })));
  for (const { name, info } of found.sort((a, b) => a.info.mtimeMs - b.info.mtimeMs)) {
    // Temporary files of a process that was killed while writing.
    if (name.endsWith('.tmp')) await rm(join(folder, name), { force: true });
    else sizes.set(name, info.size);
  }
  let total = [...sizes.values()].reduce((sum, size) => sum + size, 0);

  const forget = async (digest: string) => {
    total -= sizes.get(digest) ?? 0;
    sizes.delete(digest);
    await rm(join(folder, digest), { force: true });
  };
  /** A Map keeps insertion order: the first entry is the one used longest ago. */
  const touch = (digest: string, size: number) => {
    total += size - (sizes.get(digest) ?? 0);
    sizes.delete(digest);
    sizes.set(digest, size);
  };

  return {
    async get(digest) {
      if (!sizes.has(digest)) return null;
      const bytes = await readFile(join(folder, digest)).catch(() => null);
      if (bytes === null || sha256(bytes) !== digest) {
        await forget(digest);
        return null;
      }
      touch(digest, bytes.length);
      const now = new Date();
      await utimes(join(folder, digest), now, now);
      return bytes;
    },
    async put(digest, bytes) {
      const temporary = join(folder, `${digest}-${randomId(6)}.tmp`);
      await writeFile(temporary, bytes);
      await rename(temporary, join(folder, digest));
      touch(digest, bytes.length);
      for (const oldest of sizes.keys()) {
        if (total <= limit || oldest === digest) break;
        await forget(oldest);
      }
    },
  };
}
