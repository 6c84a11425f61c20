/** Mixed load for half an hour: memory must stay flat, and nothing may fail that was not meant to. */
import { readFile } from 'node:fs/promises';
import { randomAdapter } from './support/adapters.ts';
import { openBase, randomText } from './support/base.ts';
import { readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { BenchStack } from './support/stack.ts';
import { conversation, zipf } from './support/workload.ts';

const HELP = `node tests/bench/soak.ts

12 clients send chats, completions, schemas, tools, several choices, log-probabilities, requests that are broken off
and requests that must be refused, over 48 adapters of which host memory holds a third, while adapters are uploaded and
deleted. Resident memory of the worker is read every 10 s; its slope is taken over the second half.
  --minutes N  (30; --quick: 1)
`;
const CLIENTS = 12;
const ADAPTERS = 48;
const MEMORY_MB = 80;
const KV_MB = 400;
const SCALE = 0.25;
const SAMPLE_MS = 10_000;
const UPLOAD_EVERY_MS = 5000;

const options = readOptions(HELP, 1, { minutes: '' });
const minutes = Number(options.own.minutes || (options.quick ? 1 : 30));
const report = await Report.start('soak', options);
const base = await openBase(options.base);
process.env['SWITCHYARD_ADAPTER_MEMORY_MB'] = String(MEMORY_MB);
// Memory for keys and values fills once and stays: with little of it the rest shows sooner.
process.env['SWITCHYARD_KV_MB'] = String(KV_MB);
await using stack = await BenchStack.start(base.path);
for (let seed = 0; seed < ADAPTERS; seed++) await stack.upload(`adapter-${seed}`, randomAdapter(seed, base.modules, { rank: 8 }));
const baseId = (await stack.base()).id;
const random = new Random(17);
const popular = zipf(ADAPTERS, 1);
const until = performance.now() + minutes * 60_000;

const schema = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema } };
const tools = [{ type: 'function', function: { name: 'look_up', parameters: schema } }];
const text = (tokens: number) => randomText(base.tokenizer, tokens, random);
const chat = (more: object) => ({ path: '/v1/chat/completions', body: { messages: [{ role: 'user', content: text(40) }], ...more } });

interface Request {
  path: string;
  body: object;
}
/** Each sort of request with the status that it must get. */
const SORTS: [status: number, make: (prompt: string, tokens: number) => Request][] = [
  [200, (prompt, tokens) => ({ path: '/v1/completions', body: { prompt, max_tokens: tokens, stream: true } })],
  [
    200,
    (prompt, tokens) => ({
      path: '/v1/chat/completions',
      body: { messages: [{ role: 'user', content: prompt }], max_tokens: tokens, stream: true },
    }),
  ],
  [
    200,
    (prompt) => ({ path: '/v1/completions', body: { prompt, max_tokens: 8, n: 3, temperature: 1.1, top_p: 0.9, presence_penalty: 0.5 } }),
  ],
  [200, (prompt) => ({ path: '/v1/completions', body: { prompt, max_tokens: 8, logprobs: 5, echo: true } })],
  [200, () => chat({ max_tokens: 60, response_format: format })],
  [200, () => chat({ max_tokens: 60, tools, tool_choice: 'required' })],
  [400, (prompt) => ({ path: '/v1/completions', body: { prompt, max_tokens: 8, temperature: 9 } })],
  [400, () => chat({ max_tokens: 8, audio: { voice: 'none' } })],
  [404, (prompt) => ({ path: '/v1/completions', body: { model: 'no-such-adapter', prompt, max_tokens: 8 } })],
];

let [answered, brokenOff, unexpected] = [0, 0, 0];
const failures = new Map<string, number>();
const fail = (why: string) => {
  unexpected++;
  failures.set(why, (failures.get(why) ?? 0) + 1);
};

async function client(): Promise<void> {
  while (performance.now() < until) {
    const { prompt, generated } = conversation(random, SCALE);
    const [status, make] = SORTS[random.below(SORTS.length)]!;
    const { path, body } = make(text(prompt), generated);
    const model = random.below(3) === 0 ? baseId : `adapter-${popular(random)}`;
    const leaves = random.below(10) === 0 ? AbortSignal.timeout(50 + random.below(500)) : null;
    try {
      const response = await fetch(stack.url + path, {
        method: 'POST',
        headers: stack.headers,
        body: JSON.stringify({ model, ...body }),
        ...(leaves ? { signal: leaves } : {}),
      });
      const answer = await response.text();
      if (response.status !== status) fail(`${path}: expected ${status}, got ${response.status} ${answer.slice(0, 120)}`);
      else if (status === 200 && 'stream' in body && !answer.endsWith('data: [DONE]\n\n')) fail(`${path}: the stream broke off`);
      else answered++;
    } catch (error) {
      if (leaves?.aborted) brokenOff++;
      else fail(`${path}: ${String(error)}`);
    }
  }
}

async function uploader(): Promise<void> {
  for (let i = 0; performance.now() < until; i++) {
    await stack.upload('passing', randomAdapter(1000 + i, base.modules, { rank: 8 }));
    await stack.remove('passing');
    await new Promise((resolve) => setTimeout(resolve, UPLOAD_EVERY_MS));
  }
}

/** [minutes, megabytes] */
const memory: [number, number][] = [];
async function watch(): Promise<void> {
  const { workers } = JSON.parse(await readFile(`${stack.home}/run.json`, 'utf8')) as { workers: { pid: number }[] };
  const began = performance.now();
  while (performance.now() < until) {
    const status = await readFile(`/proc/${workers[0]!.pid}/status`, 'utf8');
    memory.push([(performance.now() - began) / 60_000, Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024]);
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
  }
}

/** Least squares. */
function slope(points: readonly [number, number][]): number {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const above = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0);
  return above / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
}

await Promise.all([watch(), uploader(), ...Array.from({ length: CLIENTS }, client)]);
const settled = memory.slice(Math.floor(memory.length / 2));
report.note(`${answered} requests got what they had to, ${brokenOff} were broken off by their client`);
for (const [why, times] of failures) report.note(`${times} × ${why}`);
report.note(
  `resident memory, MB: ${memory
    .filter((_, i) => i % 12 === 0)
    .map(([, mb]) => mb.toFixed(0))
    .join(' ')}`,
);
report.add(
  { name: 'unexpected answers', unit: '', samples: [unexpected], target: { atMost: 0 } },
  { name: 'resident memory, MB a minute', unit: '', samples: [slope(settled)], target: { atMost: 1 } },
);
await report.end();
