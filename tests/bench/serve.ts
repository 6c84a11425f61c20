/** The whole stack over HTTP, edge and worker as `npm start` runs them, against the engine alone and the worker alone. */
import { firstToken } from './serve/first-token.ts';
import type { Bench } from './serve/parts.ts';
import { swap } from './serve/swap.ts';
import { throughput } from './serve/throughput.ts';
import { randomAdapter } from './support/adapters.ts';
import { openBase } from './support/base.ts';
import { PRECISIONS } from './support/engine.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { BenchStack } from './support/stack.ts';

const HELP = `node tests/bench/serve.ts

Starts a stack on a home and ports of its own and uploads 16 random adapters (rank 16, all linears). Then:
  throughput   tokens/s of 1, 4, 8, 16 streams (128 prompt + 64 generated tokens), bare and each with its own
               adapter, against the engine alone on prompts of the same length
  first-token  what the edge adds to a worker's time to first token; when a stream's first chunk arrives
  swap         first token with an adapter that is not in memory, over bare: after cache/ was deleted and the stack
               restarted, and with more adapters than host memory holds
  --parts LIST      of these (all)
  --precision NAME  int4, int8 or fp32 (int8)
`;

const PARTS: Record<string, (bench: Bench) => Promise<void>> = { throughput, 'first-token': firstToken, swap };
const ROUNDS = 5;
const ADAPTERS = 16;

const options = readOptions(HELP, ROUNDS, { parts: Object.keys(PARTS).join(','), precision: 'int8' });
const parts = listOf('--parts', options.own.parts, Object.keys(PARTS));
const [precision] = listOf('--precision', options.own.precision, PRECISIONS);

const report = await Report.start('serve', options);
const base = await openBase(options.base);
process.env['SWITCHYARD_PRECISION'] = precision;
await using stack = await BenchStack.start(base.path);
const adapters: string[] = [];
for (let seed = 0; seed < ADAPTERS; seed++) {
  const name = `adapter-${seed}`;
  await stack.upload(name, randomAdapter(seed, base.modules));
  adapters.push(name);
}
const bench: Bench = { stack, base, precision: precision!, adapters, options, random: new Random(3), report };
for (const part of parts) await PARTS[part]!(bench);
await report.end();
