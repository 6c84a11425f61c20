/** Chunks of prompts under a step's time, and the model of time that they rest on. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CostModel, type StepWork } from '../../../gpu-worker/engine/cost-model.ts';
import { Random } from '../../../gpu-worker/engine/sampling/random.ts';
import { LARGEST_CHUNK, LEAST_CHUNK, type Prefill, planChunks } from '../../../gpu-worker/engine/step-plan.ts';

/** A machine with costs of its own. */
const truth = ({ decoding, prompt, attended }: StepWork) => 4 + 0.9 * decoding + 0.35 * prompt + attended / 5000;

function learnt(steps: number, work: (random: Random) => StepWork): CostModel {
  const model = new CostModel();
  const random = new Random(1, 1);
  for (let i = 0; i < steps; i++) {
    const w = work(random);
    model.learn(w, truth(w) * (0.95 + 0.1 * random.next()));
  }
  return model;
}
const mixed = (random: Random): StepWork => {
  const decoding = Math.floor(random.next() * 17);
  const prompt = random.next() < 0.5 ? 0 : Math.floor(random.next() * 256);
  return { decoding, prompt, attended: 200 * decoding + 100 * prompt };
};

describe('the cost model', () => {
  test('learns what a machine takes', () => {
    const model = learnt(300, mixed);
    for (const work of [
      { decoding: 1, prompt: 0, attended: 200 },
      { decoding: 16, prompt: 0, attended: 3200 },
      { decoding: 8, prompt: 96, attended: 11_200 },
      { decoding: 0, prompt: 256, attended: 25_600 },
    ]) {
      const [got, expected] = [model.milliseconds(work), truth(work)];
      assert.ok(Math.abs(got - expected) < 0.15 * expected + 0.5, `${JSON.stringify(work)}: ${got}, ${expected}`);
    }
  });

  test('steps of one kind leave the price of another kind where it was', () => {
    const before = new CostModel().promptToken(0);
    const model = learnt(500, () => ({ decoding: 4, prompt: 0, attended: 800 }));
    assert.ok(Math.abs(model.milliseconds({ decoding: 4, prompt: 0, attended: 800 }) - 7.76) < 0.5);
    assert.ok(Math.abs(model.promptToken(0) - before) < 0.01);
  });

  test('prices stay above zero, and one stalled step does not upset them', () => {
    const model = learnt(100, mixed);
    const before = model.milliseconds({ decoding: 8, prompt: 64, attended: 8000 });
    model.learn({ decoding: 8, prompt: 64, attended: 8000 }, 5000);
    const after = model.milliseconds({ decoding: 8, prompt: 64, attended: 8000 });
    assert.ok(after < 2 * before, `${before} → ${after}`);
    const fast = new CostModel();
    for (let i = 0; i < 200; i++) fast.learn({ decoding: i % 9, prompt: 0, attended: 0 }, 5);
    assert.ok(fast.decodingToken(0) > 0 && fast.promptToken(1000) > 0);
  });
});

const prefill = (remaining: number, more: Partial<Prefill> = {}): Prefill => ({
  priority: 'interactive',
  remaining,
  past: 0,
  limit: Number.POSITIVE_INFINITY,
  advanced: 0,
  ...more,
});
const NONE: StepWork = { decoding: 0, prompt: 0, attended: 0 };
const FOUR: StepWork = { decoding: 4, prompt: 0, attended: 800 };

describe('chunks', () => {
  const model = learnt(300, mixed);

  test('while others decode the step keeps its time, and prefill advances however little is left', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ remaining: fc.integer({ min: 1, max: 8000 }), past: fc.nat(8000) }), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 32 }),
        fc.integer({ min: 1, max: 100 }),
        (of, decoding, stepMs) => {
          const besides = { decoding, prompt: 0, attended: 100 * decoding };
          const prefills = of.map(({ remaining, past }) => prefill(remaining, { past }));
          const chunks = planChunks(prefills, besides, stepMs, model, 0);
          const total = chunks.reduce((a, b) => a + b, 0);
          assert.ok(total > 0 && total <= LARGEST_CHUNK);
          const attended = chunks.reduce((sum, n, i) => sum + n * (of[i]!.past + n / 2), besides.attended);
          const time = model.milliseconds({ decoding, prompt: total, attended });
          const most = Math.max(stepMs, 1.5 * model.milliseconds(besides));
          assert.ok(total <= LEAST_CHUNK || time <= most + 0.5, `${time} of ${stepMs} ms`);
          for (const [i, n] of chunks.entries()) assert.ok(Number.isInteger(n) && n >= 0 && n <= of[i]!.remaining);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('when nobody decodes a step takes more, and most when nobody waits', () => {
    const [alone] = planChunks([prefill(4000)], NONE, 40, model, 0);
    const [beside] = planChunks([prefill(4000)], FOUR, 40, model, 0);
    assert.ok(alone! > 4 * beside!, `${alone}, ${beside}`);
    const both = planChunks([prefill(4000), prefill(4000)], NONE, 40, model, 0);
    assert.ok(both[0]! > 2 * beside! && both[0]! < alone!, `${both}, ${alone}`);
  });

  test('interactive before batch, short before long, but nobody is passed over for long', () => {
    const prefills = [prefill(900, { advanced: 0 }), prefill(40, { advanced: 100 }), prefill(5, { priority: 'batch', advanced: 100 })];
    assert.deepEqual(planChunks(prefills, FOUR, 60, model, 100).slice(1), [40, 0]);
    assert.ok(planChunks(prefills, FOUR, 60, model, 100)[0]! > 0);
    const late = planChunks(prefills, FOUR, 20, model, 550);
    assert.ok(late[0]! >= LEAST_CHUNK);
    assert.deepEqual(late.slice(1), [0, 0]);
  });

  test('what is scored token by token keeps its own limit', () => {
    assert.deepEqual(planChunks([prefill(1000, { limit: 20 })], NONE, 40, model, 0), [20]);
  });
});
