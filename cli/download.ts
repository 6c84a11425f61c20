/**
 * One file over HTTP, with resume: bytes go to `<target>.part`, which a later attempt continues by a
 * Range request. A host that does not answer costs seconds. Checking the content is the caller's work.
 */
import { createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';

const CONNECT_TIMEOUT_MS = 3000;
const STALL_TIMEOUT_MS = 30_000;

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}

export async function download(url: string, part: string, size: number, onProgress: (bytes: number) => void): Promise<void> {
  const have = await sizeOf(part);
  if (have === size) return;
  const from = have < size ? have : 0;

  const abort = new AbortController();
  const give = (why: string) =>
    setTimeout(() => abort.abort(new Error(why)), why.startsWith('no answer') ? CONNECT_TIMEOUT_MS : STALL_TIMEOUT_MS);
  let timer = give(`no answer within ${CONNECT_TIMEOUT_MS / 1000} s`);
  try {
    const response = await fetch(url, { headers: from > 0 ? { range: `bytes=${from}-` } : {}, signal: abort.signal });
    if (!response.ok || !response.body) throw new Error(`HTTP ${response.status} ${response.statusText}`);
    const resumed = response.status === 206;
    let bytes = resumed ? from : 0;
    const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        clearTimeout(timer);
        timer = give(`no data for ${STALL_TIMEOUT_MS / 1000} s`);
        bytes += chunk.length;
        if (bytes > size) throw new Error(`expected ${size} bytes, got more`);
        onProgress(bytes);
        yield chunk;
      }
    };
    await pipeline(response.body, counted, createWriteStream(part, { flags: resumed ? 'a' : 'w' }));
    if (bytes !== size) throw new Error(`expected ${size} bytes, got ${bytes}`);
  } catch (error) {
    if (abort.signal.aborted) throw abort.signal.reason;
    // fetch hides what happened behind "fetch failed".
    throw error instanceof Error && error.cause instanceof Error ? error.cause : error;
  } finally {
    clearTimeout(timer);
  }
}
