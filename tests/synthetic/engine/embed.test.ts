/** Embeddings of the engine over a tiny BERT: the reference's vectors, the same bits in any company, paid for once. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { Journal } from '../../../gpu-worker/server/journal.ts';
import type { EmbeddingEvent, Engine, EngineWork } from '../../../shared/contract/engine.ts';
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import { packageFiles } from '../../contract/adapters/support.ts';
import { ENCODERS, FAMILIES, floatsOf, largestDifference, promptsOf, tensorsOf } from '../models/support.ts';
import { requestOf } from './requests.ts';
import { noise, type OpenedEngine, open } from './support.ts';

const FOLDER = join(ENCODERS, 'bert');
const TOLERANCE = 2e-5;
const ADAPTERS = ['lora-bert', 'lora-bert-qv-fp16'];

const cases = await tensorsOf(join(FOLDER, 'cases.safetensors'));
const golden = ['a', 'b'].flatMap((group) => {
  const mask = promptsOf(cases, `${group}.attention_mask`);
  const embeddings = floatsOf(cases, `${group}.embedding`);
  const width = embeddings.length / mask.length;
  return promptsOf(cases, `${group}.input_ids`).map((ids, i) => ({
    tokens: ids.filter((_, at) => mask[i]![at] === 1),
    embedding: embeddings.subarray(i * width, (i + 1) * width),
  }));
});
const texts = golden.map(({ tokens }) => tokens);

function workOf(prompts: number[][], adapters: AdapterRef[] = []): EngineWork {
  const { id, account, base, priority, tenantWeight, deadline } = requestOf(prompts);
  return { id, account, base, priority, tenantWeight, deadline, prompts, adapters };
}

type Done = Extract<EmbeddingEvent, { type: 'done' }>;

function start(engine: Engine, work: EngineWork) {
  const { promise, resolve } = Promise.withResolvers<{ vectors: Float32Array[]; done: Done }>();
  const vectors: Float32Array[] = [];
  const { cancel } = engine.embed(work, (events) => {
    for (const event of events) {
      if (event.type === 'embedding') vectors[event.prompt] = event.values;
      else resolve({ vectors, done: event });
    }
  });
  return { result: promise, cancel };
}

const embed = async (engine: Engine, prompts: number[][], adapters: AdapterRef[] = []) =>
  (await start(engine, workOf(prompts, adapters)).result).vectors;

/** Loads PEFT's packages; answers how a request names each. */
async function loadAdapters({ load }: OpenedEngine): Promise<AdapterRef[]> {
  const modules = baseModules(await openCheckpoint(FOLDER));
  return Promise.all(
    ADAPTERS.map(async (name) => {
      const { digest, bytes } = sealPackage(packageFiles(`encoders/bert/adapters/${name}`, ['golden.safetensors']), modules);
      await load(digest, bytes);
      return { digest, weight: 1 };
    }),
  );
}

describe('in float32', () => {
  let opened: OpenedEngine;
  before(async () => {
    opened = await open({ basePath: FOLDER, precision: 'fp32', rows: 3 });
  });
  after(() => opened[Symbol.asyncDispose]());

  test('the base says what it does', () => {
    const { task, context_length, family } = opened.engine.base;
    assert.deepEqual({ task, context_length, family }, { task: 'embed', context_length: 64, family: 'bert' });
  });

  test('vectors are those of the reference', async (t) => {
    const vectors = await embed(opened.engine, texts);
    const worst = Math.max(...vectors.map((vector, i) => largestDifference(vector, golden[i]!.embedding)));
    t.diagnostic(`largest error: ${worst}`);
    assert.ok(worst <= TOLERANCE, `a vector is off by ${worst}`);
  });

  test('usage is what was computed, in the journal too', async () => {
    const work = workOf([texts[0]!, texts[3]!]);
    const tokens = texts[0]!.length + texts[3]!.length;
    const { done } = await start(opened.engine, work).result;
    assert.deepEqual(done.usage, { promptTokens: tokens, cachedTokens: 0, completionTokens: 0 });
    assert.equal(done.outcome, 'finished');
    const journal = new Journal();
    journal.fold(readFileSync(opened.journalPath, 'utf8'), 'here');
    const record = journal.takeEnded().find(({ request_id }) => request_id === work.id)!;
    assert.deepEqual([record.prompt_tokens, record.completion_tokens, record.outcome], [tokens, 0, 'finished']);
  });

  test('a request that is cancelled ends, and pays for what was computed', async () => {
    const many = Array.from({ length: 500 }, () => Array.from({ length: 60 }, (_, i) => i));
    const { result, cancel } = start(opened.engine, workOf(many));
    cancel();
    const { vectors, done } = await result;
    assert.equal(done.outcome, 'cancelled');
    assert.equal(done.usage.promptTokens, 60 * vectors.filter(Boolean).length);
    assert.ok(done.usage.promptTokens < 500 * 60);
  });

  const refused: [string, number[][], RegExp][] = [
    ['a text beyond the context', [[1], Array.from({ length: 65 }, () => 1)], /maximum context length is 64 tokens; the input has 65/],
    ['a token beyond the vocabulary', [[320]], /input: token ids are below 320, got 320/],
    ['no tokens', [[]], /input: expected at least one token/],
  ];
  for (const [what, prompts, message] of refused) {
    test(`refused: ${what}`, () => {
      assert.throws(() => opened.engine.embed(workOf(prompts), () => {}), message);
    });
  }

  test('refused: to generate with it', () => {
    assert.throws(() => opened.engine.submit(requestOf([[1]]), () => {}), /generate with bert: this base does not/);
  });
});

test('in 8 bits a vector is the same bits whatever shares its steps, with adapters and without', async () => {
  await using opened = await open({ basePath: FOLDER, precision: 'int8', rows: 7 });
  const refs = await loadAdapters(opened);
  const mixtures: AdapterRef[][] = [[], [refs[0]!], [refs[1]!], refs.map((ref) => ({ ...ref, weight: 0.5 }))];
  const prompts = [...texts, ...[1, 2, 3, 4, 5].map((seed) => Array.from(noise(12 * seed, seed), (x) => Math.floor(160 * (x + 1))))];
  const alone: Float32Array[][] = [];
  for (const adapters of mixtures) {
    const vectors: Float32Array[] = [];
    for (const prompt of prompts) vectors.push(...(await embed(opened.engine, [prompt], adapters)));
    alone.push(vectors);
  }
  assert.notDeepEqual(alone[0], alone[1]);
  assert.deepEqual(await Promise.all(mixtures.map((adapters) => embed(opened.engine, prompts, adapters))), alone);
});

test('refused: embeddings of a decoder', async () => {
  await using opened = await open({ basePath: join(FAMILIES, 'llama'), precision: 'fp32' });
  assert.throws(() => opened.engine.embed(workOf([[1]]), () => {}), /embed with llama: this base does not/);
});
