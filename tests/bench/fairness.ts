/** Tokens that tenants get from one busy worker while one of them sends ten times what the others do. */
import { openBase, randomText } from './support/base.ts';
import { type Call, stream, streamedBody } from './support/client.ts';
import { readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { BenchStack } from './support/stack.ts';
import { jain } from './support/workload.ts';

const HELP = `node tests/bench/fairness.ts

Five tenants keep requests waiting at one worker for a while: four with 12 clients each, one with 120. Jain's index of
the tokens that each was given while all had something waiting, and the light tenants' times to first token.
  --seconds N  (60; --quick: 10)
`;
const LIGHT_TENANTS = 4;
const LIGHT_CLIENTS = 12;
const HEAVY_CLIENTS = 120;
const PROMPT = 64;
const GENERATED = 32;
const WARM_UP_MS = 5000;
const TARGET = 0.95;

const options = readOptions(HELP, 1, { seconds: '' });
const seconds = Number(options.own.seconds || (options.quick ? 10 : 60));
const report = await Report.start('fairness', options);
const base = await openBase(options.base);
await using stack = await BenchStack.start(base.path);
const baseId = (await stack.base()).id;
const random = new Random(11);
const tenants = await Promise.all(Array.from({ length: LIGHT_TENANTS + 1 }, (_, i) => stack.newTenant(`tenant-${i}`)));

const prompts = Array.from({ length: 64 }, () => randomText(base.tokenizer, PROMPT, random));
const from = performance.now() + WARM_UP_MS;
const until = from + seconds * 1000;
const served = tenants.map(() => 0);
const firsts = tenants.map((): number[] => []);
let refused = 0;

async function client(tenant: number): Promise<void> {
  while (performance.now() < until) {
    const call: Call = {
      url: `${stack.url}/v1/completions`,
      headers: { ...stack.headers, authorization: `Bearer ${tenants[tenant]!.key}` },
      body: streamedBody(baseId, `${random.below(1e9)} ${prompts[random.below(prompts.length)]}`, GENERATED),
    };
    const timing = await stream(call).catch((error: unknown) => {
      if (!String(error).includes(': 429 ')) throw error;
      refused++;
      return null;
    });
    if (!timing) await new Promise((resolve) => setTimeout(resolve, 1000));
    else if (performance.now() > from && performance.now() < until) {
      served[tenant]! += PROMPT + timing.tokens;
      firsts[tenant]!.push(timing.firstMs);
    }
  }
}

await report.quiet.pass();
await Promise.all(
  tenants.flatMap((_, tenant) => Array.from({ length: tenant < LIGHT_TENANTS ? LIGHT_CLIENTS : HEAVY_CLIENTS }, () => client(tenant))),
);
report.note(`tokens by tenant, the heavy one last: ${served.join(', ')}; ${refused} requests were told to come back later`);
report.add(
  { name: "Jain's index of tokens served", unit: '×', samples: [jain(served)], target: { atLeast: TARGET } },
  { name: 'light tenants, first token p50', unit: 'ms', samples: firsts.slice(0, LIGHT_TENANTS).flat() },
  { name: 'light tenants, first token p99', unit: 'ms', samples: firsts.slice(0, LIGHT_TENANTS).flat(), q: 0.99 },
  { name: 'heavy tenant, first token p50', unit: 'ms', samples: firsts[LIGHT_TENANTS]! },
);
await report.end();
