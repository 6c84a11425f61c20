/**
 * The outbox on disk, in generations: snapshot.json holds everything before journal-<n>.jsonl and
 * acks-<n>.jsonl. A start folds generation n into a new snapshot that points to n + 1; the rename of
 * the snapshot is the one moment at which that happens, so a kill anywhere loses and doubles nothing.
 */
import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { UsageRecord } from '../../shared/contract/worker.ts';
import { RequestId } from '../../shared/ids.ts';
import { Journal } from './journal.ts';

const Snapshot = z.strictObject({
  /** The generation that is not in this snapshot. */
  generation: z.number().int().nonnegative(),
  committed: z.record(z.string(), z.number().int().nonnegative()),
  unacknowledged: z.array(UsageRecord),
});
type Snapshot = z.infer<typeof Snapshot>;

const Ack = z.strictObject({ id: RequestId });

export const journalFile = (folder: string, generation: number): string => join(folder, `journal-${generation}.jsonl`);
export const acksFile = (folder: string, generation: number): string => join(folder, `acks-${generation}.jsonl`);
const snapshotFile = (folder: string): string => join(folder, 'snapshot.json');

async function readSnapshot(path: string): Promise<Snapshot> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  return text === null ? { generation: 0, committed: {}, unacknowledged: [] } : Snapshot.parse(JSON.parse(text));
}

const PIECE_BYTES = 1 << 20;

/**
 * The file in pieces of whole lines, since a long run leaves more than a string can hold; nothing if it is absent. A
 * last line that a kill cut short is left out.
 */
async function* wholeLines(path: string): AsyncGenerator<string> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (!file) return;
  await using _ = file;
  let rest = Buffer.alloc(0);
  for (;;) {
    const { bytesRead, buffer } = await file.read({ buffer: Buffer.alloc(PIECE_BYTES) });
    if (bytesRead === 0) return;
    const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    const end = bytes.lastIndexOf(0x0a) + 1;
    rest = bytes.subarray(end);
    yield bytes.toString('utf8', 0, end);
  }
}

async function writeSnapshot(folder: string, snapshot: Snapshot): Promise<void> {
  const temporary = `${snapshotFile(folder)}.tmp`;
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(JSON.stringify(snapshot));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, snapshotFile(folder));
}

/** What earlier runs left, folded into a snapshot; the returned generation's files do not exist yet. */
export async function compact(folder: string, now: number): Promise<Snapshot> {
  const before = await readSnapshot(snapshotFile(folder));
  const path = journalFile(folder, before.generation);
  const journal = new Journal(Object.entries(before.committed));
  for await (const lines of wholeLines(path)) journal.fold(lines, path);
  journal.crash(now);

  const acknowledged = new Set<string>();
  for await (const lines of wholeLines(acksFile(folder, before.generation))) {
    for (const line of lines.split('\n')) if (line !== '') acknowledged.add(Ack.parse(JSON.parse(line)).id);
  }
  const after: Snapshot = {
    generation: before.generation + 1,
    committed: Object.fromEntries(journal.committed),
    unacknowledged: [...before.unacknowledged, ...journal.takeEnded()].filter((record) => !acknowledged.has(record.request_id)),
  };
  await writeSnapshot(folder, after);
  for (const name of await readdir(folder)) {
    const generation = /^(?:journal|acks)-(\d+)\.jsonl$/.exec(name)?.[1];
    if (generation !== undefined && Number(generation) < after.generation) await rm(join(folder, name), { force: true });
  }
  return after;
}
