/** The official OpenAI client for Python, unmodified: lists, completes, streams, and raises its own errors. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from '../../cli/home.ts';
import { BASE, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

const exec = promisify(execFile);

const PROGRAM = `
import json, openai, pydantic, sys, typing
base = sys.argv[1]
client = openai.OpenAI(max_retries=0)
ask = dict(model=base, messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0, max_tokens=16)
whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
streamed = ""
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    if chunk.choices:
        streamed += chunk.choices[0].delta.content or ""
    usage = chunk.usage
completion = client.completions.create(model=base, prompt="The sky is", max_tokens=4, temperature=0, echo=True, logprobs=1)
tool = {"type": "function", "function": {"name": "get_weather", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Paris"]}}, "required": ["city"], "additionalProperties": False}}}
forced = dict(model=base, messages=ask["messages"], temperature=0, max_tokens=80, tools=[tool], tool_choice="required", parallel_tool_calls=False)
called = client.chat.completions.create(**forced).choices[0]
with client.chat.completions.stream(**forced) as stream:
    kinds = {event.type for event in stream}
    put_together = stream.get_final_completion().choices[0].message.tool_calls[0].function
result = {"role": "tool", "tool_call_id": called.message.tool_calls[0].id, "content": "rain"}
after = client.chat.completions.create(**{**forced, "tool_choice": "none", "messages": [*ask["messages"], called.message, result]})

class Capital(pydantic.BaseModel):
    city: typing.Literal["Oslo", "Paris"]
    millions: int

parsed = client.chat.completions.parse(model=base, messages=ask["messages"], temperature=0, max_tokens=200, response_format=Capital)
try:
    client.chat.completions.create(**{**ask, "model": "nobody"})
    error = None
except openai.NotFoundError as refused:
    error = refused.code
json.dump({
    "models": [model.id for model in client.models.list()],
    "whole": whole.choices[0].message.content,
    "streamed": streamed,
    "usage": [whole.usage.total_tokens, usage.total_tokens],
    "logprobs": len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens,
    "completion": completion.choices[0].text,
    "offsets": completion.choices[0].logprobs.text_offset[:2],
    "error": error,
    "called": [called.finish_reason, called.message.content, called.message.tool_calls[0].function.name],
    "arguments": [called.message.tool_calls[0].function.arguments, put_together.arguments],
    "told": "tool_calls.function.arguments.done" in kinds,
    "after": after.choices[0].message.content,
    "parsed": isinstance(parsed.choices[0].message.parsed, Capital),
}, sys.stdout)
`;

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start();
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

test('the Python client works unmodified', async () => {
  const bin = (await exec(join(ROOT, 'tests', 'setup-peers'))).stdout.trim();
  const env = { ...process.env, OPENAI_BASE_URL: `${stack.url}/v1`, OPENAI_API_KEY: tenant.key };
  const { stdout } = await exec(join(bin, 'python'), ['-c', PROGRAM, BASE], { env });
  const seen = JSON.parse(stdout) as Record<string, unknown>;
  assert.deepEqual(seen['models'], [BASE]);
  assert.equal(seen['streamed'], seen['whole']);
  assert.ok(String(seen['whole']).length > 0);
  const [whole, streamed] = seen['usage'] as number[];
  assert.equal(whole, streamed);
  assert.equal(seen['logprobs'], true);
  assert.match(String(seen['completion']), /^The sky is/);
  assert.deepEqual(seen['offsets'], [0, 3]);
  assert.equal(seen['error'], 'model_not_found');
  assert.deepEqual(seen['called'], ['tool_calls', null, 'get_weather']);
  const [wholeArguments, streamedArguments] = seen['arguments'] as string[];
  assert.equal(streamedArguments, wholeArguments);
  assert.equal(typeof (JSON.parse(wholeArguments!) as { city: string }).city, 'string');
  assert.equal(seen['told'], true);
  assert.ok(String(seen['after']).length > 0);
  assert.equal(seen['parsed'], true);
});
