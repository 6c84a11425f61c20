/** What is held for a request before anybody has counted its tokens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boundsOf } from '../../../functions/billing/bounds.ts';
import type { ChatMessage, Tool } from '../../../shared/contract/worker.ts';
import { BASE } from '../../workerd/support/peer.ts';

const completion = (prompts: (string | number[])[], more: object = {}) =>
  boundsOf({ input: { kind: 'completion', prompts }, best_of: 1, max_tokens: 16, adapters: [], ...more }, BASE);

test('prompts count bytes of text or ids; every choice of every prompt may be full', () => {
  assert.deepEqual(completion(['añ', [1, 2, 3, 4]], { best_of: 3 }), { prompt: 3 + 4, completion: 16 * 3 * 2, adapters: 0 });
});

test('nothing is longer than the context', () => {
  assert.deepEqual(completion(['x'.repeat(10_000)], { max_tokens: null }), { prompt: 512, completion: 512, adapters: 0 });
  assert.equal(completion(['x'], { max_tokens: 1e9 }).completion, 512);
});

test("a chat leaves room for the template's own tokens", () => {
  const input = {
    kind: 'chat' as const,
    messages: [{ role: 'user' as const, content: 'hi' }],
    tools: [],
    tool_choice: { type: 'none' as const },
    parallel_tool_calls: true,
  };
  const { prompt } = boundsOf({ input, best_of: 1, max_tokens: 1, adapters: [{ digest: BASE.revision, weight: 1 }] }, BASE);
  assert.ok(prompt > 40 && prompt <= 512);
});

test('tools, calls and their results count as what a template may make of them', () => {
  const parameters = { type: 'object', properties: { city: { type: 'string' } } };
  const tools = [{ name: 'weather', description: null, parameters, strict: false }];
  const roomy = { ...BASE, context_length: 1e6 };
  const bound = (messages: ChatMessage[], offered: Tool[]) =>
    boundsOf(
      {
        input: { kind: 'chat', messages, tools: offered, tool_choice: { type: 'auto' }, parallel_tool_calls: true },
        ...{ best_of: 1, max_tokens: 1, adapters: [] },
      },
      roomy,
    ).prompt;
  const hi: ChatMessage = { role: 'user', content: 'hi' };
  const calls = [{ id: 'call_1', name: 'weather', arguments: '{"city":"Oslo"}' }];
  const shown = Buffer.byteLength(JSON.stringify(tools, null, 4));
  assert.ok(bound([hi], tools) - bound([hi], []) > shown);
  assert.ok(
    bound([hi, { role: 'assistant', content: '', tool_calls: calls }], []) - bound([hi], []) > JSON.stringify(calls, null, 4).length,
  );
});

test('texts to embed have no more tokens than bytes and what stands around them', () => {
  const inputs = ['añ', [1, 2, 3, 4], 'x'.repeat(10_000)];
  assert.deepEqual(boundsOf({ inputs, adapters: [] }, BASE), { prompt: 3 + 2 + 4 + 512, completion: 0, adapters: 0 });
});
