/**
 * The local runtime's front door: joins each client's connection to one to the runtime, byte for byte. It
 * does two things that Cloudflare's network does in production and the runtime alone does not:
 *
 * - A client that closes its connection while the answer is still being made is noticed: the connection
 *   is reset towards the runtime, which aborts the request.
 * - `Expect: 100-continue` is answered, or uploads by curl wait for one second and by AWS's SDK for six.
 *
 * It costs nothing measurable.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

const HEAD_END = Buffer.from('\r\n\r\n');

export interface Front {
  port: number;
  stop(): Promise<void>;
}

/** Listens on 127.0.0.1. Rejects when the port is taken. */
export async function openFront(port: number, runtimePort: number): Promise<Front> {
  const open = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    open.add(client);
    join(client, connect({ host: '127.0.0.1', port: runtimePort, noDelay: true }));
    client.once('close', () => open.delete(client));
  });
  await listen(server, port);
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : port,
    stop() {
      for (const client of open) client.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function join(client: Socket, runtime: Socket): void {
  client.on('data', (chunk) => {
    if (expectsContinue(chunk)) client.write('HTTP/1.1 100 Continue\r\n\r\n');
  });
  client.pipe(runtime, { end: false });
  runtime.pipe(client);
  const leave = () => runtime.resetAndDestroy();
  client.once('end', leave).once('close', leave);
  runtime.once('close', () => client.destroy());
  // 'close' follows an error, and is what counts.
  client.on('error', () => undefined);
  runtime.on('error', () => undefined);
}

/** A client that waits sends the head of its request and stops: the head is a chunk of its own. */
export function expectsContinue(chunk: Buffer): boolean {
  if (chunk.length > 16_384 || !chunk.subarray(-4).equals(HEAD_END)) return false;
  const head = chunk.toString('latin1');
  return /^(POST|PUT) \S+ HTTP\/1\.1\r\n/.test(head) && /\r\nexpect: *100-continue\r\n/i.test(head);
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
}
