/** kill -9 of the worker and of the edge in the middle of a stream: no silent end, service again, an exact bill. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BASE, eventually, TestStack as Stack, type TestStack, type TestTenant } from './stack.ts';

let stack: TestStack;
let tenant: TestTenant;
before(async () => {
  stack = await Stack.start();
  tenant = await stack.tenant();
});
after(() => stack[Symbol.asyncDispose]());

const long = {
  model: BASE,
  messages: [{ role: 'user' as const, content: 'Write a very long story about a lighthouse.' }],
  max_tokens: 1000,
  stream: true as const,
};

async function ask(): Promise<string> {
  const answer = await tenant.client.chat.completions.create({
    model: BASE,
    messages: [{ role: 'user', content: 'Say hello.' }],
    temperature: 0,
    max_tokens: 8,
  });
  return answer.choices[0]!.message.content ?? '';
}

/** Kills a process when ten chunks of a stream have arrived; answers how the stream ended for the client. */
async function streamUntilKilled(pid: number): Promise<'error' | 'truncated' | 'complete'> {
  let finished = false;
  let chunks = 0;
  try {
    for await (const chunk of await tenant.client.chat.completions.create(long)) {
      if (chunk.choices[0]?.finish_reason) finished = true;
      if (++chunks === 10) process.kill(pid, 'SIGKILL');
    }
  } catch {
    return 'error';
  }
  return finished ? 'complete' : 'truncated';
}

for (const victim of ['worker', 'edge'] as const) {
  test(`kill -9 of the ${victim} in the middle of a stream`, async () => {
    const before = await ask();
    const settledBefore = (await stack.settled(tenant)).settled;
    const run = await stack.run();
    const pid = (victim === 'worker' ? run.workers[0] : run.edge)!.pid;
    assert.notEqual(await streamUntilKilled(pid), 'complete');

    await eventually(`${victim} started again`, 60_000, async () => {
      const now = await stack.run();
      const process = victim === 'worker' ? now.workers[0] : now.edge;
      return process && process.pid !== pid;
    });
    assert.equal(await eventually('an answer as before', 60_000, ask), before);
    const row = await stack.settled(tenant);
    // The stream that was cut is on the bill: its prompt and at least the chunks that arrived.
    assert.ok(row.settled >= settledBefore + 10, `${settledBefore} tokens were settled before, ${row.settled} after`);
    const usage = (await (await stack.call('/v1/usage', tenant.key)).json()) as {
      total: { prompt_tokens: number; completion_tokens: number };
    };
    assert.equal(usage.total.prompt_tokens + usage.total.completion_tokens, row.engine_committed);
  });
}
