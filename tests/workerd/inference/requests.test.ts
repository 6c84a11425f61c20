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
  });
  assert.equal(answer.status, 200);
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
    },
    ...{ n: 2, max_tokens: 7, temperature: 0.5, top_p: 0.9, top_k: 40, seed: 3, stop: ['END'], ignore_eos: true },
    ...{ logprobs: 5, echo: false, return_token_ids: true, stream: true, include_usage: true },
  });
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
    [{ tools: [{ type: 'function' }] }, 'tools'],
    [{ response_format: { type: 'json_object' } }, 'response_format'],
    [{ presence_penalty: 0.5 }, 'presence_penalty'],
    [{ logit_bias: { 5: 1 } }, 'logit_bias'],
    [{ store: true }, 'store'],
    [{ metadata: { a: 'b' } }, 'metadata'],
    [{ service_tier: 'flex' }, 'service_tier'],
    [{ modalities: ['audio'] }, 'modalities'],
    [{ reasoning_effort: 'high' }, 'reasoning_effort'],
    [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages.0.role'],
    [{ messages: [user([{ type: 'image_url', image_url: { url: 'data:' } }])] }, 'messages.0.content.0'],
    [{ messages: [{ ...user('x'), name: 'bob' }] }, 'messages.0.name'],
    [{ model: 'a@latest' }, 'model'],
  ];
  for (const [more, param] of cases) {
    const { status, body } = await chat(more);
    assert.deepEqual([status, body.error.code, body.error.param], [400, 'unsupported_value', param], JSON.stringify(more));
  }
  for (const [more, param] of [
    [{ best_of: 3 }, 'best_of'],
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
    [{ messages: [{ role: 'narrator', content: 'x' }] }, 'messages.0.role'],
    [{ messages: [{ role: 'user' }] }, 'messages.0.content'],
    [{ temprature: 1 }, 'temprature'],
    [{ model: undefined }, 'model'],
    [{ adapters: [{ model: 'a', weight: 5 }] }, 'adapters.0.weight'],
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
  assert.equal(peer.generated.length, before, 'nothing malformed reaches a worker');
});

test('an unknown model is 404 model_not_found', async () => {
  for (const model of ['nope', `${BASE.id}@1`, 'nope@3']) {
    const { status, body } = await chat({ model });
    assert.deepEqual([status, body.error.code, body.error.param], [404, 'model_not_found', 'model']);
  }
});
