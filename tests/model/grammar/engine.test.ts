/** Answers of the real base that follow a grammar: JSON that fits its schema, whatever is drawn, drafted or running beside. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Grammar } from '../../../shared/contract/engine.ts';
import { Failure } from '../../../shared/errors.ts';
import { generate, open, requestOf, run } from '../../synthetic/engine/support.ts';
import { type GoldenPrompt, golden } from '../engine/support.ts';
import { basePath } from '../source/base-path.ts';

const prompts = golden<GoldenPrompt[]>('prompts.json').map(({ ids }) => ids);
const { engine, ...opened } = await open({ basePath: basePath(), precision: 'auto', context: 1024 });
after(() => opened[Symbol.asyncDispose]());

const SCHEMA = {
  type: 'object',
  properties: {
    title: { type: 'string', maxLength: 24 },
    mood: { enum: ['glad', 'sad', 'glum'] },
    score: { type: 'integer', minimum: 0, maximum: 100 },
    share: { type: 'number', minimum: 0, maximum: 1 },
    tags: { type: 'array', items: { enum: ['a', 'b', 'c'] }, minItems: 1, maxItems: 3 },
    day: { type: 'string', format: 'date' },
    note: { type: ['string', 'null'], maxLength: 12 },
  },
  required: ['title', 'mood', 'score', 'share', 'tags', 'day', 'note'],
  additionalProperties: false,
};
const grammar: Grammar = { kind: 'json_schema', schema: JSON.stringify(SCHEMA) };
const fits = new Ajv2020({ formats: { date: /^\d{4}-\d\d-\d\d$/ } }).compile(SCHEMA);
await engine.prepareGrammar(grammar, 'tenant');
await engine.prepareGrammar({ kind: 'json_object' }, 'tenant');

test('greedy and drawn answers fit the schema and end of themselves', { timeout: 300_000 }, async () => {
  const options = [{ temperature: 0 }, { temperature: 1, seed: 1 }, { temperature: 2, seed: 2 }];
  const answers = prompts
    .slice(0, 4)
    .flatMap((prompt) => options.map((option) => generate(engine, prompt, { ...option, grammar, maxTokens: 400 })));
  for (const { text, reason } of await Promise.all(answers)) {
    assert.equal(reason, 'stop', text);
    assert.ok(fits(JSON.parse(text)), `${text}: ${JSON.stringify(fits.errors)}`);
  }
});

test('any JSON object for json_object, unless the answer is cut off', { timeout: 300_000 }, async () => {
  const request = requestOf([prompts[0]!], { n: 4, temperature: 0.8, seed: 3, grammar: { kind: 'json_object' }, maxTokens: 120 });
  for (const { text, reason } of (await run(engine, request)).sequences) {
    assert.ok(text.startsWith('{'), text);
    if (reason === 'stop') assert.equal(typeof JSON.parse(text), 'object');
  }
});

test('an answer is the same alone, beside others and after a pause', { timeout: 300_000 }, async () => {
  const ask = () => generate(engine, prompts[1]!, { grammar, temperature: 1, seed: 7, logprobs: 2, maxTokens: 200 });
  const alone = await ask();
  const others = prompts.slice(0, 5).map((prompt, i) => generate(engine, prompt, { maxTokens: 60, ...(i % 2 ? { grammar } : {}) }));
  assert.deepEqual(await ask(), alone);
  await Promise.all(others);
});

test('without speculation it is the same too', { timeout: 300_000 }, async () => {
  await using plain = await open({ basePath: basePath(), precision: 'auto', context: 1024, speculation: false });
  await plain.engine.prepareGrammar(grammar, 'tenant');
  const ask = (of: typeof engine) => generate(of, prompts[2]!, { grammar, maxTokens: 200 });
  const [drafted, undrafted] = [await ask(engine), await ask(plain.engine)];
  assert.deepEqual(drafted, undrafted);
});

test('hostile schemas are refused by name, and soon; others go on meanwhile', { timeout: 120_000 }, async () => {
  const hostile = [
    { type: 'string', pattern: '^((((a{1,1000}){1,1000}){1,1000}b?){1,1000})$' },
    { type: 'string', pattern: '(a|b)*a(a|b){30}' },
    { anyOf: Array.from({ length: 6000 }, () => ({ type: 'null' })) },
    { $ref: '#' },
    { type: 'array', items: { type: 'string', not: {} } },
  ];
  const answer = generate(engine, prompts[3]!, { grammar, maxTokens: 200 });
  const refusals = hostile.map((schema, i) =>
    assert.rejects(
      engine.prepareGrammar({ kind: 'json_schema', schema: JSON.stringify(schema) }, `tenant-${i}`),
      (error: unknown) => error instanceof Failure && /^response_format: /.test(error.message),
      JSON.stringify(schema).slice(0, 100),
    ),
  );
  await Promise.all(refusals);
  assert.ok(fits(JSON.parse((await answer).text)));
});

test('ignore_eos beside a grammar is refused', () => {
  assert.throws(() => engine.submit(requestOf([prompts[0]!], { grammar, ignoreEos: true }), () => undefined), Failure);
});
