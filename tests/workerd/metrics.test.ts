/** /metrics: the pages of all workers as one, with whatever some of them answer, for the administrator only. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { after, before, test } from 'node:test';
import { Peer } from './support/peer.ts';
import { type Stack, startStack } from './support/stack.ts';

let stack: Stack;
const peers: Peer[] = [];
before(async () => {
  stack = await startStack();
});
after(async () => {
  await Promise.all(peers.map((peer) => peer.stop()));
  await stack.stop();
});

async function join(name: string, onMetrics: Peer['onMetrics']): Promise<void> {
  const peer = await Peer.start(stack.edge.url, name);
  peer.onMetrics = onMetrics;
  peers.push(peer);
}
const page =
  (...lines: string[]) =>
  (res: ServerResponse) =>
    res.writeHead(200, { 'content-type': 'text/plain; version=0.0.4' }).end(`${lines.join('\n')}\n`);

async function scrape(): Promise<string[]> {
  const { status, headers, text } = await stack.admin.get('/metrics');
  assert.equal(status, 200, text);
  assert.equal(headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  assert.ok(text.endsWith('\n'));
  return text.slice(0, -1).split('\n');
}
const own = (live: number, unreachable: number) => [
  '# HELP switchyard_workers_live Workers whose last heartbeat is recent',
  '# TYPE switchyard_workers_live gauge',
  `switchyard_workers_live ${live}`,
  '# HELP switchyard_workers_unreachable Live workers whose metrics could not be read; they are missing here',
  '# TYPE switchyard_workers_unreachable gauge',
  `switchyard_workers_unreachable ${unreachable}`,
];

test('without a worker there are only the edge’s own gauges', async () => {
  assert.deepEqual(await scrape(), own(0, 0));
});

test('only the administrator reads it', async () => {
  const tenant = await stack.newTenant();
  assert.equal((await stack.nobody.get('/metrics')).status, 401);
  assert.equal((await tenant.get('/metrics')).status, 403);
});

test('it is in the API description, as text', async () => {
  const { body } = await stack.nobody.get('/openapi.json');
  assert.deepEqual(Object.keys(body.paths['/metrics'].get.responses[200].content), ['text/plain']);
});

test('pages become one: a family once, its samples together, each with its worker; silent and strange workers are counted', async () => {
  const histogram = (count: number) => [
    '# HELP wait_seconds Time in the queue',
    '# TYPE wait_seconds histogram',
    `wait_seconds_bucket{le="0.1",base="a, {b} \\"c\\""} ${count}`,
    `wait_seconds_bucket{le="+Inf",base="a, {b} \\"c\\""} ${count}`,
    `wait_seconds_sum ${count / 2}`,
    `wait_seconds_count ${count}`,
  ];
  await join('one', page('# HELP sessions Runtime sessions', '# TYPE sessions gauge', 'sessions{base="b"} 3', '', ...histogram(2)));
  await join(
    'two "2"',
    page(
      ...histogram(4),
      '# HELP sessions Sessions, as a newer worker says it',
      '# TYPE sessions gauge',
      'sessions{base="b"} NaN',
      '# TYPE requests_total counter',
      'bare 1.5e3 1700000000000',
      '# a remark',
    ),
  );
  const one = 'worker="one"';
  const two = 'worker="two \\"2\\""';
  const base = 'base="a, {b} \\"c\\""';
  const whole = [
    '# HELP sessions Runtime sessions',
    '# TYPE sessions gauge',
    `sessions{${one},base="b"} 3`,
    `sessions{${two},base="b"} NaN`,
    '# HELP wait_seconds Time in the queue',
    '# TYPE wait_seconds histogram',
    `wait_seconds_bucket{${one},le="0.1",${base}} 2`,
    `wait_seconds_bucket{${one},le="+Inf",${base}} 2`,
    `wait_seconds_sum{${one}} 1`,
    `wait_seconds_count{${one}} 2`,
    `wait_seconds_bucket{${two},le="0.1",${base}} 4`,
    `wait_seconds_bucket{${two},le="+Inf",${base}} 4`,
    `wait_seconds_sum{${two}} 2`,
    `wait_seconds_count{${two}} 4`,
    '# TYPE requests_total counter',
    '# TYPE bare untyped',
    `bare{${two}} 1.5e3 1700000000000`,
  ];
  assert.deepEqual(await scrape(), [...own(2, 0), ...whole]);

  await join('x-broken', (res) => res.destroy());
  await join('x-failing', (res) => res.writeHead(500).end('sessions 1\n'));
  await join('x-other-type', page('extra 1', '# TYPE sessions counter', 'sessions 1'));
  await join('x-silent', () => undefined);
  await join('x-strange', page('sessions 1', '<html>'));
  const began = performance.now();
  assert.deepEqual(await scrape(), [...own(7, 5), ...whole]);
  assert.ok(performance.now() - began < 5_000, 'a silent worker holds the page up for two seconds at most');
});
