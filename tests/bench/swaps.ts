/**
 * Right answers while adapters come and go: thousands of random swaps under load, and uploads, new versions,
 * deletions and re-uploads under the same names, each answer held against what that adapter says alone.
 */
import { randomAdapter } from './support/adapters.ts';
import { openBase, randomText } from './support/base.ts';
import { streamedBody } from './support/client.ts';
import { listOf, readOptions } from './support/options.ts';
import { Random } from './support/random.ts';
import { Report } from './support/report.ts';
import { BenchStack } from './support/stack.ts';

const HELP = `node tests/bench/swaps.ts

24 random adapters whose answers differ, host memory for a few of them, 16 clients, greedy, 8 tokens:
  random  every request names another adapter, at random; each answer is compared with the adapter's own, alone
  churn   meanwhile names are uploaded, get new versions, are deleted and uploaded again: an answer must be that of
          a version which the name had between the request's start and its end
  --parts LIST  of these (all)
  --swaps N     requests of the first part (10000; --quick: 200)
  --seconds N   of the second part (120; --quick: 10)
`;
const ADAPTERS = 24;
const CLIENTS = 16;
const PROMPTS = 4;
const PROMPT = 24;
const GENERATED = 8;
/** Strong enough that no two adapters answer alike. */
const SHAPE = { rank: 8, amplitude: 0.15 };
const MEMORY_MB = 30;

const options = readOptions(HELP, 1, { parts: 'random,churn', swaps: '', seconds: '' });
const parts = listOf('--parts', options.own.parts, ['random', 'churn']);
const swaps = Number(options.own.swaps || (options.quick ? 200 : 10_000));
const seconds = Number(options.own.seconds || (options.quick ? 10 : 120));

const report = await Report.start('swaps', options);
const base = await openBase(options.base);
process.env['SWITCHYARD_ADAPTER_MEMORY_MB'] = String(MEMORY_MB);
await using stack = await BenchStack.start(base.path);
const random = new Random(13);
const prompts = Array.from({ length: PROMPTS }, () => randomText(base.tokenizer, PROMPT, random));

/** The streamed answer's token ids, as text; null when the name is unknown. */
async function ask(model: string, prompt: number): Promise<string | null> {
  const body = JSON.stringify({ ...JSON.parse(streamedBody(model, prompts[prompt]!, GENERATED)), return_token_ids: true });
  const response = await fetch(`${stack.url}/v1/completions`, { method: 'POST', headers: stack.headers, body });
  const text = await response.text();
  if (response.status === 404) return null;
  if (!response.ok || !text.endsWith('data: [DONE]\n\n')) throw new Error(`${model}: ${response.status} ${text.slice(-300)}`);
  return [...text.matchAll(/"token_ids":\[([\d,]*)\]/g)]
    .map((match) => match[1])
    .filter(Boolean)
    .join(',');
}

const packages = Array.from({ length: ADAPTERS }, (_, seed) => randomAdapter(seed, base.modules, SHAPE));

/** What the adapter of each seed answers to each prompt when nobody else asks: [seed][prompt]. */
const alone: string[][] = [];
for (let seed = 0; seed < ADAPTERS; seed++) {
  await stack.upload(`own-${seed}`, packages[seed]!);
  const answers: string[] = [];
  for (let prompt = 0; prompt < PROMPTS; prompt++) answers.push((await ask(`own-${seed}`, prompt))!);
  alone.push(answers);
}
const different = new Set(alone.map((answers) => answers.join(';'))).size;
report.note(`${different} of ${ADAPTERS} adapters answer differently from all others`);

if (parts.includes('random')) {
  let wrong = 0;
  let sent = 0;
  const began = performance.now();
  const client = async () => {
    while (sent < swaps) {
      sent++;
      const [seed, prompt] = [random.below(ADAPTERS), random.below(PROMPTS)];
      if ((await ask(`own-${seed}`, prompt)) !== alone[seed]![prompt]) wrong++;
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  report.progress(`${sent} requests in ${((performance.now() - began) / 1000).toFixed(0)} s, ${wrong} wrong`);
  report.add({ name: `wrong answers of ${sent}`, unit: '', samples: [wrong], target: { atMost: 0 } });
}

if (parts.includes('churn')) {
  /** Seeds that a name may answer with now; null: it may be unknown. */
  const current = Array.from({ length: ADAPTERS }, (): Set<number | null> => new Set([null]));
  const until = performance.now() + seconds * 1000;
  let [changes, answers, stale, refused] = [0, 0, 0, 0];

  /** One name's life: while a change is under way both the old and the new answer are right. */
  const owner = async (name: number) => {
    let exists = false;
    while (performance.now() < until) {
      const seed = random.below(ADAPTERS);
      const remove: boolean = exists && random.below(3) === 0;
      current[name]!.add(remove ? null : seed);
      if (remove) await stack.remove(`name-${name}`);
      else if (exists) await stack.upload(`name-${name}`, packages[seed]!, 'version');
      else await stack.upload(`name-${name}`, packages[seed]!);
      current[name] = new Set([remove ? null : seed]);
      exists = !remove;
      changes++;
      await new Promise((resolve) => setTimeout(resolve, random.below(2000)));
    }
  };
  const client = async () => {
    while (performance.now() < until) {
      const [name, prompt] = [random.below(ADAPTERS), random.below(PROMPTS)];
      const before = current[name]!;
      const known = [...before];
      const answer = await ask(`name-${name}`, prompt);
      // Whatever the name meant from the request's start to its end is right.
      const possible = new Set([...known, ...before, ...current[name]!]);
      const right = answer === null ? possible.has(null) : [...possible].some((seed) => seed !== null && alone[seed]![prompt] === answer);
      // A name that changed twice meanwhile has meanings that nobody noted.
      if (!right && current[name] === before) stale++;
      if (answer === null) refused++;
      answers++;
    }
  };
  await Promise.all([...Array.from({ length: ADAPTERS }, (_, name) => owner(name)), ...Array.from({ length: CLIENTS }, client)]);
  report.note(`churn: ${changes} changes of ${ADAPTERS} names, ${answers} answers, of which ${refused} said that the name is unknown`);
  report.add({ name: `stale answers of ${answers}`, unit: '', samples: [stale], target: { atMost: 0 } });
}
await report.end();
