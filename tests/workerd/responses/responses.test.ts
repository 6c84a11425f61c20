/** /v1/responses as the official client sends and parses it; the chat answers behind it are played. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { say, stream } from '../support/chat.ts';
import { BASE, json, Peer } from '../support/peer.ts';
import { type Caller, type Stack, startStack } from '../support/stack.ts';

let stack: Stack;
let peer: Peer;
let tenant: Caller;
let client: OpenAI;
before(async () => {
  stack = await startStack();
  peer = await Peer.start(stack.edge.url);
});
after(async () => {
  await peer.stop();
  await stack.stop();
});
beforeEach(async () => {
  tenant = await stack.newTenant();
  client = new OpenAI({ baseURL: `${stack.edge.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
  peer.generated.length = 0;
});

const ask = { model: BASE.id, input: 'Say hello.' };

test('text: a chat request goes out, a response with usage and receipt comes back', async () => {
  peer.onGenerate = (request, res) => say(request, res, { content: 'Hello.' });
  const answer = await client.responses.create({
    ...ask,
    instructions: 'Be brief.',
    max_output_tokens: 9,
    temperature: 0,
    metadata: { order: '7' },
    user: 'u-1',
  });
  const [sent] = peer.generated;
  assert.deepEqual(sent!.input.kind === 'chat' && sent!.input.messages, [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Say hello.' },
  ]);
  assert.deepEqual([sent!.max_tokens, sent!.temperature, sent!.stream], [9, 0, false]);
  assert.equal(answer.output_text, 'Hello.');
  assert.equal(answer.id, `resp_${sent!.request_id.slice(4)}`);
  assert.deepEqual([answer.status, answer.error, answer.incomplete_details], ['completed', null, null]);
  assert.deepEqual([answer.metadata, answer.user, answer.instructions, answer.max_output_tokens], [{ order: '7' }, 'u-1', 'Be brief.', 9]);
  assert.deepEqual(answer.usage, {
    input_tokens: 11,
    input_tokens_details: { cached_tokens: 8 },
    output_tokens: 3,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 14,
  });
  assert.equal((answer as unknown as { switchyard: { request_id: string } }).switchyard.request_id, sent!.request_id);
  assert.equal((answer as unknown as { store: boolean }).store, false);
});

test('items: an earlier answer goes back in as it came out', async () => {
  peer.onGenerate = (request, res) => say(request, res, { content: 'One.' });
  const first = await client.responses.create(ask);
  await client.responses.create({
    model: BASE.id,
    store: false,
    input: [
      {
        role: 'developer',
        content: [
          { type: 'input_text', text: 'Count' },
          { type: 'input_text', text: ' up.' },
        ],
      },
      { role: 'user', content: 'Go.' },
      ...(first.output as OpenAI.Responses.ResponseInputItem[]),
      { role: 'user', content: 'On.' },
    ],
  });
  const { input } = peer.generated[1]!;
  assert.deepEqual(input.kind === 'chat' && input.messages, [
    { role: 'system', content: 'Count up.' },
    { role: 'user', content: 'Go.' },
    { role: 'assistant', content: 'One.' },
    { role: 'user', content: 'On.' },
  ]);
});

test('a stream: every event, in order, and a client that adds them up', async () => {
  const token = (text: string) => ({ token: text, logprob: -0.5, bytes: [...Buffer.from(text)], top_logprobs: [] });
  peer.onGenerate = async (request, res) => {
    assert.equal(request.include_usage, true);
    const answer = stream(request, res);
    answer.delta({ role: 'assistant', content: '' });
    answer.delta({ content: 'Grüß' }, [token('Grü'), token('ß')]);
    await sleep(20);
    answer.delta({ content: ' Gott' }, [token(' Gott')]);
    answer.end('stop');
  };
  const events: { type: string; sequence_number: number }[] = [];
  const runner = client.responses.stream({ ...ask, include: ['message.output_text.logprobs'] });
  for await (const event of runner) events.push(event);
  assert.deepEqual(
    events.map((e) => e.type),
    [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ],
  );
  assert.deepEqual(
    events.map((e) => e.sequence_number),
    events.map((_, i) => i),
  );
  const final = await runner.finalResponse();
  assert.equal(final.output_text, 'Grüß Gott');
  assert.equal(final.usage?.total_tokens, 14);
  const [item] = final.output;
  assert.ok(item?.type === 'message' && item.content[0]?.type === 'output_text');
  assert.deepEqual(
    item.content[0].logprobs?.map((l) => l.token),
    ['Grü', 'ß', ' Gott'],
  );
  const { text } = await tenant.post('/v1/responses', { ...ask, stream: true });
  assert.match(text, /^event: response\.created\ndata: \{"type":"response\.created","sequence_number":0,/);
  assert.ok(!text.includes('[DONE]'));
});

test('the limit on tokens ends a response as incomplete, whole and streamed', async () => {
  peer.onGenerate = (request, res) => {
    if (!request.stream) return say(request, res, { content: 'Hel', finish: 'length' });
    const answer = stream(request, res);
    answer.delta({ role: 'assistant', content: 'Hel' });
    answer.end('length');
  };
  const streamed = await client.responses.stream(ask).finalResponse();
  for (const answer of [await client.responses.create(ask), streamed]) {
    assert.deepEqual([answer.status, answer.incomplete_details], ['incomplete', { reason: 'max_output_tokens' }]);
    assert.deepEqual(answer.output[0]?.type === 'message' && answer.output[0].status, 'incomplete');
    assert.equal(answer.output_text, 'Hel');
  }
});

test('a worker that breaks off ends the stream with response.failed', async () => {
  for (const way of ['says why', 'is gone', 'just ends']) {
    peer.onGenerate = async (request, res) => {
      stream(request, res).delta({ role: 'assistant', content: 'Hel' });
      await sleep(20);
      if (way === 'says why')
        res.end('data: {"error":{"message":"the engine broke off","type":"server_error","param":null,"code":null}}\n\n');
      else if (way === 'is gone') res.destroy();
      else res.end();
    };
    const events = [];
    for await (const event of await client.responses.create({ ...ask, stream: true })) events.push(event);
    const last = events.at(-1)!;
    assert.equal(last.type, 'response.failed', way);
    assert.ok(last.type === 'response.failed' && last.response.error?.code === 'server_error');
    if (way === 'says why') assert.equal(last.response.error.message, 'the engine broke off');
    assert.ok(events.some((e) => e.type === 'response.output_item.done' && e.item.type === 'message' && e.item.status === 'incomplete'));
  }
});

const weather = {
  type: 'function' as const,
  name: 'get_weather',
  description: 'The weather',
  strict: true,
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
};
const call = (id: string, args: string) => ({ id, type: 'function' as const, function: { name: 'get_weather', arguments: args } });

test('tools: calls come back as items, and go in again with their results', async () => {
  peer.onGenerate = (request, res) =>
    say(request, res, {
      content: 'Looking.',
      calls: [call('call_1', '{"city":"Oslo"}'), call('call_2', '{"city":"Rome"}')],
      finish: 'tool_calls',
    });
  const answer = await client.responses.parse({
    ...ask,
    tools: [weather],
    tool_choice: { type: 'function', name: 'get_weather' },
    parallel_tool_calls: true,
  });
  assert.deepEqual(
    answer.output.map((item) => [
      item.type,
      item.type === 'function_call' && item.call_id,
      item.type === 'function_call' && item.parsed_arguments,
    ]),
    [
      ['message', false, false],
      ['function_call', 'call_1', { city: 'Oslo' }],
      ['function_call', 'call_2', { city: 'Rome' }],
    ],
  );
  const [sent] = peer.generated;
  assert.ok(sent?.input.kind === 'chat');
  const { type: _, ...tool } = weather;
  assert.deepEqual(sent.input.tools, [tool]);
  assert.deepEqual(sent.input.tool_choice, { type: 'function', name: 'get_weather' });
  assert.deepEqual(answer.tool_choice, { type: 'function', name: 'get_weather' });

  peer.onGenerate = (request, res) => say(request, res, { content: 'Cold, warm.' });
  await client.responses.create({
    model: BASE.id,
    tools: [weather],
    tool_choice: 'none',
    input: [
      { role: 'user', content: 'Where is it warm?' },
      ...(answer.output as OpenAI.Responses.ResponseInputItem[]),
      { type: 'function_call_output', call_id: 'call_1', output: '-3' },
      { type: 'function_call_output', call_id: 'call_2', output: [{ type: 'input_text', text: '21' }] },
    ],
  });
  const { input } = peer.generated[1]!;
  assert.deepEqual(input.kind === 'chat' && input.messages.slice(1), [
    {
      role: 'assistant',
      content: 'Looking.',
      tool_calls: [
        { id: 'call_1', name: 'get_weather', arguments: '{"city":"Oslo"}' },
        { id: 'call_2', name: 'get_weather', arguments: '{"city":"Rome"}' },
      ],
    },
    { role: 'tool', content: '-3', tool_call_id: 'call_1' },
    { role: 'tool', content: '21', tool_call_id: 'call_2' },
  ]);
});

test('what was said after a call goes back in before its result', async () => {
  peer.onGenerate = (request, res) => say(request, res, { content: 'Cold.' });
  await client.responses.create({
    model: BASE.id,
    reasoning: { effort: null, summary: null },
    input: [
      { role: 'user', content: 'Oslo?' },
      { type: 'function_call', call_id: 'call_1', name: 'get_weather', arguments: '{}' },
      { role: 'assistant', content: 'One moment.' },
      { type: 'function_call_output', call_id: 'call_1', output: '-3' },
    ],
  });
  const { input } = peer.generated[0]!;
  assert.deepEqual(input.kind === 'chat' && input.messages.slice(1), [
    { role: 'assistant', content: 'One moment.', tool_calls: [{ id: 'call_1', name: 'get_weather', arguments: '{}' }] },
    { role: 'tool', content: '-3', tool_call_id: 'call_1' },
  ]);
});

test('tools: streamed calls are items of their own', async () => {
  peer.onGenerate = (request, res) => {
    const answer = stream(request, res);
    answer.delta({ role: 'assistant', content: 'Looking.' });
    for (const [index, city] of ['Oslo', 'Rome'].entries()) {
      answer.delta({ tool_calls: [{ index, ...call(`call_${index}`, '') }] });
      for (const piece of ['{"city":', `"${city}"}`]) answer.delta({ tool_calls: [{ index, function: { arguments: piece } }] });
    }
    answer.end('tool_calls');
  };
  const runner = client.responses.stream({ ...ask, tools: [weather] });
  const events: string[] = [];
  for await (const event of runner) events.push(event.type.slice('response.'.length));
  const one = ['output_item.added', ...Array(2).fill('function_call_arguments.delta'), 'function_call_arguments.done', 'output_item.done'];
  assert.deepEqual(events.slice(8), [...one, ...one, 'completed']);
  const final = await runner.finalResponse();
  assert.equal(final.output_text, 'Looking.');
  assert.deepEqual(
    final.output.flatMap((item) => (item.type === 'function_call' ? [[item.call_id, item.arguments, item.status]] : [])),
    [
      ['call_0', '{"city":"Oslo"}', 'completed'],
      ['call_1', '{"city":"Rome"}', 'completed'],
    ],
  );
});

test('a schema for the answer is passed on and parsed', async () => {
  peer.onGenerate = (request, res) => say(request, res, { content: '{"city":"Oslo"}' });
  const format = { type: 'json_schema' as const, name: 'place', schema: weather.parameters, strict: true };
  const answer = await client.responses.parse({ ...ask, text: { format } });
  assert.deepEqual(peer.generated[0]?.response_format, { type: 'json_schema', schema: weather.parameters, strict: true });
  assert.deepEqual([answer.text?.format, answer.output_parsed], [format, { city: 'Oslo' }]);
});

test("what is not honoured is refused by name, under this API's names", async () => {
  const refused: [object, string][] = [
    [{ store: true }, 'store'],
    [{ previous_response_id: 'resp_1' }, 'previous_response_id'],
    [{ conversation: 'conv_1' }, 'conversation'],
    [{ background: true }, 'background'],
    [{ truncation: 'auto' }, 'truncation'],
    [{ reasoning: { effort: 'low' } }, 'reasoning.effort'],
    [{ prompt: { id: 'pmpt_1' } }, 'prompt'],
    [{ max_tool_calls: 3 }, 'max_tool_calls'],
    [{ tools: [{ type: 'web_search' }] }, 'tools.0'],
    [{ tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [] } }, 'tool_choice'],
    [{ tool_choice: 'banana' }, 'tool_choice'],
    [{ include: ['reasoning.encrypted_content'] }, 'include.0'],
    [{ text: { verbosity: 'low' } }, 'text.verbosity'],
    [{ input: [{ type: 'reasoning', id: 'rs_1', summary: [] }] }, 'input.0'],
    [{ input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input.0'],
    [{ input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] }, 'input.0.content.0'],
  ];
  for (const [fields, param] of refused) {
    const { status, body } = await tenant.post('/v1/responses', { ...ask, ...fields });
    assert.deepEqual([status, body.error.code, body.error.param], [400, 'unsupported_value', param], JSON.stringify(body));
  }
  const renamed: [object, string][] = [
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tools: [{ ...weather, name: 'a b' }] }, 'tools.0.name'],
    [{ input: [{ type: 'function_call_output', call_id: 'call_1', output: 'x' }] }, 'input'],
  ];
  for (const [fields, param] of renamed) {
    const { status, body } = await tenant.post('/v1/responses', { ...ask, ...fields });
    assert.deepEqual([status, body.error.param], [400, param], JSON.stringify(body));
  }
  const unknown = await tenant.post('/v1/responses', { ...ask, seed: 1 });
  assert.deepEqual([unknown.body.error.code, unknown.body.error.param], ['unknown_parameter', 'seed']);
  for (const fields of [{ input: [] }, { input: 7 }, { max_output_tokens: 0 }, { metadata: { a: 1 } }, { model: undefined }])
    assert.equal((await tenant.post('/v1/responses', { ...ask, ...fields })).status, 400, JSON.stringify(fields));
  assert.equal(peer.generated.length, 0);
});

test("a worker's refusal names this API's field", async () => {
  peer.onGenerate = (_, res) => {
    const error = { message: 'messages: too long', type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' };
    json(res, 400, { error });
  };
  await assert.rejects(client.responses.create(ask), (error: unknown) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.param, error.code], ['input', 'context_length_exceeded']);
    assert.match(error.message, /input: too long/);
    return true;
  });
});

test('a client that leaves takes the request with it', async () => {
  const closed = new Promise<void>((resolve) => {
    peer.onGenerate = (request, res) => {
      stream(request, res).delta({ role: 'assistant', content: 'Hel' });
      res.once('close', resolve);
    };
  });
  const events = await client.responses.create({ ...ask, stream: true });
  for await (const event of events) if (event.type === 'response.output_text.delta') break;
  await closed;
});

test('Idempotency-Key: the stream is replayed as it was sent', async () => {
  peer.onGenerate = (request, res: ServerResponse) => {
    const answer = stream(request, res);
    answer.delta({ role: 'assistant', content: 'Once.' });
    answer.end('stop');
  };
  const once = () =>
    tenant.send('POST', '/v1/responses', {
      headers: { 'content-type': 'application/json', 'idempotency-key': 'r-1' },
      body: JSON.stringify({ ...ask, stream: true }),
    });
  const first = await once();
  let again = await once();
  for (let i = 0; again.status === 409 && i < 100; i++) {
    await sleep(20);
    again = await once();
  }
  assert.equal(again.text, first.text);
  assert.equal(again.headers.get('idempotent-replayed'), 'true');
  assert.equal(peer.generated.length, 1);
});
