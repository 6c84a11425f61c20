/**
 * The local runtime's front door: joins each client's connection to one to the runtime, byte for byte.
 * It is there for one thing that the runtime does not notice by itself (and Cloudflare's network does for
 * it in production): a client that closes its connection while the answer is still being made. Such a
 * connection is reset towards the runtime, which aborts the request. Costs nothing measurable.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

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
  client.pipe(runtime, { end: false });
  runtime.pipe(client);
  const leave = () => runtime.resetAndDestroy();
  client.once('end', leave).once('close', leave);
  runtime.once('close', () => client.destroy());
  // 'close' follows an error, and is what counts.
  client.on('error', () => undefined);
  runtime.on('error', () => undefined);
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
}
