/** What an engine owes its callers, request by request, on a tiny base that speaks ASCII. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { Journal } from '../../../gpu-worker/server/journal.ts';
import { createTokenizer } from '../../../gpu-worker/tokenizer/tokenizer.ts';
import type { EngineEvent } from '../../../shared/contract/engine.ts';
import { newTenantId } from '../../../shared/ids.ts';
import { failure, LLAMA } from '../../unit/source/fixtures.ts';
import { bitsOf, generate, open, requestOf, run, submit } from './support.ts';
import { writeTextBase } from './text-base.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-text-base-'));
writeTextBase(folder);
const ROWS = 4;
const QUEUE = 6;
const CONTEXT = 96;
const { engine, journalPath, ...opened } = await open({
  basePath: folder,
  precision: 'int8',
  threads: 1,
  rows: ROWS,
  queue: QUEUE,
  context: CONTEXT,
});
after(async () => {
  await opened[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});
const tokenizer = createTokenizer((await openCheckpoint(folder)).tokenizer!);
const PROMPT = [93, 50, 150, 199, 262, 200, 63];
const OTHER = [115, 294, 262, 291, 187];
const TALK = { ignoreEos: true, maxTokens: 20 } as const;

describe('sampling', () => {
  const HOT = { ...TALK, temperature: 1.2, topP: 0.95, logprobs: 2 };

  test('a seed gives the same answer again, another seed another', async () => {
    const first = await generate(engine, PROMPT, { ...HOT, seed: 7 });
    assert.deepEqual(bitsOf(await generate(engine, PROMPT, { ...HOT, seed: 7 })), bitsOf(first));
    assert.notDeepEqual((await generate(engine, PROMPT, { ...HOT, seed: 8 })).ids, first.ids);
  });

  test('without a seed answers differ', async () => {
    const answers = await Promise.all([1, 2, 3].map(() => generate(engine, PROMPT, HOT)));
    assert.equal(new Set(answers.map(({ text }) => text)).size, 3);
  });

  test('choices of one request differ from each other and come again with the seed', async () => {
    const ask = async () => (await run(engine, requestOf([PROMPT], { ...HOT, n: 4, seed: 21 }))).sequences;
    const [first, second] = [await ask(), await ask()];
    assert.equal(new Set(first.map(({ text }) => text)).size, 4);
    assert.deepEqual(second.map(bitsOf), first.map(bitsOf));
  });

  test('a choice is what it would be with other numbers of choices', async () => {
    const [two, three] = await Promise.all([2, 3].map((n) => run(engine, requestOf([PROMPT], { ...HOT, n, seed: 3 }))));
    assert.deepEqual(three!.sequences.slice(0, 2).map(bitsOf), two!.sequences.map(bitsOf));
  });

  test('top_k 1 is greedy at any temperature', async () => {
    const greedy = await generate(engine, PROMPT, TALK);
    assert.deepEqual((await generate(engine, PROMPT, { ...TALK, temperature: 2, topK: 1, seed: 1 })).ids, greedy.ids);
  });
});

describe('length and end', () => {
  test('max_tokens is kept, and the reason is length', async () => {
    for (const maxTokens of [1, 2, 17]) {
      const { ids, reason } = await generate(engine, PROMPT, { ...TALK, maxTokens });
      assert.deepEqual([ids.length, reason], [maxTokens, 'length']);
    }
  });

  test('without max_tokens the context is the end', async () => {
    const { ids, reason } = await generate(engine, PROMPT, { ignoreEos: true, maxTokens: null });
    assert.deepEqual([ids.length, reason], [CONTEXT - PROMPT.length, 'length']);
  });

  test('the end-of-text token ends a sequence, is counted and not shown, unless it is to be ignored', async () => {
    const EOS = 2;
    const hot = { temperature: 2, maxTokens: CONTEXT - PROMPT.length };
    for (let seed = 0; ; seed++) {
      assert.ok(seed < 200, 'no seed led to the end-of-text token');
      const through = await generate(engine, PROMPT, { ...hot, seed, ignoreEos: true });
      const at = through.ids.indexOf(EOS);
      if (at < 0) continue;
      assert.equal(through.reason, 'length');
      const ended = await generate(engine, PROMPT, { ...hot, seed });
      assert.deepEqual([ended.ids, ended.reason], [through.ids.slice(0, at + 1), 'stop']);
      assert.equal(ended.text, tokenizer.decode(ended.ids));
      break;
    }
  });
});

describe('stop strings', () => {
  test('one that lies across tokens ends the text before it, and nothing of it was shown on the way', async () => {
    const whole = await generate(engine, PROMPT, TALK);
    assert.equal(whole.text, tokenizer.decode(whole.ids));
    for (const [from, length] of [
      [2, 2],
      [5, 3],
      [8, 6],
    ] as const) {
      const stop = whole.text.slice(from, from + length);
      const expected = whole.text.slice(0, whole.text.indexOf(stop));
      const { text, reason, ids } = await generate(engine, PROMPT, { ...TALK, stop: ['never said', stop] });
      assert.deepEqual([text, reason], [expected, 'stop']);
      assert.deepEqual(ids, whole.ids.slice(0, ids.length));
      const complete = tokenizer.decode(ids);
      assert.ok(complete.includes(stop) && !tokenizer.decode(ids.slice(0, -1)).includes(stop), 'it ends with the token that completes it');
    }
  });

  test('text held back for one that does not come is shown in the end', async () => {
    const whole = await generate(engine, PROMPT, TALK);
    const events: EngineEvent[] = [];
    const almost = `${whole.text.slice(-3)}\u0000`;
    const { result } = submit(engine, requestOf([PROMPT], { ...TALK, stop: [almost] }), (more) => events.push(...more));
    assert.equal((await result).sequences[0]!.text, whole.text);
    const finish = events.find((event) => event.type === 'finish')!;
    assert.equal(finish.text, whole.text.slice(-3));
  });
});

describe('echo and log-probabilities', () => {
  test('the prompt comes back with its text and its log-probabilities, the first of them null', async () => {
    const { prompt, ids } = await generate(engine, PROMPT, { ...TALK, echo: true, logprobs: 3 });
    assert.deepEqual([prompt!.ids, prompt!.text], [PROMPT, tokenizer.decode(PROMPT)]);
    assert.equal(prompt!.logprobs!.length, PROMPT.length);
    const [first, ...rest] = prompt!.logprobs!;
    assert.equal(first, null);
    assert.deepEqual(
      rest.map((x) => x!.id),
      PROMPT.slice(1),
    );
    assert.ok(rest.every((x) => x!.top.length === 3 && x!.logprob <= x!.top[0]!.logprob));
    assert.deepEqual(ids, (await generate(engine, PROMPT, TALK)).ids);
  });

  test('max_tokens 0 scores the prompt and generates nothing', async () => {
    const scored = await run(engine, requestOf([PROMPT], { echo: true, logprobs: 0, maxTokens: 0 }));
    const [{ prompt, ids, reason }] = scored.sequences as [(typeof scored.sequences)[number]];
    assert.deepEqual([prompt!.logprobs!.length, ids, reason], [PROMPT.length, [], 'length']);
    assert.deepEqual(scored.done.usage, { promptTokens: PROMPT.length, cachedTokens: 0, completionTokens: 0 });
  });

  test('the log-probability of a token in the prompt is what it was when it was generated', async () => {
    const { ids, logprobs } = await generate(engine, PROMPT, { ...TALK, logprobs: 0, maxTokens: 6 });
    const { prompt } = await generate(engine, [...PROMPT, ...ids], { echo: true, logprobs: 0, maxTokens: 0 });
    for (const [i, { logprob }] of logprobs!.entries()) {
      assert.equal(prompt!.logprobs![PROMPT.length + i]!.logprob, logprob);
    }
  });

  test('a greedy token is the best of its alternatives; none are told unless asked for', async () => {
    const { ids, logprobs } = await generate(engine, PROMPT, { ...TALK, logprobs: 5 });
    assert.deepEqual(
      logprobs!.map(({ top }) => top[0]!.id),
      ids,
    );
    assert.equal((await generate(engine, PROMPT, TALK)).logprobs, null);
    assert.equal((await generate(engine, PROMPT, { ...TALK, echo: true })).prompt!.logprobs, null);
  });
});

test('a batch of prompts, each with its choices, in the order of the contract', async () => {
  const { sequences, done } = await run(engine, requestOf([PROMPT, OTHER], { ...TALK, n: 2, echo: true }));
  const [a, b] = [await generate(engine, PROMPT, TALK), await generate(engine, OTHER, TALK)];
  assert.deepEqual(
    sequences.map(({ prompt, ids }) => [prompt!.ids, ids]),
    [
      [PROMPT, a.ids],
      [PROMPT, a.ids],
      [OTHER, b.ids],
      [OTHER, b.ids],
    ],
  );
  assert.deepEqual(done.usage, { promptTokens: PROMPT.length + OTHER.length, cachedTokens: 0, completionTokens: 80 });
});

describe('refusals', () => {
  const refused = (prompt: number[], maxTokens: number | null, code: string | undefined, message: RegExp) =>
    assert.throws(
      () => engine.submit(requestOf([prompt], { maxTokens }), () => assert.fail('no events are due')),
      (error) => {
        failure('invalid_request', message)(error);
        assert.equal((error as { value: { code?: string } }).value.code, code);
        return true;
      },
    );

  test('a prompt and completion beyond the context', async () => {
    const long = Array<number>(CONTEXT).fill(5);
    refused(long, null, 'context_length_exceeded', /maximum context length is 96 tokens.*96 in the prompt/);
    refused(long, 1, 'context_length_exceeded', /96 in the prompt and asks for 1/);
    refused(PROMPT, CONTEXT - PROMPT.length + 1, 'context_length_exceeded', /asks for 90/);
    assert.equal((await generate(engine, long, { maxTokens: 0, echo: true })).prompt!.ids.length, CONTEXT);
    assert.equal((await generate(engine, long.slice(1), { maxTokens: null, ignoreEos: true })).ids.length, 1);
  });

  test('an empty prompt, and a token that there is not', () => {
    refused([], 1, undefined, /expected at least one token/);
    refused([3, 320], 1, undefined, /token ids are below 320, got 320/);
  });

  test('an adapter that is not resident', () => {
    const adapters = [{ digest: 'ef'.repeat(32), weight: 1 }];
    assert.throws(() => engine.submit(requestOf([PROMPT], { adapters }), () => {}), failure('internal', /adapter efef.* is not resident/));
  });

  test('more sequences than may ever wait, and more than may wait now', async () => {
    assert.throws(
      () => engine.submit(requestOf([PROMPT], { n: ROWS + QUEUE + 1 }), () => {}),
      failure('invalid_request', /at most 10, got 11/),
    );
    const tenant = newTenantId();
    const full = submit(engine, requestOf([PROMPT], { ...TALK, tenant, n: ROWS + QUEUE }));
    assert.throws(
      () => engine.submit(requestOf([PROMPT], { tenant }), () => {}),
      failure('rate_limited', /10 sequences run or wait, 10 of them yours/),
    );
    await generate(engine, PROMPT);
    const { sequences } = await full.result;
    assert.equal(new Set(sequences.map(({ text }) => text)).size, 1);
    await run(engine, requestOf([PROMPT], { tenant }));
  });
});

describe('cancellation', () => {
  test('generation stops, and all rows are free', async () => {
    const count = ROWS + QUEUE;
    const untilTheEnd = count * (CONTEXT - PROMPT.length);
    let seen = 0;
    const submitted = submit(engine, requestOf([PROMPT], { ignoreEos: true, maxTokens: null, n: count }), (events) => {
      seen += events.filter(({ type }) => type === 'tokens').length;
      if (seen > 5) submitted.cancel();
    });
    const { sequences, done } = await submitted.result;
    assert.equal(done.outcome, 'cancelled');
    // How many steps exactly, the core's own test tells: here two hops between threads lie in between.
    const emitted = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
    assert.ok(emitted < untilTheEnd, 'it did not run to its end');
    assert.equal(done.usage.completionTokens, emitted);
    const { active, queued } = await engine.stats();
    assert.deepEqual({ active, queued }, { active: 0, queued: 0 });
  });

  test('a request that still waits ends without a token', async () => {
    const running = submit(engine, requestOf([PROMPT], { ...TALK, n: ROWS }));
    const waiting = submit(engine, requestOf([OTHER], TALK));
    waiting.cancel();
    const { sequences, done } = await waiting.result;
    assert.deepEqual([sequences[0]!.ids, sequences[0]!.reason, done.outcome], [[], 'cancelled', 'cancelled']);
    assert.deepEqual(done.usage, { promptTokens: 0, cachedTokens: 0, completionTokens: 0 });
    await running.result;
    waiting.cancel();
  });
});

test('usage is what was emitted, in the events and in the journal alike', async () => {
  const reader = new Journal();
  const asked = [
    requestOf([PROMPT], { ...TALK, n: 3, seed: 1, temperature: 1 }),
    requestOf([PROMPT, OTHER], { ...TALK, maxTokens: 3 }),
    requestOf([OTHER], { maxTokens: 0, echo: true }),
    requestOf([OTHER], { ignoreEos: true, maxTokens: null }),
  ];
  const submitted = asked.map((request) => submit(engine, request));
  submitted[3]!.cancel();
  const results = await Promise.all(submitted.map(({ result }) => result));
  // Whatever an event told was in the journal before it left.
  reader.fold(readFileSync(journalPath, 'utf8'), journalPath);
  const records = new Map(reader.takeEnded().map((record) => [record.request_id, record]));
  assert.equal(reader.open.size, 0);
  for (const [i, { sequences, done }] of results.entries()) {
    const record = records.get(asked[i]!.id)!;
    const emitted = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
    assert.equal(done.usage.completionTokens, emitted);
    assert.deepEqual([record.prompt_tokens, record.completion_tokens, record.outcome], [done.usage.promptTokens, emitted, done.outcome]);
    assert.deepEqual([record.tenant, record.base_revision], [asked[i]!.account.tenant, engine.base.revision]);
  }
});

test('a base without a tokenizer takes token ids and shows no text', async () => {
  await using bare = await open({ basePath: LLAMA, precision: 'fp32', threads: 1 });
  const { has_tokenizer, has_chat_template } = bare.engine.base;
  assert.deepEqual([has_tokenizer, has_chat_template], [false, false]);
  const { prompt, ids, text } = await generate(bare.engine, PROMPT, { ...TALK, echo: true, stop: ['x'] });
  assert.deepEqual([prompt!.text, text, ids.length], ['', '', 20]);
});

test('an unknown precision and a base that is not there are refused by name', async () => {
  await assert.rejects(open({ basePath: LLAMA, precision: 'int3' }), failure('unsupported', /"int3".*auto, fp32, int8 or int4/));
  await assert.rejects(open({ basePath: '/nowhere', precision: 'fp32' }), failure('invalid_request', /\/nowhere: no such file/));
});

test('after closing, nothing is accepted, and what ran has failed', async () => {
  const closing = await open({ basePath: LLAMA, precision: 'fp32', threads: 1 });
  const running = submit(closing.engine, requestOf([PROMPT], { ignoreEos: true, maxTokens: null }));
  await closing[Symbol.asyncDispose]();
  assert.equal((await running.result).done.outcome, 'failed');
  assert.throws(() => closing.engine.submit(requestOf([PROMPT]), () => {}), failure('internal', /the engine is not running/));
  await assert.rejects(closing.engine.stats(), /the engine was closed/);
});
