/**
 * What each precision costs in quality: perplexity through the engine (echo with logprobs, one window) and the
 * root mean square difference of log-probabilities, on the reference text and on a second one.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../../cli/home.ts';
import { decodeFloats } from '../../shared/adapters/floats.ts';
import { readSafetensors } from '../../shared/adapters/safetensors.ts';
import { type BenchBase, openBase } from './support/base.ts';
import { BenchEngine, PRECISIONS } from './support/engine.ts';
import { listOf, readOptions } from './support/options.ts';
import { Report } from './support/report.ts';

const HELP = `node tests/bench/quality.ts

Perplexity of each precision over one window of tokens, and its distance from fp32: on the reference text from the
reference's own log-probabilities, on the second text from our fp32.
  --precision LIST  int4, int8, fp32 (all)
  --text FILE       second text (the trained adapters' validation prompts and answers)
  --tokens N        most tokens of the second text (2000)
`;

const FIXTURES = join(ROOT, 'tests', 'fixtures', 'smollm2');
const TOLERANCE_PERCENT = 1;

interface Text {
  name: string;
  ids: number[];
  /** log p(ids[t + 1] | ids[..t]) of the reference; null: ours in fp32 is the reference. */
  reference: Float32Array | null;
}

async function referenceText(base: BenchBase): Promise<Text> {
  const ids = base.tokenizer.encode(await readFile(join(FIXTURES, 'perplexity_text.txt'), 'utf8'));
  const file = join(FIXTURES, 'perplexity.safetensors');
  const { tensors } = readSafetensors(new Uint8Array(await readFile(file)), file);
  const logprobs = tensors.get('logprobs');
  if (!logprobs) throw new Error(`${file} has no tensor "logprobs"`);
  const reference = decodeFloats('F32', logprobs.data);
  return { name: 'reference text', ids: ids.slice(0, reference.length + 1), reference };
}

interface Validation {
  messages: { content: string }[];
  expected: string;
}

async function secondText(base: BenchBase, file: string, tokens: number): Promise<Text> {
  if (file !== '') return { name: file, ids: base.tokenizer.encode(await readFile(file, 'utf8')).slice(0, tokens), reference: null };
  let text = '';
  for (const adapter of ['commands', 'pirate', 'sentiment', 'tickets']) {
    const cases = JSON.parse(await readFile(join(FIXTURES, 'adapters', adapter, 'val_outputs.json'), 'utf8')) as Validation[];
    for (const { messages, expected } of cases) text += `${messages.map(({ content }) => content).join('\n')}\n${expected}\n\n`;
  }
  return { name: 'validation texts', ids: base.tokenizer.encode(text).slice(0, tokens), reference: null };
}

/** log p of every token but the first. */
async function logprobsOf(engine: BenchEngine, ids: number[]): Promise<number[]> {
  let found: number[] | null = null;
  await engine.run({ prompt: ids, adapters: [] }, { maxTokens: 0, echo: true, logprobs: 0 }, (event) => {
    if (event.type === 'prompt') found = event.logprobs?.slice(1).map((entry) => entry!.logprob) ?? null;
  });
  if (!found) throw new Error('the engine reported no log-probabilities of the prompt');
  return found;
}

const perplexity = (logprobs: ArrayLike<number>): number => Math.exp(-Array.from(logprobs).reduce((a, b) => a + b, 0) / logprobs.length);

function rmsDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`expected ${b.length} log-probabilities, got ${a.length}`);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(sum / a.length);
}

const options = readOptions(HELP, 1, { precision: 'fp32,int8,int4', text: '', tokens: '2000' });
const report = await Report.start('quality', options);
const base = await openBase(options.base);
const asked = listOf('--precision', options.own.precision, PRECISIONS);
// fp32 first: it is the reference of the second text.
const precisions = PRECISIONS.filter((precision) => precision === 'fp32' || asked.includes(precision));
const texts = [await referenceText(base), await secondText(base, options.own.text, Number(options.own.tokens))];
if (options.quick)
  for (const text of texts) Object.assign(text, { ids: text.ids.slice(0, 257), reference: text.reference?.slice(0, 256) ?? null });

for (const precision of precisions) {
  await using engine = await BenchEngine.open(base, precision);
  for (const text of texts) {
    report.progress(`${precision} on ${text.name}: ${text.ids.length} tokens`);
    const logprobs = await logprobsOf(engine, text.ids);
    text.reference ??= Float32Array.from(logprobs);
    const value = perplexity(logprobs);
    const reference = perplexity(text.reference);
    const of = `${precision}, ${text.name} (${text.ids.length} tokens)`;
    report.add(
      { name: `perplexity ${of}`, unit: '', samples: [value] },
      { name: '  of the reference', unit: '', samples: [reference] },
      { name: '  over the reference', unit: '%', samples: [100 * (value / reference - 1)], target: { atMost: TOLERANCE_PERCENT } },
      { name: '  rms difference of log p', unit: '', samples: [rmsDifference(logprobs, text.reference)] },
    );
  }
}
await report.end();
