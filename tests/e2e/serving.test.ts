/**
 * Many adapters on one base, as it is served by default: answers do not depend on who shares a step,
 * adapters come and go while others stream, and the base's memory does not move.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { randomAdapter } from './random-adapter.ts';
import { adapterFiles, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

/** Sealed bytes in host memory: room for about twelve of the random adapters. */
const ADAPTER_MEMORY_MB = 5;

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start({ SWITCHYARD_ADAPTER_MEMORY_MB: String(ADAPTER_MEMORY_MB) });
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

/** Text and the logprob of every token and alternative, as streamed. */
async function generate(model: string): Promise<{ text: string; logprobs: unknown[] }> {
  const stream = await tenant.client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'Tell me about the sea, and about ships.' }],
    temperature: 0.8,
    seed: 7,
    max_tokens: 24,
    logprobs: true,
    top_logprobs: 3,
    stream: true,
  });
  const answer = { text: '', logprobs: [] as unknown[] };
  for await (const chunk of stream) {
    answer.text += chunk.choices[0]?.delta.content ?? '';
    answer.logprobs.push(...(chunk.choices[0]?.logprobs?.content ?? []));
  }
  return answer;
}

async function metric(name: string): Promise<number> {
  const { url } = (await stack.run()).workers[0]!;
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = new RegExp(`^switchyard_engine_${name}\\{[^}]*\\} (\\S+)$`, 'm').exec(text)?.[1];
  assert.ok(value, `/metrics has ${name}`);
  return Number(value);
}

test('eight streams on eight adapters are bit for bit what each gives alone, while others are uploaded and removed', async () => {
  const names = ['tickets', 'sentiment', 'a1', 'a2', 'a3', 'a4', 'a5', 'a6'];
  for (const [i, name] of names.entries()) await stack.upload(tenant, name, i < 2 ? await adapterFiles(name) : randomAdapter(i));
  const alone = [];
  for (const name of names) alone.push(await generate(name));
  assert.equal(new Set(alone.map((answer) => JSON.stringify(answer))).size, names.length, 'each adapter answers in its own way');

  let streaming = true;
  const churn = (async () => {
    for (let i = 0; streaming; i++) {
      await stack.upload(tenant, `passing-${i}`, randomAdapter(100 + i));
      await generate(`passing-${i}`);
      assert.equal((await stack.call(`/v1/adapters/passing-${i}`, tenant.key, { method: 'DELETE' })).status, 200);
    }
  })();
  try {
    for (let round = 0; round < 2; round++) assert.deepEqual(await Promise.all(names.map(generate)), alone);
  } finally {
    streaming = false;
    await churn;
  }
});

test('forty adapters through memory for twelve: all answer, sessions and base bytes stay as they were', async () => {
  const before = [await metric('sessions'), await metric('base_bytes'), await metric('kv_bytes')];
  const names = Array.from({ length: 40 }, (_, i) => `many-${i}`);
  for (const [i, name] of names.entries()) await stack.upload(tenant, name, randomAdapter(200 + i));
  const ask = async (name: string) => {
    const answer = await tenant.client.completions.create({ model: name, prompt: 'The sea', max_tokens: 2, temperature: 0 });
    return answer.choices[0]!.text;
  };
  const first: string[] = [];
  for (let i = 0; i < names.length; i += 8) first.push(...(await Promise.all(names.slice(i, i + 8).map(ask))));
  const resident = await metric('resident_adapters');
  assert.ok(resident < names.length, `${resident} of ${names.length} adapters are resident`);
  const again: string[] = [];
  for (const name of names) again.push(await ask(name));
  assert.deepEqual(again, first);
  const now = [await metric('sessions'), await metric('base_bytes'), await metric('kv_bytes')];
  assert.deepEqual(now, before);
  await stack.settled(tenant);
});
