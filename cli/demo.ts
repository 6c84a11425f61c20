/**
 * `npm run demo`: the main job on real input. Starts everything embedded, makes a tenant, uploads two
 * adapters, streams from the base and from each through the official OpenAI client, and prints the
 * receipts, the usage and the invoice.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import OpenAI from 'openai';
import { z } from 'zod';
import { Invoice, UsageList } from '../shared/contract/billing.ts';
import { Receipt } from '../shared/contract/worker.ts';
import { DEFAULT_BASE, resolveBases } from './base.ts';
import { HOME, ROOT } from './home.ts';
import { portsFrom } from './ports.ts';
import { freePort, isPortFree, type Stack, startStack } from './supervisor.ts';

const HELP = `npm run demo

Shows the main job on this machine and exits. Uses SWITCHYARD_HOME, PORT and WORKER_PORT as npm start
does, and other ports where those are taken.
`;

const ADAPTERS = [
  { name: 'tickets', prompt: 'Ticket: My card was declined when paying for the Basic plan. No hurry at all.' },
  { name: 'pirate', prompt: 'Quick question. What is the capital of Egypt?' },
];

const say = (text: string) => process.stdout.write(text);
const heading = (text: string) => say(`\n── ${text} ${'─'.repeat(Math.max(3, 76 - text.length))}\n`);

async function call(url: string, key: string, path: string, init: RequestInit = {}): Promise<unknown> {
  const response = await fetch(url + path, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });
  const body = await response.text();
  if (!response.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${response.status} ${body}`);
  return JSON.parse(body);
}

async function createTenant(stack: Stack): Promise<string> {
  const body = await call(stack.url, stack.adminKey, '/v1/admin/tenants', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'demo' }),
  });
  const tenant = z.object({ id: z.string(), key: z.string() }).parse(body);
  say(`tenant ${tenant.id}\n`);
  return tenant.key;
}

const UploadedAdapter = z.object({ id: z.string(), digest: z.string(), card: z.object({ rank: z.number(), parameters: z.number() }) });

async function upload(stack: Stack, key: string, name: string): Promise<void> {
  const form = new FormData();
  form.set('name', name);
  form.set('base', DEFAULT_BASE);
  for (const file of ['adapter_config.json', 'adapter_model.safetensors']) {
    form.append('files', new Blob([await readFile(join(ROOT, 'examples', 'adapters', name, file))]), file);
  }
  const began = performance.now();
  const adapter = UploadedAdapter.parse(await call(stack.url, key, '/v1/adapters', { method: 'POST', body: form }));
  const { rank, parameters } = adapter.card;
  const took = (performance.now() - began).toFixed(0);
  say(`${name}: rank ${rank}, ${(parameters / 1e6).toFixed(2)} M parameters, sealed as ${adapter.digest.slice(0, 16)}… in ${took} ms\n`);
}

async function stream(client: OpenAI, model: string, prompt: string): Promise<void> {
  heading(model);
  say(`user: ${prompt}\n${model}: `);
  const began = performance.now();
  let firstToken: number | null = null;
  let receipt: Receipt | null = null;
  const chunks = await client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: prompt }],
    max_tokens: 40,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  let tokens = 0;
  for await (const chunk of chunks) {
    firstToken ??= performance.now() - began;
    say(chunk.choices[0]?.delta.content ?? '');
    const extra = z.object({ switchyard: Receipt.optional() }).parse(chunk);
    receipt = extra.switchyard ?? receipt;
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  if (!receipt || firstToken === null) throw new Error(`the stream of ${model} ended without a receipt`);
  const adapters = receipt.adapters.map(({ digest, weight }) => `${digest.slice(0, 16)}… × ${weight}`).join(', ') || 'none';
  say(`\nreceipt: ${receipt.request_id} · base ${receipt.base_revision.slice(0, 16)}… (${receipt.precision}) · adapter ${adapters}\n`);
  say(
    `         worker ${receipt.worker} · ${tokens} tokens · first after ${firstToken.toFixed(0)} ms, all after ${(performance.now() - began).toFixed(0)} ms\n`,
  );
}

const usd = (nano: number) => `$${(nano / 1e9).toFixed(9)}`;

async function showBill(stack: Stack, key: string): Promise<void> {
  const usage = UsageList.parse(await call(stack.url, key, '/v1/usage?group_by=model'));
  heading('usage');
  for (const row of [...usage.data, { bucket: 'total', ...usage.total }]) {
    const counts = `${row.requests} requests, ${row.prompt_tokens} prompt + ${row.completion_tokens} completion tokens`;
    say(`${row.bucket.padEnd(24)} ${counts.padEnd(52)} ${usd(row.cost_nano)}\n`);
  }
  const month = new Date().toISOString().slice(0, 7);
  const invoice = Invoice.parse(await call(stack.url, key, `/v1/invoices/${month}`));
  heading(`invoice ${month}`);
  for (const line of invoice.lines) {
    const item = `${line.model} (${line.digest.slice(0, 12)}…) ${line.unit}`;
    say(`${item.padEnd(56)} ${String(line.quantity).padStart(5)} × ${line.price_nano} = ${usd(line.amount_nano)}\n`);
  }
  say(`${'total'.padEnd(56)} ${usd(invoice.amount_nano)} ${invoice.currency}\n`);
}

/** The ledger settles right after a response's end: usage is visible within two seconds. */
async function untilSettled(stack: Stack, key: string, requests: number): Promise<void> {
  const deadline = Date.now() + 5000;
  while (Date.now() < deadline) {
    const usage = UsageList.parse(await call(stack.url, key, '/v1/usage'));
    if (usage.total.requests >= requests) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the usage of ${requests} requests was not visible within 5 s`);
}

async function main(): Promise<void> {
  const stopping = new AbortController();
  for (const event of ['SIGINT', 'SIGTERM', 'SIGHUP', 'disconnect']) process.on(event, () => stopping.abort());
  const bases = await resolveBases(DEFAULT_BASE, HOME);
  const wanted = portsFrom(process.env);
  const port = (await isPortFree(wanted.port)) ? wanted.port : await freePort();
  const workerPort = (await isPortFree(wanted.workerPort)) ? wanted.workerPort : await freePort();
  say('starting the edge and one worker …\n');
  const stack = await startStack({ home: HOME, port, workerPort, bases, signal: stopping.signal });
  stopping.signal.addEventListener('abort', () => void stack.stop().then(() => process.exit(1)));
  try {
    say(`serving ${stack.url}/v1\n`);
    const key = await createTenant(stack);
    for (const { name } of ADAPTERS) await upload(stack, key, name);
    const client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: key });
    await stream(client, DEFAULT_BASE, ADAPTERS[0]!.prompt);
    for (const { name, prompt } of ADAPTERS) await stream(client, name, prompt);
    await untilSettled(stack, key, 1 + ADAPTERS.length);
    await showBill(stack, key);
  } finally {
    await stack.stop();
  }
}

if (process.argv.includes('--help')) say(HELP);
else {
  await main().catch((error: Error) => {
    process.stderr.write(`switchyard: ${error.message}\n`);
    process.exitCode = 1;
  });
  process.exit();
}
