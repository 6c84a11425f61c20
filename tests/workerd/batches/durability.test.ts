/** A batch goes on by itself after a kill of the edge, and each of its requests is answered once. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { GenerateRequest } from '../../../shared/contract/worker.ts';
import { BatchClient, line } from '../support/batch.ts';
import { say } from '../support/chat.ts';
import { BASE, Peer } from '../support/peer.ts';
import { spawnEdge } from '../support/spawn.ts';
import { ADMIN_KEY, callerOf } from '../support/stack.ts';

const homes: string[] = [];
after(() => Promise.all(homes.map((home) => rm(home, { recursive: true, force: true }))));

const LINES = 60;
const lines = Array.from({ length: LINES }, (_, i) => line(`c-${i}`, { model: BASE.id, messages: [{ role: 'user', content: `${i}` }] }));

test('kill -9, again and again', async () => {
  const home = await mkdtemp(join(tmpdir(), 'switchyard-edge-'));
  homes.push(home);
  let key = '';
  let id = '';
  /** What the worker, which lives on, has said: by content, and by request id. */
  const asked = new Map<string, number>();
  const said = new Map<string, { request: GenerateRequest; content: string }>();
  for (let life = 0; ; life++) {
    const edge = await spawnEdge(home);
    const peer = await Peer.start(edge.url);
    let answered = 0;
    const third = new Promise<void>((resolve) => {
      peer.onGenerate = async (request, res) => {
        const content = request.input.kind === 'chat' ? request.input.messages[0]!.content : '';
        asked.set(content, (asked.get(content) ?? 0) + 1);
        await sleep(20);
        said.set(request.request_id, { request, content });
        say(request, res, { content });
        if (++answered === LINES / 3) resolve();
      };
    });
    peer.onAnswer = (requestId, res) => {
      const known = said.get(requestId);
      if (known) say(known.request, res, { content: known.content });
      else res.writeHead(404).end();
    };
    try {
      if (life === 0) {
        key = (await callerOf(edge.url, ADMIN_KEY).post('/v1/admin/tenants', { name: 'x' })).body.key;
        id = (await new BatchClient(edge.url, key).create(lines)).id;
      }
      if (life < 2) {
        await third;
        continue;
      }
      // Nobody asks for the batch: it is the alarm that goes on.
      while (asked.size < LINES) await sleep(20);
      const client = new BatchClient(edge.url, key);
      const done = await client.until(id, 'completed');
      assert.deepEqual(done.request_counts, { total: LINES, completed: LINES, failed: 0 });
      const answers = await client.answers(done.output_file_id);
      for (let i = 0; i < LINES; i++) {
        const body = answers.get(`c-${i}`)?.response?.body as { choices: { message: { content: string } }[] };
        assert.equal(body.choices[0]?.message.content, `${i}`);
      }
      assert.deepEqual(
        [...asked].filter(([, times]) => times !== 1),
        [],
        'each was generated once',
      );
      return;
    } finally {
      await peer.stop();
      await edge.kill();
    }
  }
});
