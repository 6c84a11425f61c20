/** The official OpenAI client for Node, unmodified, against the whole stack. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { BASE, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start();
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const ask = {
  model: BASE,
  messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
  temperature: 0,
  max_tokens: 24,
};

test('lists the base', async () => {
  const ids = [];
  for await (const model of await tenant.client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, [BASE]);
  assert.equal((await tenant.client.models.retrieve(BASE)).object, 'model');
});

test('a stream says the same as a whole answer, with the same usage and a receipt', async () => {
  const whole = await tenant.client.chat.completions.create(ask);
  const stream = await tenant.client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  let text = '';
  let finish: string | null = null;
  let usage: OpenAI.CompletionUsage | null = null;
  let receipt: unknown;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
    if (chunk.choices[0]?.finish_reason) receipt = (chunk as unknown as { switchyard: unknown }).switchyard;
  }
  assert.ok(text.length > 0);
  assert.equal(text, whole.choices[0]?.message.content);
  assert.equal(finish, whole.choices[0]?.finish_reason);
  // The second time, all of the prompt's whole pages are there already.
  assert.ok(usage?.prompt_tokens_details?.cached_tokens);
  assert.deepEqual({ ...usage, prompt_tokens_details: null }, { ...whole.usage, prompt_tokens_details: null });
  assert.deepEqual(Object.keys(receipt as object).sort(), [
    'adapters',
    'base_revision',
    'precision',
    'prefix_cached_tokens',
    'request_id',
    'worker',
  ]);
});

test('completions: echo with logprobs gives null first, then one logprob a prompt token', async () => {
  const answer = await tenant.client.completions.create({ model: BASE, prompt: 'The sky is', echo: true, logprobs: 2, max_tokens: 0 });
  const { logprobs, text } = answer.choices[0]!;
  assert.equal(text, 'The sky is');
  assert.equal(logprobs?.tokens?.join(''), 'The sky is');
  assert.equal(logprobs?.token_logprobs?.[0], null);
  assert.ok(logprobs?.token_logprobs?.slice(1).every((value) => value < 0));
  assert.equal(answer.usage?.completion_tokens, 0);
});

test('biases and penalties change what is said; a choice of several costs them all', async () => {
  const complete = async (more: object) => {
    const answer = await tenant.client.completions.create({
      model: BASE,
      prompt: 'One two three one two three',
      temperature: 0,
      max_tokens: 12,
      ...more,
    });
    const choice = answer.choices[0] as OpenAI.CompletionChoice & { token_ids: number[] };
    return { text: choice.text, ids: choice.token_ids, choices: answer.choices, usage: answer.usage };
  };
  const ids = { return_token_ids: true };
  const plain = await complete(ids);
  const first = plain.ids[0]!;
  const banned = await complete({ ...ids, logit_bias: { [first]: -100 } });
  assert.ok(!banned.ids.includes(first));
  const forced = await complete({ ...ids, logit_bias: { [first]: 100 }, max_tokens: 4 });
  assert.deepEqual(forced.ids, [first, first, first, first]);
  const various = await complete({ ...ids, logit_bias: { [first]: 8 }, frequency_penalty: 2, presence_penalty: 2, repetition_penalty: 2 });
  assert.ok(new Set(various.ids).size > new Set((await complete({ ...ids, logit_bias: { [first]: 8 } })).ids).size);

  const best = await complete({ temperature: 1, seed: 5, n: 2, best_of: 4, ignore_eos: true });
  assert.equal(best.choices.length, 2);
  assert.equal(best.usage?.completion_tokens, 4 * 12);
});

test('errors arrive as the client’s own classes', async () => {
  await assert.rejects(tenant.client.chat.completions.create({ ...ask, model: 'nobody' }), (error: unknown) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, 'model_not_found');
    return true;
  });
  const stranger = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(tenant.client.chat.completions.create({ ...ask, temperature: 9 }), OpenAI.BadRequestError);
  await assert.rejects(
    tenant.client.completions.create({ model: BASE, prompt: new Array<number>(100_000).fill(5), max_tokens: 1 }),
    OpenAI.BadRequestError,
  );
});

test('the first chunk of a stream arrives before one and a half times the time of a one-token request', async () => {
  const median = (times: number[]) => times.sort((a, b) => a - b)[times.length >> 1]!;
  const oneToken: number[] = [];
  const firstChunk: number[] = [];
  for (let i = 0; i < 9; i++) {
    let began = performance.now();
    await tenant.client.chat.completions.create({ ...ask, max_tokens: 1 });
    oneToken.push(performance.now() - began);
    began = performance.now();
    const stream = await tenant.client.chat.completions.create({ ...ask, max_tokens: 48, stream: true });
    const chunks = stream[Symbol.asyncIterator]();
    await chunks.next();
    firstChunk.push(performance.now() - began);
    while (!(await chunks.next()).done);
  }
  assert.ok(median(firstChunk) < 1.5 * median(oneToken), `first chunk ${median(firstChunk)} ms, one token ${median(oneToken)} ms`);
});

test('a client that leaves pays for what was generated, and generation stops', async () => {
  const leaver = await stack.tenant('leaver');
  const stream = await leaver.client.chat.completions.create({
    model: BASE,
    messages: [{ role: 'user', content: 'Count from one to a thousand in words.' }],
    max_tokens: 1500,
    stream: true,
  });
  let chunks = 0;
  for await (const _ of stream) {
    if (++chunks === 10) break;
  }
  const row = await stack.settled(leaver);
  // What was generated before the engine heard of it: what arrived and at most a moment's worth more.
  assert.ok(row.settled >= 10 && row.settled < 400, `billed ${row.settled} tokens`);
  const usage = (await (await stack.call('/v1/usage', leaver.key)).json()) as {
    total: { prompt_tokens: number; completion_tokens: number };
  };
  assert.equal(usage.total.prompt_tokens + usage.total.completion_tokens, row.engine_committed);
});

test('flex says the same for half the price, whole and streamed', async () => {
  const costOf = async (service_tier: 'flex' | 'default') => {
    const payer = await stack.tenant(service_tier);
    const whole = await payer.client.chat.completions.create({ ...ask, service_tier }, { timeout: 60_000 });
    assert.equal(whole.service_tier, service_tier);
    const text = whole.choices[0]?.message.content;
    let streamed = '';
    for await (const chunk of await payer.client.chat.completions.create({ ...ask, service_tier, stream: true })) {
      assert.equal(chunk.service_tier, service_tier);
      streamed += chunk.choices[0]?.delta.content ?? '';
    }
    assert.equal(streamed, text);
    const { settled, engine_committed } = await stack.settled(payer);
    assert.equal(settled, engine_committed);
    const usage = (await (await stack.call('/v1/usage', payer.key)).json()) as { total: { requests: number; cost_nano: number } };
    assert.equal(usage.total.requests, 2);
    return { text, cost: usage.total.cost_nano };
  };
  const full = await costOf('default');
  const flex = await costOf('flex');
  assert.equal(flex.text, full.text);
  // A cached prompt token's half is rounded down.
  assert.ok(flex.cost > 0 && flex.cost <= full.cost / 2 && flex.cost > 0.45 * full.cost, `${flex.cost} of ${full.cost}`);
});
