/**
 * Adapter images on local disk, one file for each digest. A cache only: every read is checked, a damaged file counts
 * as absent, and the folder may be deleted while the worker is stopped. Reads and writes block: they are made on the
 * loader's thread, which is scheduled below the engine's.
 */
import { closeSync, fstatSync, openSync, readSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { randomId } from '../../shared/ids.ts';
import { GreedyDual } from './greedy-dual.ts';

/** Bytes read at a time. */
const SLICE = 1 << 20;
/** A fetch from object storage in milliseconds: 25, and 4 for each MB. */
const refetchMs = (bytes: number): number => 25 + bytes / 250_000;

export interface ImageDiskOptions {
  folder: string;
  /** Most bytes to keep. */
  limit: number;
  /** Whether the bytes are the undamaged image of the digest. */
  check: (image: ArrayBuffer, digest: string) => boolean;
}

export class ImageDisk {
  readonly #options: ImageDiskOptions;
  readonly #files = new GreedyDual();
  evictions = 0;
  /** Files that turned out not to be what their names say. */
  damaged = 0;

  private constructor(options: ImageDiskOptions) {
    this.#options = options;
  }

  static async open(options: ImageDiskOptions): Promise<ImageDisk> {
    const disk = new ImageDisk(options);
    const { folder } = options;
    await mkdir(folder, { recursive: true });
    const found = await Promise.all((await readdir(folder)).map(async (name) => ({ name, info: await stat(join(folder, name)) })));
    for (const { name, info } of found.sort((a, b) => a.info.mtimeMs - b.info.mtimeMs)) {
      // Temporary files of a process that was killed while writing.
      if (name.endsWith('.tmp')) await rm(join(folder, name), { force: true });
      else disk.#use(name, info.size);
    }
    await disk.#shrink();
    return disk;
  }

  get bytes(): number {
    return this.#files.bytes;
  }

  get size(): number {
    return this.#files.size;
  }

  async get(digest: string): Promise<ArrayBuffer | null> {
    const path = join(this.#options.folder, digest);
    const image = read(path);
    if (image && this.#options.check(image, digest)) {
      this.#use(digest, image.byteLength);
      const now = new Date();
      await utimes(path, now, now).catch(() => {});
      return image;
    }
    if (image) this.damaged++;
    this.#files.remove(digest);
    rmSync(path, { force: true });
    return null;
  }

  async put(digest: string, image: ArrayBuffer): Promise<void> {
    const { folder, limit } = this.#options;
    if (image.byteLength > limit) return;
    const temporary = join(folder, `${digest}-${randomId(6)}.tmp`);
    // Asynchronously each part of it would wait for a thread of the pool: four times as long for 10 MB.
    writeFileSync(temporary, new Uint8Array(image));
    renameSync(temporary, join(folder, digest));
    this.#use(digest, image.byteLength);
    await this.#shrink(digest);
  }

  #use(digest: string, bytes: number): void {
    this.#files.add(digest, bytes, refetchMs(bytes));
    this.#files.use(digest);
  }

  async #shrink(keep?: string): Promise<void> {
    while (this.#files.bytes > this.#options.limit) {
      const victim = this.#files.evict((digest) => digest !== keep);
      if (victim === null) return;
      this.evictions++;
      await rm(join(this.#options.folder, victim), { force: true });
    }
  }
}

/** The file's bytes, null without such a file. */
function read(path: string): ArrayBuffer | null {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  try {
    const bytes = new Uint8Array(fstatSync(file).size);
    let at = 0;
    for (let got = -1; got !== 0 && at < bytes.length; at += got) got = readSync(file, bytes, at, Math.min(SLICE, bytes.length - at), at);
    return bytes.buffer;
  } finally {
    closeSync(file);
  }
}
