/**
 * Usage survives any kill: whatever prefix of the journal is on disk, each request becomes exactly one
 * record with exactly its whole committed lines, and totals never move.
 */
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { Outbox } from '../../../gpu-worker/server/outbox.ts';
import { acksFile, compact, journalFile } from '../../../gpu-worker/server/outbox-files.ts';
import type { UsageRecord } from '../../../shared/contract/worker.ts';

const TENANTS = ['ten_aaaaaaaaaaaaaaaa', 'ten_bbbbbbbbbbbbbbbb'];
const requestId = (i: number) => `req_${String(i).padStart(24, '0')}`;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'outbox-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  request: number;
  tenant: string;
  commits: { p: number; c: number }[];
  ended: boolean;
}

const runs = fc
  .array(
    fc.record({
      tenant: fc.constantFrom(...TENANTS),
      commits: fc.array(fc.record({ p: fc.nat(50), c: fc.nat(50) }), { maxLength: 6 }),
      ended: fc.boolean(),
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((list): Run[] => list.map((run, request) => ({ ...run, request })));

const start = ({ request, tenant }: Run) => ({
  t: 'start',
  id: requestId(request),
  account: { tenant, keyId: 'key', model: 'm', fromBatch: false },
  base: 'b',
  base_revision: 'a'.repeat(64),
  adapters: [],
});

/** The journal's lines with requests interleaved as a batch would. */
function linesOf(list: Run[]): string[] {
  const lines: object[] = list.map(start);
  for (let step = 0; step < 6; step++) {
    for (const { request, commits } of list) {
      const commit = commits[step];
      if (commit) lines.push({ t: 'commit', id: requestId(request), ...commit });
    }
  }
  for (const { request, ended } of list) if (ended) lines.push({ t: 'end', id: requestId(request), outcome: 'finished', at: 5 });
  return lines.map((line) => `${JSON.stringify(line)}\n`);
}

interface Counted {
  byRequest: Map<string, number>;
  byTenant: Map<string, number>;
}

/** What must be counted from these whole lines: computed apart from the code under test. */
function expected(lines: string[]): Counted {
  const byRequest = new Map<string, number>();
  const byTenant = new Map<string, number>();
  const tenantOf = new Map<string, string>();
  for (const text of lines) {
    const line = JSON.parse(text);
    if (line.t === 'start') {
      byRequest.set(line.id, 0);
      tenantOf.set(line.id, line.account.tenant);
    } else if (line.t === 'commit') {
      byRequest.set(line.id, byRequest.get(line.id)! + line.p + line.c);
      const tenant = tenantOf.get(line.id)!;
      byTenant.set(tenant, (byTenant.get(tenant) ?? 0) + line.p + line.c);
    }
  }
  return { byRequest, byTenant };
}

const tokensOf = (records: UsageRecord[]) => new Map(records.map((r) => [r.request_id, r.prompt_tokens + r.completion_tokens]));

test('a journal cut at any byte gives one record a request and exact totals, however often the start is killed', async () => {
  await fc.assert(
    fc.asyncProperty(runs, fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), async (list, cut, killedAfterRename) => {
      const work = await mkdtemp(join(folder, 'run-'));
      try {
        const whole = Buffer.from(linesOf(list).join(''));
        const kept = whole.subarray(0, Math.floor(cut * whole.length));
        const journal = journalFile(work, 0);
        await writeFile(journal, kept);

        const first = await compact(work, 1000);
        // A kill between the snapshot's rename and the removal of the old files leaves both.
        if (killedAfterRename) await writeFile(journal, kept);
        const second = await compact(work, 2000);

        const text = kept.toString('utf8');
        const counted = expected(
          text
            .slice(0, text.lastIndexOf('\n') + 1)
            .split('\n')
            .filter(Boolean),
        );
        for (const snapshot of [first, second]) {
          assert.equal(snapshot.unacknowledged.length, counted.byRequest.size);
          assert.deepEqual(tokensOf(snapshot.unacknowledged), counted.byRequest);
          assert.deepEqual(new Map(Object.entries(snapshot.committed)), counted.byTenant);
        }
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    }),
    { numRuns: 150 },
  );
});

test('records whose acknowledgement is on disk are not sent again; one cut short is', async () => {
  const list: Run[] = [0, 1, 2].map((request) => ({ request, tenant: TENANTS[0]!, commits: [{ p: 2, c: 3 }], ended: true }));
  await writeFile(journalFile(folder, 0), linesOf(list).join(''));
  await writeFile(acksFile(folder, 0), `${JSON.stringify({ id: requestId(1) })}\n${JSON.stringify({ id: requestId(2) }).slice(0, 20)}`);
  const { unacknowledged, committed } = await compact(folder, 1000);
  assert.deepEqual(
    unacknowledged.map((r) => r.request_id),
    [requestId(0), requestId(2)],
  );
  assert.deepEqual(committed, { [TENANTS[0]!]: 15 });
});

test('a request that the crash left open is billed what was committed', async () => {
  const [run]: Run[] = [
    {
      request: 0,
      tenant: TENANTS[0]!,
      commits: [
        { p: 7, c: 1 },
        { p: 0, c: 1 },
      ],
      ended: false,
    },
  ];
  await writeFile(journalFile(folder, 0), linesOf([run!]).join(''));
  const { unacknowledged } = await compact(folder, 1234);
  const [record] = unacknowledged;
  assert.deepEqual([record?.outcome, record?.prompt_tokens, record?.completion_tokens, record?.finished_at], ['crashed', 7, 2, 1234]);
});

test('a damaged line inside the journal stops the start instead of losing usage', async () => {
  await writeFile(journalFile(folder, 0), `{"t":"start"\n${linesOf([]).join('')}`);
  await assert.rejects(compact(folder, 0), /not a journal line/);
});

test('while the engine appends and the edge fails at random, every record arrives and totals add up', async () => {
  const list: Run[] = Array.from({ length: 40 }, (_, request) => ({
    request,
    tenant: TENANTS[request % 2]!,
    commits: [
      { p: request, c: 1 },
      { p: 0, c: 2 },
    ],
    ended: true,
  }));
  const durable = new Map<string, UsageRecord>();
  let calls = 0;
  const outbox = await Outbox.open({
    folder,
    onError: () => {},
    send: async (records) => {
      calls++;
      if (calls % 3 === 1) throw new Error('the edge is away');
      for (const record of records) durable.set(record.request_id, record);
      // Lost answers: durable there, not acknowledged here.
      if (calls % 3 === 2) throw new Error('the answer was lost');
      return records.map((record) => record.request_id);
    },
  });
  const bytes = Buffer.from(linesOf(list).join(''));
  for (let at = 0; at < bytes.length; at += 777) {
    await appendFile(outbox.journalPath, bytes.subarray(at, at + 777));
    await outbox.flush();
  }
  for (let i = 0; i < 200 && (await outbox.totals())[TENANTS[0]!]?.outbox !== 0; i++) await sleep(20);
  const { byRequest, byTenant } = expected(linesOf(list));
  assert.deepEqual(tokensOf([...durable.values()]), byRequest);
  const totals = await outbox.totals();
  for (const tenant of TENANTS) {
    assert.deepEqual(totals[tenant], { engine_committed: byTenant.get(tenant), outbox: 0, running: 0 });
  }
  await outbox.close(0);

  const again = await Outbox.open({ folder, onError: () => {}, send: async () => assert.fail('everything was acknowledged') });
  await again.flush();
  assert.deepEqual(await again.totals(), totals);
  await again.close(0);
  assert.deepEqual((await readdir(folder)).sort(), ['acks-2.jsonl', 'journal-2.jsonl', 'snapshot.json']);
  assert.equal(JSON.parse(await readFile(join(folder, 'snapshot.json'), 'utf8')).generation, 2);
});

test('a journal of any length is folded, wherever its lines are cut in reading', async () => {
  const run: Run = { request: 0, tenant: TENANTS[0]!, commits: [], ended: true };
  const [first, last] = linesOf([run]) as [string, string];
  const commit = `${JSON.stringify({ t: 'commit', id: requestId(0), p: 0, c: 1 })}\n`;
  const count = Math.ceil((5 << 20) / commit.length);
  await writeFile(journalFile(folder, 0), first + commit.repeat(count) + last + commit.slice(0, 20));
  const { committed, unacknowledged } = await compact(folder, 1);
  assert.equal(committed[TENANTS[0]!], count);
  assert.deepEqual(
    unacknowledged.map((r) => [r.completion_tokens, r.outcome]),
    [[count, 'finished']],
  );
});
