/** What an answer may be, as the engine has the grammar library read it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ebnfOf } from '../../../../gpu-worker/engine/grammar/schema/ebnf.ts';
import { readSchema } from '../../../../gpu-worker/engine/grammar/schema/read.ts';
import { structuralTag } from '../../../../gpu-worker/engine/grammar/structural-tag.ts';
import { loadXGrammar } from '../../../../gpu-worker/engine/grammar/xgrammar.ts';
import { grammarOf } from '../../../../gpu-worker/server/tools/grammar.ts';
import { offerOf } from '../../../../gpu-worker/server/tools/offer.ts';
import type { ResponseFormat } from '../../../../shared/contract/worker.ts';
import { failure } from '../../source/fixtures.ts';
import { type ChatInput, chatInput, clock, LLAMA, MISTRAL, PLAIN, QWEN, textWith, weather } from './fixtures.ts';

const { Grammar, Testings } = loadXGrammar().package;

const TEXT: ResponseFormat = { type: 'text' };
const tools = [weather, clock];
const oslo = '{"name": "get_weather", "arguments": {"city": "Oslo"}}';
const now = '{"name": "clock", "arguments": {}}';
const tagged = (object: string) => `<tool_call>\n${object}\n</tool_call>`;

const asked = (template: string, more: Partial<ChatInput>, format: ResponseFormat, special: string | null = null) =>
  grammarOf(format, offerOf(chatInput({ tools, ...more }), textWith(template, special)));

async function check(
  template: string,
  more: Partial<ChatInput>,
  accepted: string[],
  refused: string[],
  format = TEXT,
  special: string | null = null,
) {
  const grammar = asked(template, more, format, special);
  assert.equal(grammar?.kind, 'structural_tag');
  const compiled = await Grammar.fromStructuralTag(structuralTag(JSON.parse(grammar.tag), (schema) => ebnfOf(readSchema(schema))));
  for (const text of accepted) assert.ok(await Testings.isGrammarAcceptString(compiled, text), `refuses ${text}`);
  for (const text of refused) assert.ok(!(await Testings.isGrammarAcceptString(compiled, text)), `accepts ${text}`);
  compiled.dispose();
}

const wrongCity = tagged('{"name": "get_weather", "arguments": {"city": 5}}');
const unknown = tagged('{"name": "other", "arguments": {}}');

for (const template of [PLAIN, QWEN]) {
  test(`${template === PLAIN ? 'taught' : 'native'} tags: any text, and in it valid calls`, () =>
    check(
      template,
      {},
      ['', 'Hello <b>.', `Look. ${tagged(oslo)}`, `${tagged(oslo)}\n${tagged(now)}`, `${tagged(now)} ${tagged(oslo)} Done.`],
      [wrongCity, unknown, '<tool_call>x'],
    ));
}

test('one call at most', () =>
  check(
    PLAIN,
    { parallel_tool_calls: false },
    ['', 'Hello.', `Look. ${tagged(oslo)}`],
    [`${tagged(oslo)}\n${tagged(now)}`, `${tagged(now)} Done.`, wrongCity],
  ));

test('a call is required', () =>
  check(
    PLAIN,
    { tool_choice: { type: 'required' } },
    [tagged(oslo), `${tagged(oslo)}\n${tagged(now)}`],
    ['', 'Hello.', `Look. ${tagged(oslo)}`, `${tagged(now)}\n`, wrongCity],
  ));

test('one call is required', () =>
  check(
    PLAIN,
    { tool_choice: { type: 'required' }, parallel_tool_calls: false },
    [tagged(oslo), tagged(now)],
    ['', `${tagged(oslo)}\n${tagged(now)}`],
  ));

test('a call of one function is required', () =>
  check(PLAIN, { tool_choice: { type: 'function', name: 'clock' } }, [tagged(now)], [tagged(oslo), '', `${tagged(now)}\n${tagged(now)}`]));

test('an object, a call or calls', async () => {
  const schema = { type: 'object', properties: { z: { type: 'integer' } }, required: ['z'], additionalProperties: false };
  await check(PLAIN, {}, ['{"z": 1}', tagged(oslo), `${tagged(oslo)}\n${tagged(now)}`], ['hi', '{"z": "x"}', wrongCity], {
    type: 'json_schema',
    schema,
    strict: true,
  });
  await check(PLAIN, { parallel_tool_calls: false }, ['{"any": [1]}', tagged(oslo)], ['hi', '[1]', `${tagged(oslo)}\n${tagged(now)}`], {
    type: 'json_object',
  });
});

test('a bare object is the whole answer', async () => {
  const called = '{"name": "clock", "parameters": {}}';
  await check(LLAMA, {}, ['Hello.', called], ['{"name": "other", "parameters": {}}', `${called}; ${called}`]);
  await check(LLAMA, { tool_choice: { type: 'required' } }, [called], ['Hello.', '']);
});

test('after a special token that opens calls', async () => {
  const special = '[TOOL_CALLS]';
  await check(
    MISTRAL,
    { tool_choice: { type: 'required' } },
    [` [${oslo}]`, ` [${oslo}, ${now}]`],
    ['', `[TOOL_CALLS] [${oslo}]`, ' []'],
    TEXT,
    special,
  );
  assert.equal(asked(MISTRAL, {}, TEXT, special), null);
  assert.throws(() => asked(MISTRAL, {}, { type: 'json_object' }, special), failure('unsupported', /response_format beside tools/));
  assert.throws(
    () => asked(MISTRAL, { tools: [{ ...weather, strict: true }] }, TEXT, special),
    failure('unsupported', /only when a call is required/),
  );
});

test('without tools the format alone counts', () => {
  const none = { tools: [] };
  assert.equal(asked(PLAIN, none, TEXT), null);
  assert.deepEqual(asked(PLAIN, none, { type: 'json_object' }), { kind: 'json_object' });
  assert.deepEqual(asked(PLAIN, none, { type: 'json_schema', schema: { type: 'integer' }, strict: false }), {
    kind: 'json_schema',
    schema: '{"type":"integer"}',
  });
});

test('arguments of a tool that is not strict are an object, where its schema is more than a grammar can hold', async () => {
  const odd = { ...weather, parameters: { type: 'object', properties: { city: { type: 'string' } }, not: { required: ['x'] } } };
  const required = { tool_choice: { type: 'required' } as const };
  const called = (args: string) => tagged(`{"name": "get_weather", "arguments": ${args}}`);
  await check(PLAIN, { ...required, tools: [odd] }, [called('{"anything": [1]}')], [called('[1]')]);
  const strict = asked(PLAIN, { ...required, tools: [{ ...odd, strict: true }] }, TEXT);
  assert.ok(strict?.kind === 'structural_tag' && strict.tag.includes('"not"'), 'a strict one is left to be refused by name');
});

test('a schema that refers to its own parts stays whole beside others', async () => {
  const node = { type: 'object', properties: { next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } }, required: ['next'] };
  const linked = { ...clock, name: 'linked', parameters: { ...node, $defs: { node } } };
  const chain = tagged('{"name": "linked", "arguments": {"next": {"next": null}}}');
  await check(
    PLAIN,
    { tools: [weather, linked], tool_choice: { type: 'required' } },
    [chain, tagged(oslo), `${chain}\n${tagged(oslo)}\n${chain}`],
    [tagged('{"name": "linked", "arguments": {"next": 5}}'), wrongCity],
  );
  await check(
    LLAMA,
    { tools: [linked] },
    ['{"name": "linked", "parameters": {"next": null}}', 'No.'],
    ['{"name": "linked", "parameters": {}}'],
  );
});
