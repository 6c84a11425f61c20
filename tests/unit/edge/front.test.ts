/** The local front door: bytes pass unchanged, and each side learns that the other has gone. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { expectsContinue, type Front, openFront } from '../../../cli/edge-front.ts';

let runtime: Server;
let front: Front;
let accepted: Promise<Socket>;
beforeEach(async () => {
  runtime = createServer().listen(0, '127.0.0.1');
  await once(runtime, 'listening');
  accepted = once(runtime, 'connection').then(([socket]) => (socket as Socket).on('error', () => undefined));
  front = await openFront(0, (runtime.address() as { port: number }).port);
});
afterEach(async () => {
  await front.stop(); // and with it every connection to the runtime
  runtime.close();
});

const client = () => connect(front.port, '127.0.0.1').on('error', () => undefined);

test('bytes pass in both directions', async () => {
  const near = client();
  const far = await accepted;
  near.write('ping');
  assert.equal(String((await once(far, 'data'))[0]), 'ping');
  far.write('pong');
  assert.equal(String((await once(near, 'data'))[0]), 'pong');
  near.destroy();
});

test('a client that leaves resets the connection to the runtime', async () => {
  const near = client();
  near.write('x');
  const far = await accepted;
  const failed = once(far, 'error');
  await once(far, 'data');
  near.destroy();
  assert.equal(((await failed)[0] as NodeJS.ErrnoException).code, 'ECONNRESET');
});

test('when the runtime ends a connection the client gets what was sent, then the end', async () => {
  const near = client();
  near.write('x');
  const far = await accepted;
  far.end('last words');
  assert.equal(String((await once(near, 'data'))[0]), 'last words');
  await once(near, 'close');
});

test('a head that asks for 100 Continue gets it, and still reaches the runtime', async () => {
  const near = client();
  const head = 'PUT /x HTTP/1.1\r\nhost: h\r\nExpect: 100-continue\r\ncontent-length: 3\r\n\r\n';
  near.write(head);
  assert.equal(String((await once(near, 'data'))[0]), 'HTTP/1.1 100 Continue\r\n\r\n');
  assert.equal(String((await once(await accepted, 'data'))[0]), head);
  near.destroy();
});

test('nothing else is taken for such a head', () => {
  const no = [
    '',
    'GET / HTTP/1.1\r\nexpect: 100-continue\r\n\r\n',
    'POST / HTTP/1.1\r\nhost: h\r\n\r\n',
    'POST / HTTP/1.1\r\nexpect: 100-continue\r\n\r\nbody',
  ];
  for (const text of no) assert.equal(expectsContinue(Buffer.from(text)), false, text);
});
