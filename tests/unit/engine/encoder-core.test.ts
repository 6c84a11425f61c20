/** The core over an encoder that is played: every text once, within a step's bounds, tenants in turn, paid for as computed. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { EncoderCore, encoderPages } from '../../../gpu-worker/engine/encoder-core.ts';
import { UsageJournal } from '../../../gpu-worker/engine/journal.ts';
import type { Row } from '../../../gpu-worker/engine/model.ts';
import { PagePool, pagesFor } from '../../../gpu-worker/engine/pages.ts';
import { pooled } from '../../../gpu-worker/engine/pooling.ts';
import { Journal } from '../../../gpu-worker/server/journal.ts';
import { scaledToOne } from '../../../gpu-worker/tensor/unit-length.ts';
import type { EmbeddingEvent, EngineWork } from '../../../shared/contract/engine.ts';
import { newRequestId, newTenantId } from '../../../shared/ids.ts';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-encoder-core-'));
after(() => rmSync(folder, { recursive: true }));

const CONTEXT = 600;
const ROWS = 4;
const TENANTS = [newTenantId(), newTenantId()];
let journals = 0;

/** What the played model makes of a token; the core pools it. */
const stateOf = (token: number): Float32Array => Float32Array.of(token, 1, Math.sin(token));

function make() {
  const pool = new PagePool(encoderPages(ROWS, CONTEXT));
  const steps: Row[][] = [];
  const events = new Map<string, EmbeddingEvent[]>();
  const clock = { now: 1_000 };
  const path = join(folder, `usage-${journals++}.jsonl`);
  const core = new EncoderCore({
    model: {
      run(rows) {
        steps.push([...rows]);
        clock.now += 10;
        return rows.flatMap(({ tokens }) => tokens.map(stateOf));
      },
    },
    pool,
    rows: ROWS,
    pooling: 'mean',
    adapterTable: (digest) => BigInt(digest[0]!),
    journal: new UsageJournal(path),
    baseRevision: 'ab'.repeat(32),
    now: () => clock.now,
    emit: (batches) => {
      for (const [id, more] of batches) events.set(id, [...(events.get(id) ?? []), ...more]);
    },
  });
  return {
    ...{ core, pool, steps, events, clock },
    run() {
      while (!core.idle) core.step();
    },
    records() {
      const journal = new Journal();
      journal.fold(readFileSync(path, 'utf8'), path);
      return journal.takeEnded();
    },
  };
}

const workOf = (prompts: number[][], more: Partial<EngineWork> = {}, tenant = TENANTS[0]!): EngineWork => ({
  id: newRequestId(),
  account: { tenant, keyId: 'key', model: 'base', fromBatch: false },
  priority: 'interactive',
  tenantWeight: 1,
  deadline: null,
  base: 'base',
  prompts,
  adapters: [],
  ...more,
});

const tokensOf = (prompts: readonly number[][]): number => prompts.reduce((sum, { length }) => sum + length, 0);

test('every text is computed once, in steps within their bounds, whole, and nothing is kept', () => {
  const prompt = fc.integer({ min: 1, max: CONTEXT }).map((length) => Array.from({ length }, (_, i) => (i * 7 + length) % 100));
  const requests = fc.array(fc.array(prompt, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(requests, (all) => {
      const { core, pool, steps, events, run, records } = make();
      const works = all.map((prompts, i) => workOf(prompts, {}, TENANTS[i % 2]));
      for (const work of works) core.submit(work);
      run();
      for (const { id, prompts } of works) {
        const own = events.get(id)!;
        const vectors: Float32Array[] = [];
        for (const event of own.slice(0, -1)) if (event.type === 'embedding') vectors[event.prompt] = event.values;
        assert.equal(own.length, prompts.length + 1);
        assert.deepEqual(
          vectors,
          prompts.map((tokens) => pooled(tokens.map(stateOf), 'mean')),
        );
        const done = own.at(-1)!;
        assert.ok(done.type === 'done' && done.outcome === 'finished');
        assert.equal(done.usage.promptTokens, tokensOf(prompts));
        assert.equal(records().find(({ request_id }) => request_id === id)?.prompt_tokens, tokensOf(prompts));
      }
      for (const rows of steps) {
        assert.ok(rows.length <= ROWS);
        assert.ok(rows.length === 1 || rows.reduce((sum, { tokens }) => sum + tokens.length, 0) <= 512);
        const pages = rows.flatMap((row) => row.pages);
        assert.equal(new Set(pages).size, pages.length);
        assert.ok(rows.every((row) => row.pages.length === pagesFor(row.tokens.length)));
      }
      assert.equal(pool.held, 0);
    }),
  );
});

test('a tenant with one text does not wait for all of another’s', () => {
  const { core, events } = make();
  core.submit(workOf(Array.from({ length: 100 }, () => [1, 2, 3])));
  core.step();
  const small = workOf([[5, 6]], {}, TENANTS[1]);
  core.submit(small);
  core.step();
  assert.equal(events.get(small.id)?.at(-1)?.type, 'done');
});

test('batch work waits for interactive work', () => {
  const { core, steps } = make();
  core.submit(
    workOf(
      Array.from({ length: 6 }, () => [1]),
      { priority: 'batch' },
    ),
  );
  core.submit(workOf(Array.from({ length: 6 }, () => [2])));
  core.step();
  assert.ok(steps[0]!.every(({ tokens }) => tokens[0] === 2));
});

test('what was not begun by its deadline expires and costs nothing', () => {
  const { core, clock, events, run, records } = make();
  const late = workOf([[1]], { deadline: clock.now - 1 });
  core.submit(late);
  run();
  assert.deepEqual(events.get(late.id), [
    { type: 'done', usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }, outcome: 'expired' },
  ]);
  assert.equal(records()[0]?.outcome, 'expired');
});

test('a cancelled request ends with the next step and pays for the texts that were computed', () => {
  const { core, events, records } = make();
  const work = workOf(Array.from({ length: 10 }, () => [1, 2]));
  core.submit(work);
  core.step();
  core.cancel(work.id);
  core.step();
  assert.ok(core.idle);
  const done = events.get(work.id)!.at(-1)!;
  assert.ok(done.type === 'done' && done.outcome === 'cancelled');
  assert.equal(done.usage.promptTokens, 2 * ROWS);
  assert.equal(records()[0]?.prompt_tokens, 2 * ROWS);
});

test('the first token’s state is the vector where the base pools so', () => {
  assert.deepEqual(pooled([Float32Array.of(3, 4), Float32Array.of(9, 9)], 'cls'), Float32Array.of(0.6, 0.8));
  assert.deepEqual(scaledToOne([0, 0]), Float32Array.of(0, 0));
});
