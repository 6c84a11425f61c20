/** Downloads resume where they broke off, and never take another length for whole. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { download } from '../../../cli/download.ts';

const CONTENT = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));

let folder: string;
let part: string;
let servers: Server[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'download-'));
  part = join(folder, 'file.part');
});
afterEach(async () => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  servers = [];
  await rm(folder, { recursive: true, force: true });
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`;
}

const get = (url: string) => download(url, part, CONTENT.length, () => {});

test('a broken download goes on where it was', async () => {
  const ranges: (string | undefined)[] = [];
  const url = await serve((request, response) => {
    ranges.push(request.headers.range);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': CONTENT.length - from });
    if (ranges.length > 1) response.end(CONTENT.subarray(from));
    else response.write(CONTENT.subarray(0, 100_000), () => setTimeout(() => response.destroy(), 50));
  });
  await assert.rejects(get(url));
  const have = (await readFile(part)).length;
  assert.ok(have > 0 && have <= 100_000);
  await get(url);
  assert.deepEqual(ranges, [undefined, `bytes=${have}-`]);
  assert.ok((await readFile(part)).equals(CONTENT));
});

test('a server without ranges starts again from the beginning', async () => {
  await writeFile(part, 'something else');
  await get(await serve((_request, response) => response.end(CONTENT)));
  assert.ok((await readFile(part)).equals(CONTENT));
});

test('another length is an error', async () => {
  await assert.rejects(get(await serve((_request, response) => response.end(CONTENT.subarray(1)))), /expected 300000 bytes, got 299999/);
  await rm(part);
  await assert.rejects(
    get(await serve((_request, response) => response.end(Buffer.concat([CONTENT, CONTENT])))),
    /expected 300000 bytes, got more/,
  );
});

test('an error answer and a host that does not answer are told apart, soon', async () => {
  const missing = await serve((_request, response) => response.writeHead(404).end());
  await assert.rejects(get(missing), /HTTP 404/);
  const began = Date.now();
  await assert.rejects(get(await serve(() => {})), /no answer within 3 s/);
  assert.ok(Date.now() - began < 5000);
});
