/** How a stack starts, shares a home and leaves. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT } from '../../cli/home.ts';
import { BASE, BASE_FILE, eventually, TestStack as Stack, type TestStack } from './stack.ts';

let stack: TestStack;
before(async () => {
  stack = await Stack.start();
});
after(() => stack[Symbol.asyncDispose]());

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('keys and secrets are readable by their owner only', async () => {
  for (const name of ['admin.key', 'secrets.json']) assert.equal((await stat(join(stack.home, name))).mode & 0o777, 0o600, name);
});

test('a second stack on the same home refuses after fifteen seconds and names who holds it', async () => {
  const { supervisor } = await stack.run();
  const began = Date.now();
  const { code, output } = await stack.launchSecond();
  assert.equal(code, 1);
  assert.match(output, new RegExp(`process ${supervisor.pid} still runs a stack on`));
  assert.ok(Date.now() - began > 14_000);
});

test('the worker refuses whoever is not the edge', async () => {
  const { url } = (await stack.run()).workers[0]!;
  for (const [method, path] of [
    ['POST', '/generate'],
    ['POST', '/seal'],
    ['GET', '/totals'],
  ] as const) {
    assert.equal((await fetch(url + path, { method })).status, 401, path);
  }
  assert.equal((await fetch(`${url}/health`)).status, 200);
  assert.match(await (await fetch(`${url}/metrics`)).text(), /switchyard_engine_sessions\{/);
});

test('a killed supervisor leaves no process behind and its home is free', async () => {
  const run = await stack.run();
  process.kill(run.supervisor.pid, 'SIGKILL');
  for (const { pid } of [run.edge!, ...run.workers]) await eventually(`process ${pid} ends`, 10_000, async () => !isAlive(pid));
  await stack.launch();
  assert.notEqual((await stack.run()).supervisor.pid, run.supervisor.pid);
});

test('repeated SIGTERM ends everything once, with exit code 0', async () => {
  const run = await stack.run();
  assert.equal(await stack.stop(), 0);
  for (const { pid } of [run.edge!, ...run.workers]) assert.equal(isAlive(pid), false);
  assert.equal(existsSync(join(stack.home, 'run.json')), false);
});

test('two bases: listed in the order given, one of them without a tokenizer', async () => {
  const tiny = join(ROOT, 'tests', 'fixtures', 'families', 'llama');
  await using two = await Stack.start({ SWITCHYARD_BASE: `${tiny},${BASE_FILE}` });
  const { client } = await two.tenant();
  const ids: string[] = [];
  for await (const { id } of await client.models.list()) ids.push(id);
  assert.deepEqual(ids, ['llama', BASE]);
  const answer = await client.completions.create({ model: 'llama', prompt: [1, 2, 3], max_tokens: 2, echo: true, logprobs: 1 });
  const { text, logprobs } = answer.choices[0]!;
  assert.equal(text, '');
  assert.deepEqual(logprobs?.tokens?.slice(0, 3), ['token_id:1', 'token_id:2', 'token_id:3']);
  await assert.rejects(client.completions.create({ model: 'llama', prompt: 'text' }), /no tokenizer/);
});

test('a base that cannot be opened ends the start with its reason', async () => {
  await assert.rejects(
    Stack.start({ SWITCHYARD_PRECISION: 'int3' }),
    /npm start ended with 1: .*precision "int3": expected auto, fp32, int8 or int4/s,
  );
});
