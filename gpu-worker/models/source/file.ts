/**
 * A weights file on disk, read by ranges. No descriptor is held between reads; a file that changed
 * since it was opened is refused, because its revision would no longer name its content.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { Failure } from '../../../shared/errors.ts';

export class SourceFile {
  readonly path: string;
  readonly bytes: number;
  readonly #modified: number;

  private constructor(path: string, bytes: number, modified: number) {
    this.path = path;
    this.bytes = bytes;
    this.#modified = modified;
  }

  static async open(path: string): Promise<SourceFile> {
    const info = await stat(path).catch((cause: unknown) => {
      throw new Failure(
        { kind: 'invalid_request', message: `open base ${path}: expected a readable file, got ${String(cause)}` },
        { cause },
      );
    });
    if (!info.isFile()) throw new Failure({ kind: 'invalid_request', message: `open base ${path}: expected a file, got something else` });
    return new SourceFile(path, info.size, info.mtimeMs);
  }

  /** `length` bytes from `offset`, in memory of their own. */
  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(length);
    const descriptor = openSync(this.path, 'r');
    try {
      const now = fstatSync(descriptor);
      if (now.size !== this.bytes || now.mtimeMs !== this.#modified) {
        throw new Failure({ kind: 'internal', message: `read base ${this.path}: the file changed after it was opened` });
      }
      let done = 0;
      while (done < length) {
        const count = readSync(descriptor, out, done, length - done, offset + done);
        if (count === 0) {
          const message = `read base ${this.path}: expected ${length} bytes at ${offset}, the file ends after ${done}`;
          throw new Failure({ kind: 'invalid_request', message });
        }
        done += count;
      }
    } finally {
      closeSync(descriptor);
    }
    return out;
  }

  async sha256(): Promise<string> {
    const hash = createHash('sha256');
    await pipeline(createReadStream(this.path, { highWaterMark: 1 << 20 }), hash);
    return hash.digest('hex');
  }
}
