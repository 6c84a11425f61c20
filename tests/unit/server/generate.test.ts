/** POST /generate answers in OpenAI's form, field for field, and tells the engine when nobody listens any more. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EngineEvent, EngineRequest } from '../../../shared/contract/engine.ts';
import { signCall } from '../../../shared/contract/signature.ts';
import type { GenerateRequest } from '../../../shared/contract/worker.ts';
import { Failure } from '../../../shared/errors.ts';
import { byteText } from './byte-tokens.ts';
import { BASE, done, generateRequest, playedEngine, SECRET, startWorker } from './worker-double.ts';

const receipt = {
  request_id: 'req_000000000000000000000001',
  base_revision: BASE.revision,
  precision: 'fp32',
  adapters: [],
  worker: 'wrk_test',
  prefix_cached_tokens: 0,
};

interface Body extends Record<string, unknown> {
  choices: { text: string; logprobs: { tokens: string[]; top_logprobs: object[] }; token_ids: number[] }[];
  error: { message: string; code: string; param: string | null };
}

const bodyOf = async (response: Response): Promise<Body> => (await response.json()) as Body;

/** `created` is the clock's. */
function withoutClock(body: Record<string, unknown>): Record<string, unknown> {
  const { created, ...rest } = body;
  assert.ok(Math.abs(Number(created) - Date.now() / 1000) < 10);
  return rest;
}

async function eventsOf(response: Response): Promise<unknown[]> {
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  const text = await response.text();
  assert.ok(text.endsWith('\n\n'));
  return text
    .trimEnd()
    .split('\n\n')
    .map((event) => {
      assert.ok(event.startsWith('data: '));
      return event === 'data: [DONE]' ? '[DONE]' : withoutClock(JSON.parse(event.slice(6)));
    });
}

/** OpenAI's break-downs of the counts. */
const details = { prompt_tokens_details: { cached_tokens: 0 }, completion_tokens_details: { reasoning_tokens: 0 } };

const sayingHello = playedEngine(({ request, step }) => {
  assert.deepEqual(request.prompts, [[...Buffer.from('user:hi\n')]]);
  step({ type: 'tokens', sequence: 0, ids: [72], text: 'H', logprobs: null });
  step({ type: 'tokens', sequence: 0, ids: [195], text: '', logprobs: null });
  step({ type: 'tokens', sequence: 0, ids: [169, 33], text: 'é!', logprobs: null });
  step({ type: 'finish', sequence: 0, reason: 'stop', text: '?' }, done(8, 4));
});

test('a chat completion', async () => {
  await using worker = await startWorker(sayingHello, byteText());
  const response = await worker.generate(generateRequest({ return_token_ids: true }));
  assert.equal(response.status, 200);
  assert.deepEqual(withoutClock(await bodyOf(response)), {
    id: 'chatcmpl-000000000000000000000001',
    object: 'chat.completion',
    model: 'bytes',
    system_fingerprint: 'fp_bbbbbbbbbbbb',
    service_tier: 'default',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: 'Hé!?', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
        token_ids: [72, 195, 169, 33],
      },
    ],
    usage: { prompt_tokens: 8, completion_tokens: 4, total_tokens: 12, ...details },
    switchyard: receipt,
  });
  assert.equal(worker.ended.count, 1);
});

test('a chat stream: role first, silent steps left out, receipt with finish_reason, usage last', async () => {
  await using worker = await startWorker(sayingHello, byteText());
  const events = await eventsOf(await worker.generate(generateRequest({ stream: true, include_usage: true })));
  const head = {
    id: 'chatcmpl-000000000000000000000001',
    object: 'chat.completion.chunk',
    model: 'bytes',
    system_fingerprint: 'fp_bbbbbbbbbbbb',
    service_tier: 'default',
  };
  const chunk = (delta: object, finish_reason: string | null = null) => ({
    ...head,
    choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    usage: null,
  });
  assert.deepEqual(events, [
    chunk({ role: 'assistant', content: 'H' }),
    chunk({ content: 'é!' }),
    { ...chunk({ content: '?' }, 'stop'), switchyard: receipt },
    {
      ...head,
      choices: [],
      usage: { prompt_tokens: 8, completion_tokens: 4, total_tokens: 12, ...details },
    },
    '[DONE]',
  ]);
});

const ab = {
  id: 98,
  logprob: -0.5,
  top: [
    { id: 97, logprob: -0.25 },
    { id: 98, logprob: -0.5 },
  ],
};
const lone = { id: 99, logprob: -3, top: [{ id: 97, logprob: -0.1 }] };

const echoing = playedEngine(({ step }) => {
  step(
    { type: 'prompt', sequence: 0, ids: [97, 98], text: 'ab', logprobs: [null, ab] },
    { type: 'tokens', sequence: 0, ids: [99], text: 'c', logprobs: [lone] },
  );
  step({ type: 'finish', sequence: 0, reason: 'length', text: '' }, done(2, 1));
});

const echoRequest = generateRequest({
  input: { kind: 'completion', prompts: [[97, 98]] },
  echo: true,
  logprobs: 1,
  return_token_ids: true,
});

test('a completion with echo and logprobs: first entry null, the token always among its alternatives', async () => {
  await using worker = await startWorker(echoing, byteText());
  const body = await bodyOf(await worker.generate(echoRequest));
  assert.equal(body['object'], 'text_completion');
  assert.equal(body['id'], 'cmpl-000000000000000000000001');
  assert.deepEqual(body.choices, [
    {
      index: 0,
      text: 'abc',
      logprobs: {
        tokens: ['a', 'b', 'c'],
        token_logprobs: [null, -0.5, -3],
        top_logprobs: [null, { a: -0.25, b: -0.5 }, { a: -0.1, c: -3 }],
        text_offset: [0, 1, 2],
      },
      finish_reason: 'length',
      token_ids: [99],
    },
  ]);
});

test('a base without a tokenizer: text is empty, tokens are numbers by name, texts are refused', async () => {
  const engine = playedEngine(({ step }) => {
    step({ type: 'tokens', sequence: 0, ids: [98], text: '', logprobs: [ab] });
    step({ type: 'finish', sequence: 0, reason: 'length', text: '' }, done(1, 1));
  });
  await using worker = await startWorker(engine, null);
  const request = generateRequest({ input: { kind: 'completion', prompts: [[5]] }, logprobs: 2, return_token_ids: true });
  const [choice] = (await bodyOf(await worker.generate(request))).choices;
  assert.ok(choice);
  assert.equal(choice.text, '');
  assert.deepEqual(choice.logprobs.tokens, ['token_id:98']);
  assert.deepEqual(choice.logprobs.top_logprobs, [{ 'token_id:97': -0.25, 'token_id:98': -0.5 }]);
  assert.deepEqual(choice.token_ids, [98]);

  const refused = await worker.generate(generateRequest());
  assert.equal(refused.status, 400);
  assert.match((await bodyOf(refused)).error.message, /no tokenizer/);

  const stopping = await worker.generate({ ...request, stop: ['x'] });
  assert.equal(stopping.status, 400);
  assert.match((await bodyOf(stopping)).error.message, /no text in which to find stop strings/);
});

const filling = (content: string): [GenerateRequest['input'], string][] => [
  [{ kind: 'completion', prompts: [content] }, 'prompt'],
  [
    { kind: 'chat', messages: [{ role: 'user', content }], tools: [], tool_choice: { type: 'none' }, parallel_tool_calls: true },
    'messages',
  ],
];

test('a text that cannot fit the context is refused before it is encoded', async () => {
  const text = byteText();
  const encode = () => assert.fail('it was encoded');
  await using worker = await startWorker(sayingHello, { ...text, tokenizer: { ...text.tokenizer, encode, encodeRendered: encode } });
  for (const [input, param] of filling('é'.repeat(65))) {
    const response = await worker.generate(generateRequest({ input }));
    assert.equal(response.status, 400);
    const { error } = await bodyOf(response);
    assert.deepEqual([error.code, error.param], ['context_length_exceeded', param]);
    assert.match(error.message, /128 tokens, at most 128 bytes of text; \w+ has 1\d\d bytes/);
  }
});

test('a prompt that leaves no room for what is asked is refused under the name of its field', async () => {
  await using worker = await startWorker(sayingHello, byteText());
  for (const [input, param] of filling('x'.repeat(120))) {
    const response = await worker.generate(generateRequest({ input, max_tokens: 20 }));
    assert.equal(response.status, 400);
    const { error } = await bodyOf(response);
    assert.deepEqual([error.code, error.param], ['context_length_exceeded', param]);
    assert.match(error.message, /128 tokens; the request has 12\d in the \w+ and asks for 20/);
  }
});

test('a token whose text JavaScript knows otherwise is among its alternatives', async () => {
  const engine = playedEngine(({ step }) => {
    step({ type: 'tokens', sequence: 0, ids: [98], text: 'constructor', logprobs: [{ id: 98, logprob: -0.5, top: [] }] });
    step({ type: 'finish', sequence: 0, reason: 'length', text: '' }, done(1, 1));
  });
  for (const token of ['constructor', '__proto__']) {
    const text = byteText();
    await using worker = await startWorker(engine, { ...text, tokenizer: { ...text.tokenizer, decodeToken: () => token } });
    const body = await bodyOf(await worker.generate(generateRequest({ input: { kind: 'completion', prompts: [[5]] }, logprobs: 0 })));
    assert.deepEqual(Object.entries(body.choices[0]!.logprobs.top_logprobs[0]!), [[token, -0.5]]);
  }
});

test('chat logprobs carry bytes and alternatives', async () => {
  const engine = playedEngine(({ step }) => {
    step(
      { type: 'tokens', sequence: 0, ids: [98], text: 'b', logprobs: [ab] },
      { type: 'finish', sequence: 0, reason: 'stop', text: '' },
      done(1, 1),
    );
  });
  await using worker = await startWorker(engine, byteText());
  const body = await bodyOf(await worker.generate(generateRequest({ logprobs: 2 })));
  assert.deepEqual(body.choices[0]?.logprobs, {
    content: [
      {
        token: 'b',
        logprob: -0.5,
        bytes: [98],
        top_logprobs: [
          { token: 'a', logprob: -0.25, bytes: [97] },
          { token: 'b', logprob: -0.5, bytes: [98] },
        ],
      },
    ],
    refusal: null,
  });
});

test('several prompts and choices: each sequence its own choice, offsets continue across chunks, one receipt at the last finish', async () => {
  const engine = playedEngine(({ step }) => {
    step(
      { type: 'tokens', sequence: 0, ids: [98], text: 'b', logprobs: [ab] },
      { type: 'tokens', sequence: 1, ids: [98], text: 'b', logprobs: [ab] },
    );
    step({ type: 'tokens', sequence: 1, ids: [98], text: 'b', logprobs: [ab] }, { type: 'finish', sequence: 0, reason: 'stop', text: '' });
    step({ type: 'finish', sequence: 1, reason: 'length', text: '' }, done(2, 3));
  });
  await using worker = await startWorker(engine, byteText());
  const input = { kind: 'completion' as const, prompts: ['x', 'y'] };
  const events = (await eventsOf(await worker.generate(generateRequest({ input, logprobs: 0, stream: true })))) as {
    choices: { index: number; finish_reason: string | null; logprobs: { text_offset: number[] } | null }[];
    switchyard?: object;
  }[];
  const seen = events.slice(0, -1).map(({ choices: [choice], switchyard }) => {
    return [choice!.index, choice!.finish_reason, choice!.logprobs?.text_offset ?? null, switchyard !== undefined];
  });
  assert.deepEqual(seen, [
    [0, null, [0], false],
    [1, null, [0], false],
    [1, null, [1], false],
    [0, 'stop', null, false],
    [1, 'length', null, true],
  ]);
});

test('sampling, format and choices reach the engine', async () => {
  const seen = Promise.withResolvers<EngineRequest>();
  const engine = playedEngine(({ request, step }) => {
    seen.resolve(request);
    step({ type: 'finish', sequence: 0, reason: 'stop', text: '' }, done(1, 0));
  });
  await using worker = await startWorker(engine, byteText());
  const penalties = { frequency_penalty: 0.5, presence_penalty: -1, repetition_penalty: 1.5, min_p: 0.1 };
  const asked = { ...penalties, logit_bias: [[5, -100]] as [number, number][], response_format: { type: 'json_object' as const } };
  await worker.generate(generateRequest({ ...asked, priority: 'batch', tenant_weight: 2, deadline: 5 }));
  const { sampling, grammar, priority, tenantWeight, deadline } = await seen.promise;
  const { frequencyPenalty, presencePenalty, repetitionPenalty, minP, logitBias } = sampling;
  assert.deepEqual([frequencyPenalty, presencePenalty, repetitionPenalty, minP, logitBias], [0.5, -1, 1.5, 0.1, [[5, -100]]]);
  assert.deepEqual([grammar, priority, tenantWeight, deadline], [{ kind: 'json_object' }, 'batch', 2, 5]);
});

test('an answer says which tier served it; batches have none of their own', async () => {
  await using worker = await startWorker(sayingHello, byteText());
  const tierOf = async (more: Parameters<typeof generateRequest>[0]) =>
    ((await bodyOf(await worker.generate(generateRequest(more)))) as { service_tier?: unknown }).service_tier;
  assert.equal(await tierOf({}), 'default');
  assert.equal(await tierOf({ priority: 'batch' }), 'flex');
  assert.equal(await tierOf({ priority: 'batch', from_batch: true }), 'default');
  const events = await eventsOf(await worker.generate(generateRequest({ priority: 'batch', stream: true })));
  const chunks = events.slice(0, -1) as { service_tier?: unknown }[];
  assert.ok(chunks.length > 0 && chunks.every((chunk) => chunk.service_tier === 'flex'));
});

test('a bias on a token that the base does not have is refused', async () => {
  await using worker = await startWorker(sayingHello, byteText());
  const response = await worker.generate(generateRequest({ logit_bias: [[256, 1]] }));
  assert.equal(response.status, 400);
  assert.deepEqual((await bodyOf(response)).error.param, 'logit_bias');
});

test('the best of several: likeliest by token first, of each prompt n, all of them counted', async () => {
  const said = (sequence: number, text: string, ...logprobs: number[]): EngineEvent => ({
    ...{ type: 'tokens', sequence, text, ids: logprobs.map(() => 97) },
    logprobs: logprobs.map((logprob) => ({ id: 97, logprob, top: [] })),
  });
  const finished = (sequence: number): EngineEvent => ({ type: 'finish', sequence, reason: 'stop', text: '' });
  const engine = playedEngine(({ request, step }) => {
    assert.deepEqual([request.n, request.sampling.logprobs], [3, 0]);
    step(said(0, 'a', -3), said(1, 'b', -1, -1.5), said(2, 'c', -1.2, -1.2), said(3, 'd', -1), said(4, 'e', -2), said(5, 'f', -0.5));
    step(...[0, 1, 2, 3, 4, 5].map(finished), done(2, 8));
  });
  await using worker = await startWorker(engine, byteText());
  const input = { kind: 'completion' as const, prompts: ['x', 'y'] };
  const request = generateRequest({ input, n: 2, best_of: 3 });
  const { choices, usage } = (await bodyOf(await worker.generate(request))) as Body & { usage: { completion_tokens: number } };
  assert.deepEqual(
    choices.map(({ text, logprobs }, i) => [i, text, logprobs]),
    [
      [0, 'c', null],
      [1, 'b', null],
      [2, 'f', null],
      [3, 'd', null],
    ],
  );
  assert.equal(usage.completion_tokens, 8);
  assert.equal((await worker.generate({ ...request, request_id: 'req_000000000000000000000002', stream: true })).status, 400);
});

test('a client that goes away cancels its request', async () => {
  const cancelled = Promise.withResolvers<void>();
  const engine = playedEngine(({ step, cancelled: told }) => {
    step({ type: 'tokens', sequence: 0, ids: [72], text: 'H', logprobs: null });
    void told.then(cancelled.resolve);
  });
  await using worker = await startWorker(engine, byteText());
  const leaving = new AbortController();
  const response = await worker.generate(generateRequest({ stream: true }), leaving.signal);
  await response.body!.getReader().read();
  leaving.abort();
  await cancelled.promise;
});

test('a whole answer with more log-probabilities than memory should hold is refused', async () => {
  const submitted = playedEngine(({ step }) => step({ type: 'finish', sequence: 0, reason: 'length', text: '' }, done(1, 0)));
  await using worker = await startWorker(submitted, byteText());
  const input = { kind: 'completion' as const, prompts: Array.from({ length: 20 }, () => [5]) };
  const request = generateRequest({ input, n: 128, best_of: 128, max_tokens: null, logprobs: 20 });
  const refused = await worker.generate(request);
  assert.equal(refused.status, 400);
  assert.match((await bodyOf(refused)).error.message, /may hold 4000000 of them, this one up to 6881280/);
  assert.equal((await worker.generate({ ...request, request_id: 'req_000000000000000000000002', logprobs: 2 })).status, 200);
});

test('a client that does not read its stream is cut off', async () => {
  const cancelled = Promise.withResolvers<void>();
  const engine = playedEngine(({ step, cancelled: told }) => {
    const text = 'x'.repeat(1_000_000);
    const timer = setInterval(() => step({ type: 'tokens', sequence: 0, ids: [72], text, logprobs: null }), 1);
    void told.then(() => {
      clearInterval(timer);
      step({ ...done(1, 1), outcome: 'cancelled' } as EngineEvent);
      cancelled.resolve();
    });
  });
  await using worker = await startWorker(engine, byteText());
  const response = await worker.generate(generateRequest({ stream: true }));
  await cancelled.promise;
  await assert.rejects(response.text(), /terminated/);
});

test('an engine that breaks off: 500 before the first token, afterwards an error event and no [DONE]', async () => {
  const broken = {
    type: 'done',
    usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 0 },
    outcome: 'failed',
    error: 'boom',
  } as const;
  await using early = await startWorker(
    playedEngine(({ step }) => step(broken)),
    byteText(),
  );
  const response = await early.generate(generateRequest({ stream: true }));
  assert.equal(response.status, 500);
  assert.equal((await bodyOf(response)).error.code, 'internal_error');

  const late = playedEngine(({ step }) => {
    step({ type: 'tokens', sequence: 0, ids: [72], text: 'H', logprobs: null });
    step(broken);
  });
  await using worker = await startWorker(late, byteText());
  const text = await (await worker.generate(generateRequest({ stream: true }))).text();
  assert.match(text, /data: \{"error":\{"message":"generate: the engine broke off: boom"/);
  assert.doesNotMatch(text, /\[DONE\]/);
});

test('a request whose deadline passed before it began: 503, nothing was generated', async () => {
  const engine = playedEngine(({ step }) => step({ ...done(0, 0), outcome: 'expired' } as EngineEvent));
  for (const stream of [false, true]) {
    await using worker = await startWorker(engine, byteText());
    const response = await worker.generate(generateRequest({ stream, deadline: 1 }));
    assert.equal(response.status, 503);
    assert.match((await bodyOf(response)).error.message, /deadline passed/);
  }
});

test('a full queue, another revision and token ids outside the vocabulary are refused as what they are', async () => {
  const full = playedEngine(() => {
    throw new Failure({ kind: 'rate_limited', message: 'the queue is full', retryAfterSeconds: 2 });
  });
  await using worker = await startWorker(full, byteText());
  const limited = await worker.generate(generateRequest());
  assert.deepEqual([limited.status, limited.headers.get('retry-after')], [429, '2']);
  assert.equal((await worker.generate(generateRequest({ base_revision: 'c'.repeat(64) }))).status, 503);
  const outside = await worker.generate(generateRequest({ input: { kind: 'completion', prompts: [[256]] } }));
  assert.equal(outside.status, 400);
  assert.match((await bodyOf(outside)).error.message, /under 256, got 256/);
});

test('only calls that the edge signed for exactly this body are answered, once', async () => {
  await using worker = await startWorker(sayingHello, byteText());
  const body = new TextEncoder().encode(JSON.stringify(generateRequest()));
  const post = (headers: Record<string, string>, bytes: Uint8Array<ArrayBuffer>) =>
    fetch(`${worker.url}/generate`, { method: 'POST', headers, body: bytes }).then((response) => response.status);
  const sign = (secret: string) => signCall(secret, 'edge', 'worker', { method: 'POST', path: '/generate', body });
  assert.equal(await post({}, body), 401);
  assert.equal(await post({ authorization: await sign('another secret') }, body), 401);
  assert.equal(await post({ authorization: await sign(SECRET) }, new TextEncoder().encode('{}')), 401);
  const authorization = await sign(SECRET);
  assert.equal(await post({ authorization }, body), 200);
  assert.equal(await post({ authorization }, body), 401);
});
