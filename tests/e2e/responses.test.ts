/** The responses API on the real base, through the official clients' helpers. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type OpenAI from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { ROOT } from '../../cli/home.ts';
import { BASE, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

const exec = promisify(execFile);

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start();
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const question = 'What is the capital of France?';
const ask = { model: BASE, input: question, temperature: 0, max_output_tokens: 60 };

const Weather = z.strictObject({ city: z.string().max(30), unit: z.enum(['celsius', 'fahrenheit']) });
const weather: OpenAI.Responses.FunctionTool = {
  type: 'function',
  name: 'get_weather',
  description: 'The current weather in a city',
  strict: true,
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', maxLength: 30 }, unit: { type: 'string', enum: ['celsius', 'fahrenheit'] } },
    required: ['city', 'unit'],
    additionalProperties: false,
  },
};

test('says what chat says, whole and streamed, with the same counts', async () => {
  const chat = await tenant.client.chat.completions.create({
    model: BASE,
    messages: [{ role: 'user', content: question }],
    temperature: 0,
    max_tokens: 60,
  });
  const whole = await tenant.client.responses.create(ask);
  const streamed = await tenant.client.responses.stream(ask).finalResponse();
  for (const answer of [whole, streamed]) {
    assert.equal(answer.output_text, chat.choices[0]?.message.content);
    assert.equal(answer.status, 'completed');
    assert.deepEqual([answer.usage?.input_tokens, answer.usage?.output_tokens], [chat.usage?.prompt_tokens, chat.usage?.completion_tokens]);
  }
  const cut = await tenant.client.responses.create({ ...ask, max_output_tokens: 2 });
  assert.deepEqual([cut.status, cut.incomplete_details?.reason, cut.usage?.output_tokens], ['incomplete', 'max_output_tokens', 2]);
});

test('a forced call, its result, and an answer that fits a schema', async () => {
  const forced = {
    ...ask,
    input: 'What is the weather in Oslo?',
    tools: [weather],
    tool_choice: { type: 'function' as const, name: 'get_weather' },
  };
  const called = await tenant.client.responses.stream(forced).finalResponse();
  const [call] = called.output;
  assert.ok(call?.type === 'function_call' && call.name === 'get_weather');
  Weather.parse(JSON.parse(call.arguments));

  const last = await tenant.client.responses.create({
    ...ask,
    tools: [weather],
    tool_choice: 'none',
    input: [
      { role: 'user', content: 'What is the weather in Oslo?' },
      call,
      { type: 'function_call_output', call_id: call.call_id, output: '-3 degrees' },
    ],
  });
  assert.ok(last.output_text.length > 0);

  const parsed = await tenant.client.responses.parse({
    ...ask,
    input: 'The weather in Oslo?',
    text: { format: zodTextFormat(Weather, 'weather') },
  });
  assert.ok(parsed.output_parsed);
});

const PROGRAM = `
import io, json, openai, pydantic, sys, time
base = sys.argv[1]
client = openai.OpenAI(max_retries=0)
ask = dict(model=base, input="What is the capital of France?", temperature=0, max_output_tokens=16, store=False)
whole = client.responses.create(**ask, include=["message.output_text.logprobs"], top_logprobs=2)
with client.responses.stream(**ask) as stream:
    events = [event.type for event in stream]
    streamed = stream.get_final_response()
class Place(pydantic.BaseModel):
    city: str
parsed = client.responses.parse(**{**ask, "input": "Name one city.", "max_output_tokens": 200}, text_format=Place)
lines = [{"custom_id": f"c-{i}", "method": "POST", "url": "/v1/responses", "body": ask} for i in range(3)]
file = client.files.create(purpose="batch", file=("in.jsonl", io.BytesIO("\\n".join(map(json.dumps, lines)).encode())))
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
while batch.status not in ("completed", "failed"):
    time.sleep(0.1)
    batch = client.batches.retrieve(batch.id)
answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
json.dump({
    "whole": whole.output_text,
    "logprobs": len(whole.output[0].content[0].logprobs) == whole.usage.output_tokens,
    "streamed": streamed.output_text,
    "events": [events[0], events[-1]],
    "status": parsed.status,
    "parsed": parsed.output_parsed is not None and isinstance(parsed.output_parsed.city, str),
    "batch": [answer["response"]["body"]["output"][0]["content"][0]["text"] for answer in answers],
    "files": [entry.purpose for entry in client.files.list()],
}, sys.stdout)
`;

test('the Python client works unmodified: responses, files, batches', async () => {
  const bin = (await exec(join(ROOT, 'tests', 'setup-peers'))).stdout.trim();
  const env = { ...process.env, OPENAI_BASE_URL: `${stack.url}/v1`, OPENAI_API_KEY: tenant.key };
  const { stdout } = await exec(join(bin, 'python'), ['-c', PROGRAM, BASE], { env });
  const seen = JSON.parse(stdout) as Record<string, unknown>;
  const whole = String(seen['whole']);
  assert.ok(whole.length > 0);
  assert.equal(seen['streamed'], whole);
  assert.equal(seen['logprobs'], true);
  assert.equal((seen['events'] as string[])[0], 'response.created');
  assert.match((seen['events'] as string[])[1]!, /^response\.(completed|incomplete)$/);
  if (seen['status'] === 'completed') assert.equal(seen['parsed'], true);
  assert.deepEqual(seen['batch'], [whole, whole, whole]);
  assert.deepEqual(seen['files'], ['batch_output', 'batch']);
});
