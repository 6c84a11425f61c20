/** Adapters on a tiny llama, from PEFT's package to the engine's answers: single, mixed, and beside each other. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { readSealed, writeSealed } from '../../../shared/adapters/sealed.ts';
import type { AdapterRef } from '../../../shared/contract/worker.ts';
import { fixture, packageFiles } from '../../contract/adapters/support.ts';
import { imagesFor } from '../../support/images.ts';
import { LLAMA, temporaryFolder } from '../../unit/source/fixtures.ts';
import { floatsOf, largestDifference, promptsOf, tensorsOf, writeWeights } from '../models/support.ts';
import { distributions, generate, open } from './support.ts';

const TOLERANCE = 5e-4;
const NOT_IN_PACKAGE = ['delta.safetensors'];
/** What PEFT's model says with each package, by its name. */
const GOLDEN = fixture('families/llama/adapters');

const checkpoint = await openCheckpoint(LLAMA);
const modules = baseModules(checkpoint);
const imageOf = await imagesFor(LLAMA, 'fp32');
const { engine, ...opened } = await open({ basePath: LLAMA, precision: 'fp32', threads: 1 });
after(() => opened[Symbol.asyncDispose]());

const rows = readdirSync(GOLDEN).map((file) => basename(file, '.safetensors'));
const seal = (row: string) => sealPackage(packageFiles(`adapters/${row}`, NOT_IN_PACKAGE), modules);

async function load(row: string): Promise<string> {
  const { digest, bytes } = seal(row);
  await engine.load(digest, await imageOf(digest, bytes));
  return digest;
}

function logSoftmax(logits: Float32Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b));
  const total = max + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return Float64Array.from(logits, (x) => x - total);
}

describe('what PEFT computes with each package', () => {
  assert.equal(rows.length, 15);
  for (const row of rows) {
    test(row, async (t) => {
      const golden = await tensorsOf(join(GOLDEN.pathname, `${row}.safetensors`));
      const adapters = [{ digest: await load(row), weight: 1 }];
      let worst = 0;
      for (const group of ['a', 'b']) {
        const expected = floatsOf(golden, `${group}.logits`);
        let at = 0;
        for (const prompt of promptsOf(golden, `${group}.input_ids`)) {
          for (const got of await distributions(engine, prompt, adapters)) {
            worst = Math.max(worst, largestDifference(got, logSoftmax(expected.subarray(at, at + got.length))));
            at += got.length;
          }
        }
        assert.equal(at, expected.length);
      }
      t.diagnostic(`largest error of a log-probability: ${worst}`);
      assert.ok(worst <= TOLERANCE, `a log-probability is off by ${worst}`);
    });
  }
});

const PROMPT = [93, 50, 150, 199, 262, 200, 63, 119];

/** A base whose weights are W + Σ w · B A, in float64. */
async function mergedBase(folder: string, parts: readonly { row: string; weight: number }[]): Promise<void> {
  const values = new Map(
    checkpoint.tensorNames().map((name) => [name, { shape: checkpoint.shape(name), values: checkpoint.tensor(name) }]),
  );
  for (const { row, weight } of parts) {
    for (const [module, { A, B, rank }] of readSealed(seal(row).bytes).targets) {
      const { values: w } = values.get(`${module}.weight`)!;
      const width = A.length / rank;
      for (let i = 0; i < w.length; i++) {
        const out = Math.floor(i / width);
        let delta = 0;
        for (let k = 0; k < rank; k++) delta += B[out * rank + k]! * A[k * width + (i % width)]!;
        w[i]! += weight * delta;
      }
    }
  }
  copyFileSync(join(LLAMA, 'config.json'), join(folder, 'config.json'));
  writeWeights(join(folder, 'model.safetensors'), values, 'F32');
}

describe('mixtures equal the base with the weighted sum of deltas merged in', () => {
  for (const parts of [
    [{ row: 'lora-r8-qv', weight: 0.5 }],
    [
      { row: 'lora-r4-all-linear', weight: 0.7 },
      { row: 'lora-rslora', weight: -0.3 },
    ],
    [
      { row: 'lora-rank-alpha-pattern', weight: 1.5 },
      { row: 'lora-fp16', weight: -1 },
      { row: 'lora-r8-qv', weight: 0.25 },
    ],
  ]) {
    test(parts.map(({ row, weight }) => `${weight} · ${row}`).join(' + '), async (t) => {
      const folder = await temporaryFolder(t);
      await mergedBase(folder, parts);
      await using merged = await open({ basePath: folder, precision: 'fp32', threads: 1 });
      const adapters: AdapterRef[] = [];
      for (const { row, weight } of parts) adapters.push({ digest: await load(row), weight });
      const expected = await distributions(merged.engine, PROMPT);
      const got = await distributions(engine, PROMPT, adapters);
      const worst = Math.max(...got.map((row, i) => largestDifference(row, expected[i]!)));
      t.diagnostic(`largest error of a log-probability: ${worst}`);
      assert.ok(worst <= TOLERANCE, `a log-probability is off by ${worst}`);
      const base = await distributions(engine, PROMPT);
      assert.ok(Math.max(...got.map((row, i) => largestDifference(row, base[i]!))) > 0.1, 'the mixture changes the base');
    });
  }
});

test('an adapter with weight zero leaves the base as it is', async () => {
  const adapters = [{ digest: await load('lora-r4-all-linear'), weight: 0 }];
  const [got, base] = [await distributions(engine, PROMPT, adapters), await distributions(engine, PROMPT)];
  assert.ok(Math.max(...got.map((row, i) => largestDifference(row, base[i]!))) < 1e-5);
});

describe('the total rank of a request', () => {
  const [path, { in: width, out }] = [...modules.linears][0]!;
  const wide = async (rank: number) => {
    const targets = new Map([[path, { A: new Float32Array(rank * width).fill(0.01), B: new Float32Array(rank * out).fill(0.01), rank }]]);
    const sealed = writeSealed({ baseRevision: modules.revision, rank, targets });
    const digest = createHash('sha256').update(sealed).digest('hex');
    await engine.load(digest, await imageOf(digest, sealed));
    return digest;
  };

  test('is not bounded by the engine: wide ones run beside others', async () => {
    const running = generate(engine, PROMPT, { maxTokens: 40, ignoreEos: true });
    const digest = await wide(300);
    const adapters = Array.from({ length: 8 }, () => ({ digest, weight: 0.1 }));
    assert.equal((await generate(engine, PROMPT, { adapters })).ids.length, 16);
    assert.equal((await running).ids.length, 40);
  });
});

describe('what may be loaded', () => {
  test('loading is idempotent, unloading frees, and one in use is kept', async () => {
    const before = await engine.stats();
    const { digest, bytes } = seal('lora-bf16');
    await engine.unload(digest);
    const { residentAdapters } = await engine.stats();
    const image = await imageOf(digest, bytes);
    await Promise.all([engine.load(digest, image), engine.load(digest, image)]);
    assert.equal((await engine.stats()).residentAdapters, residentAdapters + 1);
    const running = generate(engine, PROMPT, { adapters: [{ digest, weight: 1 }], maxTokens: 60, ignoreEos: true });
    await assert.rejects(engine.unload(digest), /a request is using it/);
    await running;
    await engine.unload(digest);
    await engine.unload(digest);
    assert.ok(!engine.isResident(digest));
    const after = await engine.stats();
    assert.equal(after.residentAdapters, residentAdapters);
    assert.equal(after.sessions, before.sessions);
  });
});
