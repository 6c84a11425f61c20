/** The real base with 4-bit weights: near float32 in quality, and as indifferent to company as the default. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { bitsOf, generate, open } from '../../synthetic/engine/support.ts';
import { basePath } from '../source/base-path.ts';
import { ADAPTERS, loadAdapter, perplexityText } from './support.ts';

const FP32_PERPLEXITY = 22.385;

const { engine, ...opened } = await open({ basePath: basePath(), precision: 'int4', context: 2048, speculation: false });
after(() => opened[Symbol.asyncDispose]());
const text = perplexityText().ids;

test('perplexity is within one percent of float32: the levels of the file are kept', async (t) => {
  const { prompt } = await generate(engine, text, { echo: true, logprobs: 0, maxTokens: 0 });
  const scored = prompt!.logprobs!.slice(1);
  const perplexity = Math.exp(-scored.reduce((sum, x) => sum + x!.logprob, 0) / scored.length);
  t.diagnostic(`perplexity ${perplexity}, ${((perplexity / FP32_PERPLEXITY - 1) * 100).toFixed(2)} % above float32`);
  assert.ok(Math.abs(perplexity / FP32_PERPLEXITY - 1) < 0.01);
});

test('streams with adapters and without give what each gives alone', async () => {
  const digests = await Promise.all(ADAPTERS.map((name) => loadAdapter(engine, name, 1)));
  const adapters = [
    ...digests.map((digest) => [{ digest, weight: 1 }]),
    [],
    digests.slice(0, 2).map((digest) => ({ digest, weight: 0.5 })),
    [],
  ];
  // Of different lengths, so that one decodes while another's prompt is computed.
  const ask = (i: number) =>
    generate(engine, text.slice(100 * i, 100 * i + 20 + 70 * i), { adapters: adapters[i]!, maxTokens: 12, logprobs: 5, ignoreEos: true });
  const alone = [];
  for (const i of adapters.keys()) alone.push(await ask(i));
  const together = await Promise.all(adapters.map((_, i) => ask(i)));
  assert.deepEqual(together.map(bitsOf), alone.map(bitsOf));
});
