/** Trained adapters through the front door: every container, answers equal to the reference, tenants apart. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { zipSync } from 'fflate';
import { pack } from 'tar-stream';
import { adapterFiles, BASE, TestStack as Stack, type TestStack, type TestTenant, type Validation, validationOf } from './stack.ts';

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  // Reference values are fp32's.
  stack = await Stack.start({ SWITCHYARD_PRECISION: 'fp32' });
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

interface NamedBytes {
  name: string;
  bytes: Uint8Array;
}

async function tarOf(files: NamedBytes[]): Promise<Uint8Array> {
  const archive = pack();
  for (const { name, bytes } of files) archive.entry({ name }, Buffer.from(bytes));
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

/** Each trained adapter comes in another container. */
const CONTAINERS: Record<string, (files: NamedBytes[]) => Promise<NamedBytes[]>> = {
  tickets: async (files) => files,
  pirate: async (files) => [{ name: 'pirate.zip', bytes: zipSync(Object.fromEntries(files.map(({ name, bytes }) => [name, bytes]))) }],
  commands: async (files) => [{ name: 'commands.tar', bytes: await tarOf(files) }],
  sentiment: async (files) => files,
};

/** Four at a time, so that different adapters share steps. */
async function answers(model: string, cases: Validation[]): Promise<string[]> {
  const texts: string[] = [];
  for (let i = 0; i < cases.length; i += 4) {
    const batch = cases.slice(i, i + 4).map(async ({ messages }) => {
      const answer = await tenant.client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 24 });
      return answer.choices[0]!.message.content ?? '';
    });
    texts.push(...(await Promise.all(batch)));
  }
  return texts;
}

test('four trained adapters, uploaded in every container, give the reference’s validation outputs side by side', async () => {
  const names = Object.keys(CONTAINERS);
  const digests = await Promise.all(
    names.map(async (name) => (await stack.upload(tenant, name, await CONTAINERS[name]!(await adapterFiles(name)))).digest),
  );
  assert.equal(new Set(digests).size, names.length);
  const models: string[] = [];
  for await (const { id } of await tenant.client.models.list()) models.push(id);
  assert.deepEqual(models.sort(), [BASE, ...names].sort());
  await Promise.all(
    names.map(async (name) => {
      const cases = await validationOf(name);
      assert.deepEqual(
        await answers(name, cases),
        cases.map(({ adapter }) => adapter.text),
        name,
      );
    }),
  );
  const row = await stack.settled(tenant);
  assert.ok(row.settled > 0);
});

test('the same package sealed again has the same digest', async () => {
  const other = await stack.tenant('other');
  const files = await adapterFiles('sentiment');
  const first = await stack.upload(other, 'a', files);
  const second = await stack.upload(other, 'b', files);
  assert.equal(first.digest, second.digest);
});

test('another tenant sees nothing of it', async () => {
  const other = await stack.tenant('stranger');
  const response = await stack.call('/v1/adapters/tickets', other.key);
  assert.equal(response.status, 404);
  await assert.rejects(other.client.chat.completions.create({ model: 'tickets', messages: [{ role: 'user', content: 'hi' }] }), /tickets/);
});

test('a package that is not honoured is refused by name and leaves no adapter', async () => {
  const files = (await adapterFiles('tickets')).map(({ name, bytes }) => {
    if (name !== 'adapter_config.json') return { name, bytes };
    const config = JSON.parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>;
    return { name, bytes: Buffer.from(JSON.stringify({ ...config, use_dora: true })) };
  });
  await assert.rejects(stack.upload(tenant, 'dora', files), /adapter_rejected.*use_dora|use_dora.*adapter_rejected/s);
  assert.equal((await stack.call('/v1/adapters/dora', tenant.key)).status, 404);
});

test('after a restart without its caches an adapter answers from object storage', async () => {
  assert.equal(await stack.stop(), 0);
  await rm(join(stack.home, 'cache', 'images'), { recursive: true });
  await stack.launch();
  const [first] = await validationOf('tickets');
  assert.deepEqual(await answers('tickets', [first!]), [first!.adapter.text]);
});
