/** What the engine's journal writes, the server's reader understands. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { UsageJournal } from '../../../gpu-worker/engine/journal.ts';
import { Journal } from '../../../gpu-worker/server/journal.ts';
import type { EngineRequest } from '../../../shared/contract/engine.ts';
import { newRequestId, newTenantId } from '../../../shared/ids.ts';
import { requestOf } from '../../synthetic/engine/requests.ts';

const REVISION = 'ab'.repeat(32);
const DIGEST = 'cd'.repeat(32);

function request(): EngineRequest {
  const account = { tenant: newTenantId(), keyId: 'key', model: 'support@2', fromBatch: true };
  return { ...requestOf([[1]], { adapters: [{ digest: DIGEST, weight: -0.5 }] }), id: newRequestId(), account };
}

function inFile(t: { after(fn: () => void): void }, write: (journal: UsageJournal, read: () => string) => void): string {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-journal-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'deeper', 'usage.jsonl');
  const journal = new UsageJournal(path);
  write(journal, () => readFileSync(path, 'utf8'));
  journal.close();
  return readFileSync(path, 'utf8');
}

test('any course of requests reads back as the sums of its commits', (t) => {
  const count = fc.nat(300);
  const course = fc.array(
    fc.record({
      commits: fc.array(fc.tuple(count, count, fc.double({ min: 0, max: 1, noNaN: true })), { maxLength: 6 }),
      outcome: fc.constantFrom('finished' as const, 'cancelled' as const, 'failed' as const, 'expired' as const, null),
    }),
    { minLength: 1, maxLength: 6 },
  );
  fc.assert(
    fc.property(course, (requests) => {
      const all = requests.map((r) => ({ ...r, request: request() }));
      const text = inFile(t, (journal) => {
        for (const r of all) journal.start(r.request, REVISION);
        for (const r of all) for (const [p, c, share] of r.commits) journal.commit(r.request.id, p, c, Math.floor(p * share));
        for (const r of all) if (r.outcome) journal.end(r.request.id, r.outcome);
      });
      const reader = new Journal();
      reader.fold(text, 'test');
      const ended = new Map(reader.takeEnded().map((record) => [record.request_id, record]));
      for (const { request: sent, commits, outcome } of all) {
        const record = ended.get(sent.id) ?? reader.open.get(sent.id)!;
        assert.equal(ended.has(sent.id), outcome !== null);
        assert.equal(record.outcome, outcome ?? 'crashed');
        assert.equal(
          record.prompt_tokens,
          commits.reduce((sum, [p]) => sum + p, 0),
        );
        assert.equal(
          record.cached_tokens,
          commits.reduce((sum, [p, , share]) => sum + Math.floor(p * share), 0),
        );
        assert.equal(
          record.completion_tokens,
          commits.reduce((sum, [, c]) => sum + c, 0),
        );
        assert.deepEqual(record.adapters, sent.adapters);
        assert.deepEqual(
          [record.tenant, record.key_id, record.model, record.base_revision, record.from_batch],
          [sent.account.tenant, 'key', 'support@2', REVISION, true],
        );
      }
    }),
    { numRuns: 50 },
  );
});

test('lines are on disk when write returns, and not before', (t) => {
  const a = request();
  inFile(t, (journal, read) => {
    journal.start(a, REVISION);
    journal.commit(a.id, 3, 0, 0);
    assert.equal(read(), '');
    journal.write();
    assert.equal(read().split('\n').length, 3);
    journal.write();
    assert.equal(read().split('\n').length, 3);
  });
});

test('a commit of nothing is no line', (t) => {
  const a = request();
  assert.equal(
    inFile(t, (journal) => journal.commit(a.id, 0, 0, 0)),
    '',
  );
});
