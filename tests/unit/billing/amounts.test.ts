/** Properties of the billing arithmetic: exact, and never above what was held. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { amountOf, ceilingOf, chargesOf, MAX_USD, nanoOfUsd } from '../../../shared/billing/amounts.ts';
import { type Price, priceOf } from '../../../shared/billing/prices.ts';

const tokens = fc.nat({ max: 1_000_000 });
const nano = fc.nat({ max: 100_000 });
const price: fc.Arbitrary<Price> = fc
  .record({ prompt: nano, cachedPrompt: nano, completion: nano, adapterToken: nano })
  .map((p) => ({ ...p, cachedPrompt: Math.min(p.cachedPrompt, p.prompt) }));
const usage = fc
  .record({
    prompt_tokens: tokens,
    cached_tokens: tokens,
    completion_tokens: tokens,
    adapters: fc.array(fc.constant({}), { maxLength: 8 }),
    priority: fc.constantFrom('interactive' as const, 'batch' as const),
  })
  .map((u) => ({ ...u, cached_tokens: Math.min(u.cached_tokens, u.prompt_tokens) }));

test('a bill is an exact sum of non-empty lines, each quantity times price', () => {
  fc.assert(
    fc.property(usage, price, (u, p) => {
      const charges = chargesOf(u, p);
      for (const c of charges) assert.ok(c.quantity > 0 && Number.isSafeInteger(c.quantity * c.priceNano));
      const exact = charges.reduce((sum, c) => sum + BigInt(c.quantity) * BigInt(c.priceNano), 0n);
      assert.equal(BigInt(amountOf(charges)), exact);
    }),
  );
});

test('every token is billed once, and once more for each adapter', () => {
  fc.assert(
    fc.property(usage, price, (u, p) => {
      const unitOf = (unit: string) => (u.priority === 'batch' ? `batch_${unit}` : unit);
      const quantity = (...units: string[]) =>
        chargesOf(u, p).reduce((n, c) => n + (units.some((unit) => c.unit === unitOf(unit)) ? c.quantity : 0), 0);
      assert.equal(quantity('prompt_token', 'cached_prompt_token'), u.prompt_tokens);
      assert.equal(quantity('completion_token'), u.completion_tokens);
      assert.equal(quantity('adapter_token'), (u.prompt_tokens + u.completion_tokens) * u.adapters.length);
    }),
  );
});

test('a request within its bounds never costs more than was held for it', () => {
  fc.assert(
    fc.property(usage, price, tokens, tokens, (u, p, morePrompt, moreCompletion) => {
      const bounds = {
        prompt: u.prompt_tokens + morePrompt,
        completion: u.completion_tokens + moreCompletion,
        adapters: u.adapters.length,
      };
      assert.ok(amountOf(chargesOf(u, p)) <= ceilingOf(bounds, p));
    }),
  );
});

test('a cached prompt is cheaper in every listed price, and prices are whole', () => {
  for (const base of ['SmolLM2-135M-Instruct', 'anything else', '__proto__', 'constructor']) {
    for (const priority of ['interactive', 'batch'] as const) {
      const p = priceOf(base, priority);
      assert.ok(p.cachedPrompt < p.prompt && p.completion > 0);
      for (const value of Object.values(p)) assert.ok(Number.isSafeInteger(value));
    }
  }
});

test('batch work costs half: no unit more, and none a whole nano-USD less', () => {
  for (const base of ['SmolLM2-135M-Instruct', 'anything else']) {
    const [full, batch] = [priceOf(base, 'interactive'), priceOf(base, 'batch')];
    for (const key of Object.keys(full) as (keyof Price)[]) {
      assert.ok(batch[key] <= full[key] / 2 && batch[key] > full[key] / 2 - 1, key);
    }
  }
});

test('amounts in USD become whole nano-USD', () => {
  assert.deepEqual([0, 1e-9, 0.1, 0.29, 12.345678901, MAX_USD].map(nanoOfUsd), [0, 1, 100_000_000, 290_000_000, 12_345_678_901, 1e15]);
});
