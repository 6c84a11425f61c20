/** Adapter tiers through the front door: pins are loaded ahead, damaged caches are noticed, a name never answers as it used to. */
import assert from 'node:assert/strict';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT } from '../../cli/home.ts';
import { randomAdapter, TINY_LLAMA } from './random-adapter.ts';
import { eventually, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

const BASE = 'llama';
/** Of randomAdapter at its rank, in half floats. */
const IMAGE_BYTES = 115_000;

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start({ SWITCHYARD_BASE: join(ROOT, 'tests', 'fixtures', 'families', BASE), SWITCHYARD_ADAPTER_MEMORY_MB: '1' });
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const upload = (name: string, seed: number) => stack.upload(tenant, name, randomAdapter(seed, TINY_LLAMA), BASE);

/** What tells one adapter's answer from another's. */
async function ask(model: string): Promise<string> {
  const answer = await tenant.client.completions.create({
    model,
    prompt: [1, 2, 3, 4],
    max_tokens: 4,
    temperature: 0,
    logprobs: 1,
  });
  return JSON.stringify(answer.choices[0]!.logprobs);
}

async function metric(name: string): Promise<number> {
  const { url } = (await stack.run()).workers[0]!;
  const text = await (await fetch(`${url}/metrics`)).text();
  const value = new RegExp(`^switchyard_${name.replace(/[{}]/g, (brace) => (brace === '{' ? '\\{[^}]*' : '[^}]*\\}'))} (\\S+)$`, 'm').exec(
    text,
  )?.[1];
  assert.ok(value, `/metrics has ${name}`);
  return Number(value);
}

const images = async (): Promise<string[]> => {
  const root = join(stack.home, 'cache', 'images');
  const files = await readdir(root, { recursive: true, withFileTypes: true });
  return files.filter((file) => file.isFile()).map(({ parentPath, name }) => join(parentPath, name));
};

test('a pinned adapter is in memory before its first call, and stays while others come and go', async () => {
  await upload('pinned', 1);
  const pin = (method: string) =>
    stack.call('/v1/adapters/pinned/pin', tenant.key, {
      method,
      ...(method === 'POST' ? { headers: { 'content-type': 'application/json' }, body: '{"pinned":true}' } : {}),
    });
  assert.equal((await pin('POST')).status, 200);
  await eventually('the pin', 10_000, async () => (await metric('adapter_pinned{}')) === 1);
  const room = Math.floor(1e6 / IMAGE_BYTES);
  for (let i = 0; i < room + 3; i++) {
    await upload(`passing-${i}`, 10 + i);
    await ask(`passing-${i}`);
  }
  assert.ok((await metric('adapter_evictions_total{tier="memory"}')) >= 3);
  assert.equal(await metric('adapter_pinned{}'), 1);
  assert.equal((await pin('DELETE')).status, 200);
  await eventually('the end of the pin', 10_000, async () => (await metric('adapter_pinned{}')) === 0);
});

test('damage on disk is noticed and mended from storage; without the cache all is there again', async () => {
  const { digest } = await upload('mended', 100);
  const whole = await ask('mended');
  const mine = async () => (await images()).find((path) => path.endsWith(digest));
  const bytes = await readFile((await mine())!);
  assert.equal(await stack.stop(), 0);
  bytes[bytes.length >> 1]! ^= 0x40;
  await writeFile((await mine())!, bytes);
  await stack.launch();
  assert.equal(await ask('mended'), whole);
  assert.equal(await metric('adapter_damaged_files_total{}'), 1);
  assert.equal(await stack.stop(), 0);
  await rm(join(stack.home, 'cache', 'images'), { recursive: true });
  await stack.launch();
  assert.equal(await ask('mended'), whole);
  await eventually('the file', 5_000, mine);
});

test('new versions, deletion and another adapter under the same name: each call gets what the name means now', async () => {
  const solo: string[] = [];
  for (const seed of [200, 201, 202]) {
    await upload(`solo-${seed}`, seed);
    solo.push(await ask(`solo-${seed}`));
  }
  assert.equal(new Set(solo).size, 3);
  for (let round = 0; round < 4; round++) {
    await upload('name', 200);
    assert.equal(await ask('name'), solo[0]);
    const form = new FormData();
    for (const file of randomAdapter(201, TINY_LLAMA)) form.append('files', new Blob([Uint8Array.from(file.bytes)]), file.name);
    assert.equal((await stack.call('/v1/adapters/name/versions', tenant.key, { method: 'POST', body: form })).status, 201);
    assert.equal(await ask('name'), solo[1]);
    assert.equal(await ask('name@1'), solo[0]);
    assert.equal((await stack.call('/v1/adapters/name', tenant.key, { method: 'DELETE' })).status, 200);
    await assert.rejects(ask('name'), /404/);
    await upload('name', 202);
    assert.equal(await ask('name'), solo[2]);
    await stack.call('/v1/adapters/name', tenant.key, { method: 'DELETE' });
  }
});
