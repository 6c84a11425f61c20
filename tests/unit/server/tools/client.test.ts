/** The official client's helpers over what the edge admits and the worker answers; only the model is played. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import type { ChatCompletionTool } from 'openai/resources/chat/completions';
import { z } from 'zod';
import { chatWork } from '../../../../functions/upstream/admission.ts';
import type { EngineRequest } from '../../../../shared/contract/engine.ts';
import { ChatRequest } from '../../../../shared/contract/openai.ts';
import { BASE, done, generateRequest, playedEngine, startWorker } from '../worker-double.ts';
import { PLAIN, textWith } from './fixtures.ts';

/** A client whose requests a model answers that says `answers`, one after another, five characters a step. */
async function played(...answers: string[]) {
  const requests: EngineRequest[] = [];
  const engine = playedEngine(({ request, step }) => {
    const text = answers[requests.push(request) - 1] ?? '';
    for (const piece of text.match(/[\s\S]{1,5}/g) ?? [])
      step({ type: 'tokens', sequence: 0, ids: [...Buffer.from(piece)], text: piece, logprobs: null });
    step({ type: 'finish', sequence: 0, reason: 'stop', text: '' }, done(9, 5));
  });
  const worker = await startWorker({ ...engine, base: { ...BASE, context_length: 8192 } }, textWith(PLAIN));
  let calls = 0;
  const client = new OpenAI({
    apiKey: 'none',
    baseURL: 'http://edge/v1',
    maxRetries: 0,
    fetch: async (_url, init) => {
      const work = chatWork(ChatRequest.parse(JSON.parse(String(init?.body))));
      return await worker.generate({ ...generateRequest(), ...work, request_id: `req_${String(++calls).padStart(24, '0')}` });
    },
  });
  return { client, requests, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() };
}

const prompts = (requests: EngineRequest[]): string[] => requests.map(({ prompts: [ids] }) => Buffer.from(ids!).toString());

const tools: ChatCompletionTool[] = [
  {
    type: 'function',
    function: {
      name: 'weather',
      strict: true,
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
    },
  },
];
const ask = { model: BASE.id, messages: [{ role: 'user' as const, content: 'Weather in Oslo and Rome?' }] };
const call = (city: string) => `<tool_call>\n{"name": "weather", "arguments": {"city": "${city}"}}\n</tool_call>`;

test('.stream() puts parallel calls together, and tells each as it is done', async () => {
  await using model = await played(`Let me see.\n${call('Oslo')}\n${call('Rome')}`);
  const told: unknown[] = [];
  const grown = ['', ''];
  const stream = model.client.chat.completions
    .stream({ ...ask, tools, stream_options: { include_usage: true } })
    .on('tool_calls.function.arguments.delta', ({ index, arguments_delta }) => {
      grown[index] += arguments_delta;
    })
    .on('tool_calls.function.arguments.done', ({ name, index, parsed_arguments }) => told.push([name, index, parsed_arguments]));
  const answer = await stream.finalChatCompletion();
  const { message, finish_reason } = answer.choices[0]!;
  assert.deepEqual([message.content, finish_reason], ['Let me see.', 'tool_calls']);
  assert.deepEqual(told, [
    ['weather', 0, { city: 'Oslo' }],
    ['weather', 1, { city: 'Rome' }],
  ]);
  assert.deepEqual(grown, ['{"city": "Oslo"}', '{"city": "Rome"}']);
  assert.equal(message.tool_calls?.length, 2);
  assert.equal(answer.usage?.prompt_tokens_details?.cached_tokens, 0);
});

for (const stream of [false, true]) {
  test(`runTools() calls the function and sends its result back${stream ? ', streaming' : ''}`, async () => {
    await using model = await played(call('Oslo'), 'It rains.');
    const weather = {
      type: 'function' as const,
      function: {
        name: 'weather',
        description: 'The weather at a place',
        parameters: { type: 'object', properties: { city: { type: 'string' } } },
        parse: JSON.parse,
        function: ({ city }: { city: string }) => `rain in ${city}`,
      },
    };
    const runner = stream
      ? model.client.chat.completions.runTools({ ...ask, stream, tools: [weather] })
      : model.client.chat.completions.runTools({ ...ask, tools: [weather] });
    assert.equal(await runner.finalContent(), 'It rains.');
    const [first, second] = prompts(model.requests);
    assert.match(first!, /"name":"weather"/);
    assert.ok(
      second!.includes(
        `[assistant]${call('Oslo').replace(': "Oslo"', ':"Oslo"')}\n[user]<tool_response>\nrain in Oslo\n</tool_response>\n[assistant]`,
      ),
      second,
    );
  });
}

test('.parse() reads a format and strict arguments; its message may be sent back as it is', async () => {
  await using model = await played('{"city": "Oslo", "degrees": 7}', call('Rome'), 'ok');
  const Weather = z.object({ city: z.string(), degrees: z.number() });
  const formatted = await model.client.chat.completions.parse({ ...ask, response_format: zodResponseFormat(Weather, 'weather') });
  assert.deepEqual(formatted.choices[0]?.message.parsed, { city: 'Oslo', degrees: 7 });
  const grammar = model.requests[0]?.grammar;
  assert.equal(grammar?.kind, 'json_schema');
  assert.deepEqual(JSON.parse(grammar.schema).required, ['city', 'degrees']);

  const called = await model.client.chat.completions.parse({ ...ask, tools });
  const message = called.choices[0]!.message;
  assert.deepEqual(message.tool_calls?.[0]?.function.parsed_arguments, { city: 'Rome' });
  const messages = [...ask.messages, message, { role: 'tool' as const, tool_call_id: message.tool_calls![0]!.id, content: 'sun' }];
  const last = await model.client.chat.completions.create({ ...ask, messages, tools });
  assert.equal(last.choices[0]?.message.content, 'ok');
});
