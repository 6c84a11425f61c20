/** Thousands of registered adapters at one worker: does their number cost throughput, and is there a cliff? */
import { type AdapterShape, randomAdapter } from './support/adapters.ts';
import { openBase, randomText } from './support/base.ts';
import { closedLoop, streamedBody } from './support/client.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { BenchStack } from './support/stack.ts';
import { quantile, ratios, Samples } from './support/statistics.ts';
import { zipf } from './support/workload.ts';

const HELP = `node tests/bench/fleet.ts

  zipf      2,000 adapters of rank 8 on all linears, requests by Zipf(1.0), against 5 adapters of the same kind
  uniform   10,000 adapters of rank 4 on q and v, requests uniform over a growing working set, while host memory
            holds 5 % of them: throughput by size of the working set
16 clients, 128 prompt + 64 generated tokens. Registering the adapters takes most of the time.
  --parts LIST  of these (all)
  --adapters N  as many adapters instead
`;
const CLIENTS = 16;
const PROMPT = 128;
const GENERATED = 64;
const REQUESTS = 320;
const ROUNDS = 3;
const UPLOADS = 4;
const FEW = 5;
const MEGABYTE = 1e6;

const options = readOptions(HELP, ROUNDS, { parts: 'zipf,uniform', adapters: '' });
const parts = listOf('--parts', options.own.parts, ['zipf', 'uniform']);
const requests = options.quick ? 32 : REQUESTS;

const report = await Report.start('fleet', options);
const base = await openBase(options.base);
const random = new Random(5);
const samples = new Samples();

async function register(stack: BenchStack, count: number, shape: AdapterShape): Promise<void> {
  let next = 0;
  const uploader = async () => {
    while (next < count) {
      const seed = next++;
      await stack.upload(`adapter-${seed}`, randomAdapter(seed, base.modules, shape));
      if (seed % 500 === 499) report.progress(`${seed + 1} of ${count} adapters registered`);
    }
  };
  await Promise.all(Array.from({ length: UPLOADS }, uploader));
}

async function measure(stack: BenchStack, name: string, adapter: () => number): Promise<void> {
  await report.quiet.pass();
  const { speed, timings } = await closedLoop(CLIENTS, requests, () => ({
    url: `${stack.url}/v1/completions`,
    headers: stack.headers,
    body: streamedBody(`adapter-${adapter()}`, randomText(base.tokenizer, PROMPT, random), GENERATED),
  }));
  const first = quantile(
    timings.map(({ firstMs }) => firstMs),
    0.99,
  );
  samples.add(name, speed);
  samples.add(`${name}: first token p99`, first);
  report.progress(`${name}: ${speed.toFixed(0)} tok/s, first token p99 ${first.toFixed(0)} ms`);
}

if (parts.includes('zipf')) {
  const count = Number(options.own.adapters || (options.quick ? 20 : 2000));
  await using stack = await BenchStack.start(base.path);
  await register(stack, count, { rank: 8 });
  const [few, many] = [zipf(FEW, 1), zipf(count, 1)];
  await measure(stack, 'warm-up', () => many(random));
  for (let round = 0; round < options.rounds; round++) {
    await measure(stack, `${FEW} adapters`, () => few(random));
    await measure(stack, `${count} adapters`, () => many(random));
  }
  const of = (n: number, what = '') => samples.of(`${n} adapters${what}`);
  const first = ': first token p99';
  report.add(
    { name: `${FEW} adapters, rank 8, Zipf`, unit: 'tok/s', samples: of(FEW) },
    { name: `${count} adapters, rank 8, Zipf`, unit: 'tok/s', samples: of(count) },
    { name: `${count} / ${FEW} adapters`, unit: '×', samples: ratios(of(count), of(FEW)), target: { atLeast: 0.95 } },
    { name: `${FEW} adapters, first token p99`, unit: 'ms', samples: of(FEW, first) },
    { name: `${count} adapters, first token p99`, unit: 'ms', samples: of(count, first) },
    {
      name: `${count} / ${FEW} adapters, first token p99`,
      unit: '×',
      samples: ratios(of(count, first), of(FEW, first)),
      target: { atMost: 2 },
    },
  );
}

if (parts.includes('uniform')) {
  const count = Number(options.own.adapters || (options.quick ? 40 : 10_000));
  const shape = { rank: 4, targets: ['q_proj', 'v_proj'] };
  const values = [...base.modules.linears].reduce(
    (sum, [module, { in: width, out }]) => sum + (/[qv]_proj$/.test(module) ? (width + out) * shape.rank : 0),
    0,
  );
  const imageBytes = values * 2;
  process.env['SWITCHYARD_ADAPTER_MEMORY_MB'] = String(Math.max(1, Math.round((count * 0.05 * imageBytes) / MEGABYTE)));
  await using stack = await BenchStack.start(base.path);
  await register(stack, count, shape);
  const sizes = [0.001, 0.025, 0.05, 0.1, 0.25, 0.5, 1].map((share) => Math.max(1, Math.round(count * share)));
  report.note(`host memory for ${Math.round(count * 0.05)} of ${count} adapters (${process.env['SWITCHYARD_ADAPTER_MEMORY_MB']} MB)`);
  await measure(stack, 'warm-up', () => random.below(sizes[0]!));
  for (let round = 0; round < options.rounds; round++)
    for (const size of sizes) await measure(stack, `working set ${size}`, () => random.below(size));
  for (const size of sizes) {
    report.add(
      { name: `working set of ${size} adapters`, unit: 'tok/s', samples: samples.of(`working set ${size}`) },
      { name: `working set of ${size}, first token p99`, unit: 'ms', samples: samples.of(`working set ${size}: first token p99`) },
    );
  }
  delete process.env['SWITCHYARD_ADAPTER_MEMORY_MB'];
}
await report.end();
