/** What of OpenAI's request forms is honoured, what passes because it asks for nothing, what is refused by name. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BASE, Peer } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
let peer: Peer;
let tenant: Caller;
before(async () => {
  stack = await startStack();
  peer = await Peer.start(stack.edge.url);
  tenant = await stack.newTenant();
});
after(async () => {
  await peer.stop();
  await stack.stop();
});

const user = (content: unknown) => ({ role: 'user', content });
const chat = (more: object = {}) => tenant.post('/v1/chat/completions', { model: BASE.id, messages: [user('hi')], ...more });
const complete = (more: object = {}) => tenant.post('/v1/completions', { model: BASE.id, prompt: 'hi', ...more });

test('a chat request reaches the worker with every honoured field', async () => {
  const answer = await chat({
    messages: [
      { role: 'developer', content: 'be brief' },
      user([
        { type: 'text', text: 'a' },
        { type: 'text', text: 'b' },
      ]),
      { role: 'assistant', content: 'c' },
    ],
    ...{ max_completion_tokens: 7, temperature: 0.5, top_p: 0.9, top_k: 40, seed: 3, stop: 'END', n: 2 },
    ...{
      logprobs: true,
      top_logprobs: 5,
      return_token_ids: true,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
      user: 'u',
    },
    ...{ min_p: 0.05, frequency_penalty: -1, presence_penalty: 0.5, repetition_penalty: 1.1, logit_bias: { 7: -100, 12: 2.5 } },
    ...{ metadata: { a: 'b' }, store: false, safety_identifier: 's', prompt_cache_key: 'k', service_tier: 'default' },
  });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  const { request_id, tenant: _tenant, key_id: _key, ...rest } = peer.generated.at(-1)!;
  assert.equal(request_id, answer.headers.get('x-request-id'));
  assert.deepEqual(rest, {
    ...{ model: BASE.id, base: BASE.id, base_revision: BASE.revision, adapters: [] },
    input: {
      kind: 'chat',
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'user', content: 'ab' },
        { role: 'assistant', content: 'c' },
      ],
      ...{ tools: [], tool_choice: { type: 'none' }, parallel_tool_calls: true },
    },
    ...{ n: 2, best_of: 2, max_tokens: 7, temperature: 0.5, top_p: 0.9, top_k: 40, seed: 3, stop: ['END'], ignore_eos: true },
    ...{ logprobs: 5, echo: false, return_token_ids: true, stream: true, include_usage: true },
    ...{ min_p: 0.05, frequency_penalty: -1, presence_penalty: 0.5, repetition_penalty: 1.1 },
    logit_bias: [
      [7, -100],
      [12, 2.5],
    ],
    ...{ response_format: { type: 'text' }, priority: 'interactive', from_batch: false, tenant_weight: 1, deadline: null },
  });
});

const weather = {
  type: 'function',
  function: { name: 'weather', description: 'd', parameters: { type: 'object', properties: { city: { type: 'string' } } }, strict: true },
};
const clock = { type: 'function', function: { name: 'clock' } };

test('tools, calls and their results reach the worker', async () => {
  const called = {
    role: 'assistant',
    content: null,
    tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'clock', arguments: '{}' } }],
  };
  const messages = [
    { ...user('hi'), name: 'ann' },
    called,
    { role: 'tool', tool_call_id: 'call_1', content: [{ type: 'text', text: 'noon' }] },
  ];
  const answer = await chat({ messages, tools: [weather, clock], tool_choice: 'required', parallel_tool_calls: false });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  assert.deepEqual(peer.generated.at(-1)!.input, {
    kind: 'chat',
    messages: [
      { role: 'user', content: 'hi', name: 'ann' },
      { role: 'assistant', content: '', tool_calls: [{ id: 'call_1', name: 'clock', arguments: '{}' }] },
      { role: 'tool', content: 'noon', tool_call_id: 'call_1' },
    ],
    tools: [
      weather.function,
      { name: 'clock', description: null, parameters: { type: 'object', properties: {}, additionalProperties: false }, strict: false },
    ],
    tool_choice: { type: 'required' },
    parallel_tool_calls: false,
  });
  const choices: [unknown, unknown][] = [
    [undefined, { type: 'auto' }],
    ['none', { type: 'none' }],
    [
      { type: 'function', function: { name: 'clock' } },
      { type: 'function', name: 'clock' },
    ],
  ];
  for (const [tool_choice, expected] of choices) {
    assert.equal((await chat({ tools: [clock], tool_choice })).status, 200);
    const { input } = peer.generated.at(-1)!;
    assert.deepEqual(input.kind === 'chat' && input.tool_choice, expected);
  }
});

test('what the clients put together from an answer may be sent back', async () => {
  const echoed = {
    ...{ role: 'assistant', content: null, refusal: null, annotations: [], parsed: null },
    tool_calls: [{ id: 'call_1', type: 'function', index: 0, function: { name: 'clock', arguments: '', parsed_arguments: {} } }],
  };
  const { status, body } = await chat({
    messages: [user('hi'), echoed, { role: 'tool', tool_call_id: 'call_1', name: 'clock', content: '' }],
  });
  assert.equal(status, 200, JSON.stringify(body));
});

test('formats of answers reach the worker', async () => {
  const schema = { type: 'object', properties: {} };
  const cases: [object, object][] = [
    [{ type: 'json_object' }, { type: 'json_object' }],
    [
      { type: 'json_schema', json_schema: { name: 'n', description: 'd', schema, strict: true } },
      { type: 'json_schema', schema, strict: true },
    ],
    [
      { type: 'json_schema', json_schema: { name: 'n' } },
      { type: 'json_schema', schema: {}, strict: false },
    ],
  ];
  for (const [response_format, expected] of cases) {
    assert.equal((await chat({ response_format })).status, 200);
    assert.deepEqual(peer.generated.at(-1)!.response_format, expected);
  }
});

test('completions may choose the best of several', async () => {
  assert.equal((await complete({ best_of: 4, n: 2 })).status, 200);
  const { n, best_of } = peer.generated.at(-1)!;
  assert.deepEqual({ n, best_of }, { n: 2, best_of: 4 });
});

test("defaults are OpenAI's", async () => {
  await chat();
  const { max_tokens, temperature, top_p, top_k, seed, stop, n, logprobs, stream } = peer.generated.at(-1)!;
  assert.deepEqual(
    { max_tokens, temperature, top_p, top_k, seed, stop, n, logprobs, stream },
    {
      ...{ max_tokens: null, temperature: 1, top_p: 1, top_k: 0, seed: null, stop: [], n: 1, logprobs: null, stream: false },
    },
  );
  await complete();
  assert.equal(peer.generated.at(-1)!.max_tokens, 16);
});

test('prompts: text, texts, ids, batches of ids; echo with max_tokens 0', async () => {
  const cases: [unknown, (string | number[])[]][] = [
    ['a', ['a']],
    ['', ['']],
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
    [[1, 2, 3], [[1, 2, 3]]],
    [
      [[1, 2], [3]],
      [[1, 2], [3]],
    ],
  ];
  for (const [prompt, prompts] of cases) {
    assert.equal((await complete({ prompt, echo: true, max_tokens: 0, logprobs: 0 })).status, 200);
    const { input, echo, max_tokens, logprobs } = peer.generated.at(-1)!;
    assert.deepEqual(
      { input, echo, max_tokens, logprobs },
      { input: { kind: 'completion', prompts }, echo: true, max_tokens: 0, logprobs: 0 },
    );
  }
});

test('null and values that ask for nothing pass', async () => {
  const neutral = [
    { temperature: null, top_p: null, stop: null, seed: null, n: null, logprobs: null, max_tokens: null, stream_options: null },
    { presence_penalty: 0, frequency_penalty: 0, logit_bias: {}, response_format: { type: 'text' }, tools: [], tool_choice: 'none' },
    { service_tier: 'auto', parallel_tool_calls: true, store: false, metadata: {}, modalities: ['text'], top_k: -1 },
    { max_tokens: 5, max_completion_tokens: 5, stop: [] },
  ];
  for (const more of neutral) assert.equal((await chat(more)).status, 200, JSON.stringify(more));
  assert.equal((await complete({ best_of: 2, n: 2, suffix: null })).status, 200);
});

test('what is not honoured is refused by name', async () => {
  const cases: [object, string][] = [
    [{ tools: [{ type: 'custom', custom: { name: 'x' } }] }, 'tools.0.type'],
    [{ tools: [clock], tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [] } } }, 'tool_choice'],
    [{ functions: [{ name: 'f' }] }, 'functions'],
    [{ store: true }, 'store'],
    [{ prompt_cache_retention: '24h' }, 'prompt_cache_retention'],
    [{ stream: true, stream_options: { include_obfuscation: true } }, 'stream_options.include_obfuscation'],
    [{ service_tier: 'priority' }, 'service_tier'],
    [{ service_tier: 'scale' }, 'service_tier'],
    [{ modalities: ['audio'] }, 'modalities'],
    [{ reasoning_effort: 'high' }, 'reasoning_effort'],
    [{ moderation: { model: 'm' } }, 'moderation'],
    [{ prompt_cache_options: { ttl: '30m' } }, 'prompt_cache_options'],
    [{ messages: [user([{ type: 'text', text: 'a', prompt_cache_breakpoint: {} }])] }, 'messages.0.content.0.prompt_cache_breakpoint'],
    [{ messages: [{ role: 'function', name: 'f', content: 'x' }] }, 'messages.0.role'],
    [{ messages: [user([{ type: 'image_url', image_url: { url: 'data:' } }])] }, 'messages.0.content.0'],
    [{ model: 'a@latest' }, 'model'],
  ];
  for (const [more, param] of cases) {
    const { status, body } = await chat(more);
    assert.deepEqual([status, body.error.code, body.error.param], [400, 'unsupported_value', param], JSON.stringify(more));
  }
  for (const [more, param] of [
    [{ best_of: 3, stream: true }, 'best_of'],
    [{ suffix: 'x' }, 'suffix'],
  ] as const) {
    const { status, body } = await complete(more);
    assert.deepEqual([status, body.error.code, body.error.param], [400, 'unsupported_value', param]);
  }
});

test('values out of range and unknown fields are 400 and name the field', async () => {
  const before = peer.generated.length;
  const cases: [object, string][] = [
    [{ temperature: 2.1 }, 'temperature'],
    [{ temperature: '1' }, 'temperature'],
    [{ top_p: 0 }, 'top_p'],
    [{ n: 0 }, 'n'],
    [{ n: 1.5 }, 'n'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: 5, max_completion_tokens: 6 }, 'max_tokens'],
    [{ top_logprobs: 3 }, 'top_logprobs'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ stop: Array(17).fill('x') }, 'stop'],
    [{ stop: ['a', ''] }, 'stop.1'],
    [{ stream_options: { include_usage: true } }, 'stream_options'],
    [{ messages: [] }, 'messages'],
    [{ messages: [user(5)] }, 'messages.0.content'],
    [{ messages: [user([{ type: 'text' }])] }, 'messages.0.content.0.text'],
    [{ messages: [user([{ type: 'text', text: 'a', cache_control: {} }])] }, 'messages.0.content.0.cache_control'],
    [{ messages: [{ role: 'narrator', content: 'x' }] }, 'messages.0.role'],
    [{ messages: [{ role: 'user' }] }, 'messages.0.content'],
    [{ temprature: 1 }, 'temprature'],
    [{ model: undefined }, 'model'],
    [{ adapters: [{ model: 'a', weight: 5 }] }, 'adapters.0.weight'],
    [{ frequency_penalty: 2.5 }, 'frequency_penalty'],
    [{ presence_penalty: -3 }, 'presence_penalty'],
    [{ repetition_penalty: 0 }, 'repetition_penalty'],
    [{ min_p: 1.5 }, 'min_p'],
    [{ logit_bias: { 5: 101 } }, 'logit_bias.5'],
    [{ logit_bias: { five: 1 } }, 'logit_bias.five'],
    [{ service_tier: 'fast' }, 'service_tier'],
    [{ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, ''])) }, 'metadata'],
    [{ response_format: { type: 'yaml' } }, 'response_format.type'],
    [{ response_format: { type: 'json_schema' } }, 'response_format.json_schema'],
    [{ tools: [{ type: 'function', function: { name: 'has space' } }] }, 'tools.0.function.name'],
    [{ tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'array' } } }] }, 'tools.0.function.parameters.type'],
    [{ tools: [clock, clock] }, 'tools.1.function.name'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tools: [clock], tool_choice: 'any' }, 'tool_choice'],
    [{ tools: [clock], tool_choice: { type: 'function', function: { name: 'weather' } } }, 'tool_choice'],
    [{ messages: [user('x'), { role: 'tool', content: 'x', tool_call_id: 'call_1' }] }, 'messages.1.tool_call_id'],
    [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages.0.tool_call_id'],
    [{ messages: [{ role: 'assistant', content: null }] }, 'messages.0.content'],
    [
      { messages: [{ role: 'assistant', tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '[1]' } }] }] },
      'messages.0.tool_calls.0.function.arguments',
    ],
  ];
  for (const [more, param] of cases) {
    const { status, body } = await chat(more);
    assert.deepEqual([status, body.error.type, body.error.param], [400, 'invalid_request_error', param], JSON.stringify(more));
  }
  for (const prompt of [[], [[]], [1, 'a'], ['a', 1], {}, 5, [-1], [1.5], Array(129).fill('x')]) {
    const { status, body } = await complete({ prompt });
    assert.equal(status, 400, JSON.stringify(prompt).slice(0, 40));
    assert.match(body.error.param, /^prompt/);
  }
  assert.equal((await complete({ logprobs: 21 })).body.error.param, 'logprobs');
  assert.equal((await complete({ n: 3, best_of: 2 })).body.error.param, 'best_of');
  assert.equal(peer.generated.length, before, 'nothing malformed reaches a worker');
});

test('JSON too deep to be walked is refused, wherever it is', async () => {
  const before = peer.generated.length;
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  const body = (field: string) => `{"model":"${BASE.id}","messages":[{"role":"user","content":"hi"}],${field}}`;
  const called = { id: 'c', type: 'function', function: { name: 'f', arguments: `{"a":${deep}}` } };
  for (const [field, param] of [
    [`"tools":[{"type":"function","function":{"name":"f","parameters":{"x":${deep}}}}]`, null],
    [`"response_format":{"type":"json_schema","json_schema":{"name":"f","schema":{"x":${deep}}}}`, null],
    [`"messages":[${JSON.stringify({ role: 'assistant', tool_calls: [called] })}]`, 'messages.0.tool_calls.0.function.arguments'],
  ] as const) {
    const sent = { body: body(field), headers: { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() } };
    const { status, body: answer } = await tenant.send('POST', '/v1/chat/completions', sent);
    assert.deepEqual([status, answer.error.param], [400, param], JSON.stringify(answer));
    assert.match(answer.error.message, /at most 128 levels/);
  }
  assert.equal(peer.generated.length, before);
});

test('an unknown model is 404 model_not_found', async () => {
  for (const model of ['nope', `${BASE.id}@1`, 'nope@3']) {
    const { status, body } = await chat({ model });
    assert.deepEqual([status, body.error.code, body.error.param], [404, 'model_not_found', 'model']);
  }
});
