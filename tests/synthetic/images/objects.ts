/** Objects in memory behind S3's GET and PUT, as far as the worker's store uses them. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export async function startObjects() {
  const objects = new Map<string, Uint8Array>();
  const reads: string[] = [];
  const server = createServer(async (request, response) => {
    const key = new URL(request.url ?? '/', 'http://x').pathname.replace('/s3/switchyard/', '');
    if (request.method === 'PUT') {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      objects.set(key, Buffer.concat(chunks));
      return response.writeHead(200).end();
    }
    const object = objects.get(key);
    if (!object) return response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
    const [from, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!.slice(1).map(Number) as [number, number];
    if (from === 0) reads.push(key.slice(0, key.indexOf('/')));
    const part = object.subarray(from, last + 1);
    const range = `bytes ${from}-${from + part.length - 1}/${object.length}`;
    return response.writeHead(206, { 'content-length': part.length, 'content-range': range, etag: '"e"' }).end(part);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    /** The area of each object that was read since this was asked last. */
    taken: () => reads.splice(0),
    stop: () => server.close(),
  };
}
