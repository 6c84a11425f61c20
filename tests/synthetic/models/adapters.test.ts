/** PEFT's packages on tiny models of every family: what PEFT computes with them, on every linear that they target. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { baseModules } from '../../../gpu-worker/base-modules.ts';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { packageFiles } from '../../contract/adapters/support.ts';
import { temporaryFolder } from '../../unit/source/fixtures.ts';
import {
  adapterOnAll,
  FAMILIES,
  floatsOf,
  largestDifference,
  logitsOf,
  openModel,
  promptsOf,
  rootMeanSquare,
  runPrompts,
  tensorsOf,
  writeWeights,
} from './support.ts';

const TOLERANCE = 5e-4;
const PROMPT = [1, 17, 300, 42, 9, 101, 250, 3];
/** Of the size of the logits: what 8-bit rows and columns of 64 random numbers leave. */
const INT8_TOLERANCE = 0.06;

// The packages of the llamas have tests of their own, from upload to answer.
const cases = readdirSync(FAMILIES)
  .filter((family) => !family.startsWith('llama') && existsSync(join(FAMILIES, family, 'adapters')))
  .flatMap((family) => readdirSync(join(FAMILIES, family, 'adapters')).map((name) => ({ family, name })));
assert.ok(cases.length >= 12);

for (const { family, name } of cases) {
  describe(`${name} on ${family}`, () => {
    const folder = join(FAMILIES, family);

    async function run(precision: 'fp32' | 'int8') {
      using model = await openModel(folder, precision);
      const files = packageFiles(`families/${family}/adapters/${name}`, ['golden.safetensors']);
      const { digest, bytes } = sealPackage(files, baseModules(model.checkpoint));
      const adapter = await model.adapter(digest, bytes);
      const golden = await tensorsOf(join(folder, 'adapters', name, 'golden.safetensors'));
      return ['a', 'b'].flatMap((group) => {
        const prompts = promptsOf(golden, `${group}.input_ids`);
        const expected = floatsOf(golden, `${group}.logits`);
        const width = expected.length / prompts.length;
        const plain = runPrompts(model, prompts);
        return runPrompts(model, prompts, [adapter]).map((logits, i) => ({
          logits,
          expected: expected.subarray(i * width, (i + 1) * width),
          plain: plain[i]!,
        }));
      });
    }

    test('logits of every row and position', async (t) => {
      const rows = await run('fp32');
      const worst = Math.max(...rows.map(({ logits, expected }) => largestDifference(logits, expected)));
      t.diagnostic(`largest error of a logit: ${worst}`);
      assert.ok(worst <= TOLERANCE, `a logit is off by ${worst}`);
      const effect = Math.max(...rows.map(({ plain, expected }) => largestDifference(plain, expected)));
      assert.ok(effect > 100 * TOLERANCE, `the adapter changes the logits by ${effect} only`);
    });

    // Where a choice of experts is close, 8 bits choose otherwise: families.test.ts has these.
    if (/moe|mixtral/.test(family)) return;
    test('in 8 bits, what the adapter changes', async (t) => {
      const [exact, rounded] = [await run('fp32'), await run('int8')];
      const change = ({ logits, plain }: (typeof exact)[number]) => logits.map((x, i) => x - plain[i]!);
      const [wanted, got] = [exact, rounded].map((rows) => rows.flatMap((row) => [...change(row)])) as [number[], number[]];
      const share = rootMeanSquare(got.map((x, i) => x - wanted[i]!)) / rootMeanSquare(exact.flatMap(({ logits }) => [...logits]));
      t.diagnostic(`error of the change: ${share} of the logits`);
      assert.ok(share <= INT8_TOLERANCE, `what the adapter changes is off by ${share} of the logits`);
    });
  });
}

describe('an adapter on every linear equals the base with its deltas merged in', () => {
  for (const family of readdirSync(FAMILIES)) {
    test(family, async (t) => {
      const folder = join(FAMILIES, family);
      const base = await openCheckpoint(folder);
      const { targets, digest, sealed } = adapterOnAll(base, 0);
      const merged = await temporaryFolder(t);
      copyFileSync(join(folder, 'config.json'), join(merged, 'config.json'));
      const weights = base.tensorNames().map((name) => {
        const values = base.tensor(name);
        const target = targets.get(name.replace(/\.weight$/, ''));
        if (target) addProduct(values, target);
        return [name, { shape: base.shape(name), values }] as const;
      });
      writeWeights(join(merged, 'model.safetensors'), new Map(weights), 'F32');

      using model = await openModel(folder, 'fp32');
      const adapter = await model.adapter(digest, sealed);
      const [got] = runPrompts(model, [PROMPT], [adapter]);
      const [plain] = runPrompts(model, [PROMPT]);
      const [expected] = await logitsOf(merged, [PROMPT]);
      const worst = largestDifference(got!, expected!);
      t.diagnostic(`largest error of a logit: ${worst}`);
      assert.ok(worst <= TOLERANCE, `a logit is off by ${worst}`);
      assert.ok(largestDifference(got!, plain!) > 100 * TOLERANCE, 'the adapter changes the logits');
    });
  }
});

/** W + B·A, in place. */
function addProduct(w: Float32Array, { A, B, rank }: { A: Float32Array; B: Float32Array; rank: number }): void {
  const width = A.length / rank;
  for (let i = 0; i < w.length; i++) {
    const out = Math.floor(i / width);
    for (let k = 0; k < rank; k++) w[i]! += B[out * rank + k]! * A[k * width + (i % width)]!;
  }
}
