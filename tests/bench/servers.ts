/** Our stack over HTTP beside llama.cpp's server with the same adapters, in turn, under the same requests. */

import { randomAdapter } from './support/adapters.ts';
import { openBase, randomText } from './support/base.ts';
import { type Call, closedLoop, type Load, openLoop, streamedBody } from './support/client.ts';
import { LlamaCpp, QUANTISATIONS } from './support/llama-cpp.ts';
import { LlamaServer } from './support/llama-server.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { BenchStack } from './support/stack.ts';
import { quantile, ratios, Samples } from './support/statistics.ts';
import { arrivals, conversation, zipf } from './support/workload.ts';

const HELP = `node tests/bench/servers.ts

Requests over HTTP to our stack and to llama-server (Q4_0, adapters loaded at its start), in turn:
  closed   16 clients, 128 prompt + 64 generated tokens each: without adapters, all on one, each on its own of 16
  open     arrivals of a Poisson process, lengths as in shared conversations, adapters by Zipf(1.0)
Adapters are random, rank 16 on all linears.
  --parts LIST      of these (all)
  --precision NAME  of ours (auto)
  --speculation S   auto or off (auto)
  --rate N          arrivals a second in the open loop (1)
  --peer NAME       Q4_0 or Q8_0 (Q4_0)
`;

const CLIENTS = 16;
const ADAPTERS = 16;
const RANK = 16;
const PROMPT = 128;
const GENERATED = 64;
const REQUESTS = 32;
const ROUNDS = 3;
const OPEN_REQUESTS = 60;
/** Of the lengths of shared conversations: on two cores their full length takes minutes. */
const OPEN_SCALE = 0.4;

type Scenario = 'none' | 'one' | 'each';
const SCENARIOS: readonly Scenario[] = ['none', 'one', 'each'];
/** Of generated tokens a second over llama-server's. */
const TARGETS: Partial<Record<Scenario, number>> = { none: 1.15, each: 2.2 };
/** Of the 99th percentile of times to first token, over llama-server's, with an adapter each. */
const FIRST_TOKEN_TARGET = 0.2;

const options = readOptions(HELP, ROUNDS, { parts: 'closed,open', precision: 'auto', speculation: 'auto', rate: '1', peer: 'Q4_0' });
const parts = listOf('--parts', options.own.parts, ['closed', 'open']);
const [quantisation] = listOf('--peer', options.own.peer, QUANTISATIONS);
const rate = Number(options.own.rate);

const report = await Report.start('servers', options);
const base = await openBase(options.base);
const peer = await LlamaCpp.setUp(base.path);
report.note(peer.build);
process.env['SWITCHYARD_PRECISION'] = options.own.precision;
process.env['SWITCHYARD_SPECULATION'] = options.own.speculation;
await using stack = await BenchStack.start(base.path);
for (let seed = 0; seed < ADAPTERS; seed++) await stack.upload(`adapter-${seed}`, randomAdapter(seed, base.modules, { rank: RANK }));
const baseId = (await stack.base()).id;
await using llama = await LlamaServer.start(peer, quantisation!, base, ADAPTERS, RANK);
// With adapters loaded it is several times slower even where none is asked for.
await using bareLlama = await LlamaServer.start(peer, quantisation!, base, 0, RANK);

/** `adapter`: its number, null for the bare base. */
const ours = (prompt: string, generated: number, adapter: number | null): Call => ({
  url: `${stack.url}/v1/completions`,
  headers: stack.headers,
  body: streamedBody(adapter === null ? baseId : `adapter-${adapter}`, prompt, generated),
});
const theirs = (prompt: string, generated: number, adapter: number | null): Call => ({
  url: `${adapter === null ? bareLlama.url : llama.url}/v1/completions`,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({
    ...JSON.parse(streamedBody('base', prompt, generated)),
    cache_prompt: false,
    ...(adapter === null ? {} : { lora: [{ id: adapter, scale: 1 }] }),
  }),
});
const SIDES = { ours, 'llama-server': theirs };

const random = new Random(7);
const samples = new Samples();
const note = (name: string, { speed, timings }: Load) => {
  const firsts = timings.map(({ firstMs }) => firstMs);
  samples.add(`${name}: generated`, speed);
  samples.add(`${name}: first token p50`, quantile(firsts, 0.5));
  samples.add(`${name}: first token p99`, quantile(firsts, 0.99));
  samples.add(
    `${name}: between chunks p99`,
    quantile(
      timings.flatMap(({ gapsMs }) => gapsMs),
      0.99,
    ),
  );
  report.progress(`${name}: ${speed.toFixed(0)} tok/s, first token p99 ${quantile(firsts, 0.99).toFixed(0)} ms`);
};

const adapterOf: Record<Scenario, (i: number) => number | null> = { none: () => null, one: () => 0, each: (i) => i % ADAPTERS };
const requests = options.quick ? CLIENTS : REQUESTS;

if (parts.includes('closed')) {
  for (let round = 0; round < options.rounds; round++) {
    for (const scenario of SCENARIOS) {
      for (const [side, call] of Object.entries(SIDES)) {
        const prompts = Array.from({ length: requests }, () => randomText(base.tokenizer, PROMPT, random));
        await report.quiet.pass();
        if (round === 0) await closedLoop(4, 4, (i) => call(prompts[i]!, 4, adapterOf[scenario](i)));
        note(`${side}, ${scenario}`, await closedLoop(CLIENTS, requests, (i) => call(prompts[i]!, GENERATED, adapterOf[scenario](i))));
      }
    }
  }
  for (const scenario of SCENARIOS)
    compare(`16 clients, ${scenario}`, scenario, TARGETS[scenario], scenario === 'each' ? FIRST_TOKEN_TARGET : undefined);
  for (const [scenario, atLeast] of [
    ['one', 0.9],
    ['each', 0.75],
  ] as const) {
    const over = ratios(samples.of(`ours, ${scenario}: generated`), samples.of('ours, none: generated'));
    report.add({ name: `16 clients, ours, ${scenario} / none`, unit: '×', samples: over, target: { atLeast } });
  }
}

if (parts.includes('open')) {
  const popular = zipf(ADAPTERS, 1);
  for (let round = 0; round < options.rounds; round++) {
    const at = arrivals(random, rate, options.quick ? 5 : OPEN_REQUESTS);
    const work = at.map(() => {
      const { prompt, generated } = conversation(random, OPEN_SCALE);
      return { prompt: randomText(base.tokenizer, prompt, random), generated, adapter: popular(random) };
    });
    for (const [side, call] of Object.entries(SIDES)) {
      await report.quiet.pass();
      note(`${side}, open`, await openLoop(at, (i) => call(work[i]!.prompt, work[i]!.generated, work[i]!.adapter)));
    }
  }
  compare(`open loop, ${rate}/s`, 'open', undefined, undefined);
}

function compare(title: string, key: string, speedTarget: number | undefined, firstTarget: number | undefined): void {
  const of = (side: string, what: string) => samples.of(`${side}, ${key}: ${what}`);
  for (const side of Object.keys(SIDES)) {
    report.add({ name: `${title}, ${side}`, unit: 'tok/s', samples: of(side, 'generated') });
    for (const what of ['first token p50', 'first token p99', 'between chunks p99'])
      report.add({ name: `${title}, ${side}, ${what}`, unit: 'ms', samples: of(side, what) });
  }
  const over = (what: string) => ratios(of('ours', what), of('llama-server', what));
  report.add(
    {
      name: `${title}, ours / llama-server`,
      unit: '×',
      samples: over('generated'),
      ...(speedTarget ? { target: { atLeast: speedTarget } } : {}),
    },
    {
      name: `${title}, first token p99, ours / llama-server`,
      unit: '×',
      samples: over('first token p99'),
      ...(firstTarget ? { target: { atMost: firstTarget } } : {}),
    },
  );
}

await report.end();
