/** Calls as OpenAI's clients read them: whole answers, and deltas of streams. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TextSide } from '../../../../gpu-worker/server/prompts.ts';
import type { EngineEvent } from '../../../../shared/contract/engine.ts';
import type { GenerateRequest } from '../../../../shared/contract/worker.ts';
import { BASE, done, generateRequest, playedEngine, startWorker } from '../worker-double.ts';
import { chatInput, MISTRAL, PLAIN, textWith } from './fixtures.ts';

interface Call {
  index?: number;
  id?: string;
  type?: string;
  function: { name?: string; arguments: string };
}
interface Choice {
  index: number;
  message: { content: string | null; tool_calls?: Call[] };
  delta: { role?: string; content?: string | null; tool_calls?: Call[] };
  finish_reason: string | null;
  logprobs: { content: unknown[] } | null;
  token_ids?: number[];
}

/** Plays an answer, a piece each step, as tokens of one byte; `ids` where they matter. */
async function answer(
  pieces: (string | { ids: number[]; text: string })[],
  more: Partial<GenerateRequest>,
  text: TextSide,
  reason: 'stop' | 'length' = 'stop',
) {
  const engine = playedEngine(({ step, request }) => {
    for (const piece of pieces) {
      const { ids, text } = typeof piece === 'string' ? { ids: [...Buffer.from(piece)], text: piece } : piece;
      const logprobs = request.sampling.logprobs === null ? null : ids.map((id) => ({ id, logprob: -1, top: [] }));
      step({ type: 'tokens', sequence: 0, ids, text, logprobs } satisfies EngineEvent);
    }
    step({ type: 'finish', sequence: 0, reason, text: '' }, done(8, 4));
  });
  // What is said about tools is longer than the other tests' context.
  const base = { ...BASE, context_length: 4096 };
  await using worker = await startWorker({ ...engine, base }, text);
  const response = await worker.generate(generateRequest({ input: chatInput(), ...more }));
  assert.equal(response.status, 200);
  return await response.text();
}

async function whole(pieces: string[], more: Partial<GenerateRequest> = {}, reason: 'stop' | 'length' = 'stop'): Promise<Choice> {
  return JSON.parse(await answer(pieces, more, textWith(PLAIN), reason)).choices[0];
}

async function streamed(
  pieces: Parameters<typeof answer>[0],
  more: Partial<GenerateRequest> = {},
  text = textWith(PLAIN),
): Promise<Choice[]> {
  const body = await answer(pieces, { stream: true, ...more }, text);
  return body
    .trimEnd()
    .split('\n\n')
    .filter((event) => event !== 'data: [DONE]')
    .map((event) => JSON.parse(event.slice(6)).choices[0]);
}

const CALL = ['<tool_call>\n{"name": "get_', 'weather", "argu', 'ments": {"city":', ' "Oslo"}}\n</tool_call>'];

test('an answer that is a call: content null, arguments as text, finish_reason tool_calls', async () => {
  const { message, finish_reason } = await whole(CALL);
  const [call] = message.tool_calls ?? [];
  assert.match(call?.id ?? '', /^call_/);
  assert.deepEqual(message, {
    ...{ role: 'assistant', content: null, refusal: null },
    tool_calls: [{ id: call?.id, type: 'function', function: { name: 'get_weather', arguments: '{"city": "Oslo"}' } }],
  });
  assert.equal(finish_reason, 'tool_calls');
});

test('text and calls stand side by side; an answer without calls has none', async () => {
  const both = await whole(['I look.\n', ...CALL, '\n', ...CALL]);
  assert.equal(both.message.content, 'I look.');
  assert.equal(both.message.tool_calls?.length, 2);
  const text = await whole(['Hello <t', 'ool>.']);
  assert.deepEqual([text.message, text.finish_reason], [{ role: 'assistant', content: 'Hello <tool>.', refusal: null }, 'stop']);
});

test('an answer cut short keeps its reason, and what there is of the call', async () => {
  const { message, finish_reason } = await whole(CALL.slice(0, 3), {}, 'length');
  assert.equal(finish_reason, 'length');
  assert.equal(message.tool_calls?.[0]?.function.arguments, '{"city":');
});

test('what only looks like a call is text where nothing may be called', async () => {
  const { message, finish_reason } = await whole(CALL, { input: chatInput({ tool_choice: { type: 'none' } }) });
  assert.deepEqual([message.content, message.tool_calls, finish_reason], [CALL.join(''), undefined, 'stop']);
});

test('a stream: the name first with empty arguments, then the arguments as they grow', async () => {
  const deltas = await streamed(['I look.', '\n', ...CALL]);
  const id = deltas[1]?.delta.tool_calls?.[0]?.id;
  assert.match(id ?? '', /^call_/);
  const grown = (text: string) => ({ tool_calls: [{ index: 0, function: { arguments: text } }] });
  assert.deepEqual(
    deltas.map(({ delta, finish_reason }) => [delta, finish_reason]),
    [
      [{ role: 'assistant', content: 'I look.' }, null],
      [{ tool_calls: [{ index: 0, id, type: 'function', function: { name: 'get_weather', arguments: '' } }] }, null],
      [grown('{"city":'), null],
      [grown(' "Oslo"}'), null],
      [{}, 'tool_calls'],
    ],
  );
});

test('a stream that begins with a call says so: content is null', async () => {
  const [first] = await streamed(CALL);
  assert.deepEqual(first?.delta, { role: 'assistant', content: null });
});

test('logprobs and ids of every token arrive once, whatever the text is held back for', async () => {
  const deltas = await streamed(CALL, { logprobs: 0, return_token_ids: true });
  const ids = deltas.flatMap((choice) => choice.token_ids ?? []);
  assert.deepEqual(Buffer.from(ids).toString(), CALL.join(''));
  assert.equal(deltas.flatMap((choice) => choice.logprobs?.content ?? []).length, ids.length);
});

test('a special token opens calls though it is no shown text, wherever the steps are cut', async () => {
  const text = textWith(MISTRAL, '[TOOL_CALLS]');
  const rest = ' [{"name": "get_weather", "arguments": {"city": "Oslo"}}]';
  const bytes = (written: string) => [...Buffer.from(written)];
  const cuts = [
    [{ ids: [...bytes('Hm é'), 256, ...bytes(rest)], text: `Hm é${rest}` }],
    // Text may be held back for a stop string that did not come.
    [
      { ids: bytes('Hm é'), text: 'Hm' },
      { ids: [256], text: '' },
      { ids: bytes(rest.slice(0, 5)), text: ` é${rest.slice(0, 5)}` },
      { ids: bytes(rest.slice(5)), text: rest.slice(5) },
    ],
  ];
  for (const pieces of cuts) {
    const { message } = JSON.parse(await answer(pieces, {}, text)).choices[0] as Choice;
    assert.deepEqual([message.content, message.tool_calls?.[0]?.function.arguments], ['Hm é', '{"city": "Oslo"}']);
  }
  const required = await streamed([rest], { input: chatInput({ tool_choice: { type: 'required' } }) }, text);
  assert.equal(
    required
      .flatMap(({ delta }) => delta.tool_calls ?? [])
      .map((call) => call.function.arguments)
      .join(''),
    '{"city": "Oslo"}',
  );
});
