/** Tools and answer formats on the real base: whatever it says, calls and objects are valid, and the official client's helpers read them. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import type { ChatCompletionTool } from 'openai/resources/chat/completions';
import { z } from 'zod';
import { BASE, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start();
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const CITIES = ['Oslo', 'Rome', 'Lima'] as const;
const Arguments = z.strictObject({ city: z.enum(CITIES), unit: z.enum(['celsius', 'fahrenheit']) });
const weather = (strict = true): ChatCompletionTool => ({
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The current weather in a city',
    strict,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', enum: CITIES }, unit: { type: 'string', enum: ['celsius', 'fahrenheit'] } },
      required: ['city', 'unit'],
      additionalProperties: false,
    },
  },
});
const clock: ChatCompletionTool = { type: 'function', function: { name: 'clock', description: 'The time' } };
const ask = {
  model: BASE,
  messages: [{ role: 'user' as const, content: 'What is the weather in Oslo?' }],
  temperature: 0,
  max_tokens: 120,
};

function argumentsOf(call: OpenAI.ChatCompletionMessageToolCall | undefined): unknown {
  assert.ok(call?.type === 'function');
  return JSON.parse(call.function.arguments);
}

test('a required call has a name that was offered and arguments that fit, whole and streamed alike', async () => {
  const forced = { ...ask, tools: [weather(), clock], tool_choice: { type: 'function' as const, function: { name: 'get_weather' } } };
  const whole = await tenant.client.chat.completions.create(forced);
  const { message, finish_reason } = whole.choices[0]!;
  assert.deepEqual([message.content, message.tool_calls?.length, finish_reason], [null, 1, 'tool_calls']);
  Arguments.parse(argumentsOf(message.tool_calls?.[0]));

  const streamed = await tenant.client.chat.completions.stream(forced).finalChatCompletion();
  const again = streamed.choices[0]!;
  assert.deepEqual(argumentsOf(again.message.tool_calls?.[0]), argumentsOf(message.tool_calls?.[0]));
  assert.equal(again.finish_reason, 'tool_calls');

  const any = await tenant.client.chat.completions.create({
    ...ask,
    tools: [weather(), clock],
    tool_choice: 'required',
    parallel_tool_calls: false,
  });
  const [call] = any.choices[0]!.message.tool_calls ?? [];
  assert.ok(call?.type === 'function' && ['get_weather', 'clock'].includes(call.function.name));
});

test('left to itself the base may call or talk; what it calls is valid, and no mark of a call is said', async () => {
  for (const seed of [1, 2, 3, 4]) {
    const answer: OpenAI.ChatCompletion = await tenant.client.chat.completions.create({
      ...ask,
      tools: [weather(false), clock],
      temperature: 1,
      seed,
    });
    const { message, finish_reason } = answer.choices[0]!;
    assert.doesNotMatch(message.content ?? '', /<tool_call>/);
    if (finish_reason === 'tool_calls') {
      for (const call of message.tool_calls ?? []) assert.ok(argumentsOf(call));
    }
    assert.equal(finish_reason === 'stop' && message.tool_calls !== undefined, false);
  }
});

test('a result goes back, and the conversation continues', async () => {
  const forced = await tenant.client.chat.completions.create({
    ...ask,
    tools: [weather()],
    tool_choice: 'required',
    parallel_tool_calls: false,
  });
  const { message } = forced.choices[0]!;
  const result = { role: 'tool' as const, tool_call_id: message.tool_calls![0]!.id, content: '{"degrees": -3, "sky": "clear"}' };
  const last = await tenant.client.chat.completions.create({
    ...ask,
    messages: [...ask.messages, message, result],
    tools: [weather()],
    tool_choice: 'none',
  });
  assert.ok(last.choices[0]?.message.content);
});

test('an answer fits its schema, whole, parsed and streamed', async () => {
  const Weather = z.strictObject({ city: z.enum(CITIES), degrees: z.int().min(-90).max(60), sky: z.enum(['clear', 'cloudy', 'rain']) });
  const response_format = zodResponseFormat(Weather, 'weather');
  const parsed = await tenant.client.chat.completions.parse({ ...ask, response_format });
  assert.ok(parsed.choices[0]?.message.parsed);
  assert.equal(parsed.choices[0].finish_reason, 'stop');
  Weather.parse(parsed.choices[0].message.parsed);
  const streamed = await tenant.client.chat.completions.stream({ ...ask, response_format }).finalChatCompletion();
  assert.deepEqual(streamed.choices[0]?.message.parsed, parsed.choices[0].message.parsed);
  const several = await tenant.client.chat.completions.create({ ...ask, response_format, temperature: 1, seed: 3, n: 3 });
  for (const choice of several.choices) Weather.parse(JSON.parse(choice.message.content ?? ''));
});

test('an answer that is any object', async () => {
  const answer = await tenant.client.chat.completions.create({
    ...{ ...ask, max_tokens: 400, response_format: { type: 'json_object' as const } },
    messages: [{ role: 'user', content: 'Answer with one short JSON object with the keys "city" and "country" for Oslo.' }],
  });
  const { message, finish_reason } = answer.choices[0]!;
  if (finish_reason === 'stop') assert.equal(typeof JSON.parse(message.content ?? ''), 'object');
  assert.match(message.content ?? '', /^\{/);
});

test('a schema that cannot be honoured is refused by name', async () => {
  const schema = { type: 'object', properties: { a: { type: 'array', uniqueItems: true } } };
  await assert.rejects(
    tenant.client.chat.completions.create({ ...ask, response_format: { type: 'json_schema', json_schema: { name: 'n', schema } } }),
    (error: unknown) => error instanceof OpenAI.BadRequestError && /uniqueItems/.test(error.message),
  );
});
