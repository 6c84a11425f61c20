/**
 * What grammars cost: compiling schemas of several sorts, and the engine thread's own time for each step's masks, while
 * the grammar thread makes them beside a step (as when serving) and with nothing to do meanwhile.
 */

import { Grammars } from '../../gpu-worker/engine/grammar/grammars.ts';
import { GrammarStates } from '../../gpu-worker/engine/grammar/states.ts';
import { TokenChooser } from '../../gpu-worker/engine/sampling/chooser.ts';
import { Random } from '../../gpu-worker/engine/sampling/random.ts';
import { openCheckpoint } from '../../gpu-worker/models/source/checkpoint.ts';
import type { Grammar } from '../../shared/contract/engine.ts';
import { requestOf } from '../synthetic/engine/requests.ts';
import { openBase } from './support/base.ts';
import { readOptions } from './support/options.ts';
import { Report } from './support/report.ts';

const HELP = `node tests/bench/grammar.ts

Milliseconds to prepare grammars (both times that they are compiled), and for choosing one token in each of 1 and 16
rows that follow a schema, greedy: whole, and what a choice without a grammar takes.
`;
/** About a step of 16 rows. */
const STEP_MS = 20;

const string = { type: 'string' };
const person = {
  type: 'object',
  properties: {
    name: string,
    age: { type: 'integer', minimum: 0, maximum: 150 },
    tags: { type: 'array', items: string },
    mood: { enum: ['glad', 'sad'] },
  },
  required: ['name', 'age', 'tags', 'mood'],
  additionalProperties: false,
};
const schema = (of: unknown): Grammar => ({ kind: 'json_schema', schema: JSON.stringify(of) });
const GRAMMARS: [string, Grammar][] = [
  ['any object', { kind: 'json_object' }],
  ['a small schema', schema(person)],
  [
    '200 optional properties',
    schema({ type: 'object', properties: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`key${i}`, string])) }),
  ],
  ['1,000 values', schema({ enum: Array.from({ length: 1000 }, (_, i) => `value number ${i * 7919}`) })],
  ['a string of up to 40 characters', schema({ type: 'string', maxLength: 40 })],
];
const TEXT = '{"name": "Jack Sparrow of the Caribbean", "age": 42, "tags": ["boat", "rum"], "mood": "glad"}';

const options = readOptions(HELP, 20, {});
const report = await Report.start('grammar', options);
const base = await openBase(options.base);
const { config } = await openCheckpoint(base.path);
const grammars = new Grammars({ basePath: base.path }, (error) => {
  throw error;
});
const states = new GrammarStates(grammars.port, config.vocab_size);

for (const [name, grammar] of GRAMMARS) {
  // The first starts the threads.
  if (grammar === GRAMMARS[0]![1]) await grammars.prepare(schema({ type: 'null' }), 'bench');
  await report.quiet.pass();
  const began = performance.now();
  await grammars.prepare(grammar, 'bench');
  report.add({ name: `prepare ${name}`, unit: 'ms', samples: [performance.now() - began] });
}

const logits = Float32Array.from({ length: config.vocab_size }, (_, i) => Math.sin(i * 12.9898));
const answer = base.tokenizer.encode(TEXT);
const nobody = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/** Milliseconds of the engine's thread in each step of `rows` rows that write the answer. A bias leads them through it. */
async function steps(rows: number, grammar: Grammar | null): Promise<number[]> {
  const options = requestOf([[0]]).sampling;
  const samples: number[] = [];
  const biased = logits.slice();
  const choosers = Array.from({ length: rows }, (_, i) => new TokenChooser(options, [], grammar && states.open(grammar), new Random(1, i)));
  for (const id of answer) {
    Atomics.wait(nobody, 0, 0, STEP_MS);
    biased.set(logits);
    biased[id] = 100;
    const began = performance.now();
    for (const chooser of choosers) {
      const choice = chooser.choose(biased);
      if (choice.type !== 'token' || choice.id !== id) throw new Error(`expected token ${id}, got ${JSON.stringify(choice)}`);
    }
    samples.push(performance.now() - began);
  }
  for (const chooser of choosers) chooser.close();
  return samples;
}

/** A tenth of a step, which takes about 6 ms with one row and 26 ms with sixteen. */
const TARGETS: Record<number, number> = { 1: 0.6, 16: 2.6 };
const small = GRAMMARS[1]![1];
for (const rows of [1, 16]) {
  const [free, held]: [number[], number[]] = [[], []];
  for (let round = 0; round < options.rounds; round++) {
    await report.quiet.pass();
    free.push(...(await steps(rows, null)));
    held.push(...(await steps(rows, small)));
  }
  report.add({ name: `choose for ${rows} rows`, unit: 'ms', samples: free });
  report.add({ name: `choose for ${rows} rows by a schema`, unit: 'ms', samples: held, target: { atMost: TARGETS[rows]! } });
  report.add({ name: `choose for ${rows} rows by a schema, 99 %`, unit: 'ms', samples: held, q: 0.99 });
}
await grammars.close();
await report.end();
