/** What the worker's log says of a call. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { done, generateRequest, playedEngine, startWorker } from './worker-double.ts';

test('each call is told of when it has ended, under the id and the trace that came with it, if they are well-formed', async () => {
  const engine = playedEngine(({ step }) => step({ type: 'finish', sequence: 0, reason: 'stop', text: '' }, done(3, 0)));
  await using worker = await startWorker(engine, null);
  const request = generateRequest({ input: { kind: 'completion', prompts: [[1, 2, 3]] } });
  const trace = '00-0123456789abcdef0123456789abcdef-0123456789abcdef-00';
  const headers = { 'x-request-id': request.request_id, traceparent: trace };
  await (await worker.generate(request, undefined, headers)).text();
  await (await worker.generate(request, undefined, { 'x-request-id': 'no\tid' })).text();
  await new Promise((resolve) => setTimeout(resolve, 10));
  const [first, second] = worker.calls;
  const { traceparent, ms, ...told } = first!;
  assert.deepEqual(told, { method: 'POST', path: '/generate', status: 200, complete: true, request_id: request.request_id });
  assert.ok(ms >= 0);
  assert.match(traceparent!, /^00-0123456789abcdef0123456789abcdef-[0-9a-f]{16}-00$/);
  assert.notEqual(traceparent, trace, 'the worker has a span of its own');
  assert.deepEqual([second!.request_id, second!.traceparent], [undefined, undefined]);
});
