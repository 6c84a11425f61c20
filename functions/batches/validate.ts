/** Reads a batch's input once: every line is right and the batch may run, or the batch has failed and says where. */
import type { BatchError } from '../../shared/contract/batches.ts';
import type { Env } from '../env.ts';
import { objectOf } from '../files/files.ts';
import { checkLine, linesOf, MOST_LINES } from './input.ts';
import type { BatchStore, NewLine, StoredBatch } from './store.ts';

/** Findings that one answer holds. */
const MOST_ERRORS = 100;
/** Lines written in one transaction. */
const CHUNK = 500;

/** Reads from the beginning, also after an earlier reading that was cut short. Rejects when `signal` is aborted. */
export async function validate(env: Env, store: BatchStore, { document, job }: StoredBatch, signal: AbortSignal): Promise<void> {
  const { id, endpoint, input_file_id: input } = document;
  const errors: BatchError[] = [];
  const report = (code: string, message: string, line: number | null, param: string | null = null) =>
    errors.push({ code, message, param, line });
  store.clearLines(id);
  const object = await env.BUCKET.get(objectOf(job.tenant, input));
  if (!object) {
    store.fail(id, [{ code: 'input_file_not_found', message: `The file ${input} is gone.`, param: 'input_file_id', line: null }]);
    return;
  }
  let pending: NewLine[] = [];
  const flush = () => {
    for (const number of store.addLines(id, pending))
      report('duplicate_custom_id', 'Another line has this custom_id.', number, 'custom_id');
    pending = [];
  };
  let total = 0;
  for await (const line of linesOf(object.body)) {
    signal.throwIfAborted();
    if (++total > MOST_LINES) {
      report('too_many_tasks', `A batch may have at most ${MOST_LINES} requests.`, line.number);
      break;
    }
    const checked = checkLine(line, endpoint);
    if (checked.ok) pending.push({ number: line.number, customId: checked.customId, offset: line.offset, length: line.bytes!.byteLength });
    else errors.push(checked.error);
    if (pending.length >= CHUNK) flush();
    if (errors.length >= MOST_ERRORS) break;
  }
  flush();
  // The reading may have been the last of a batch that was cancelled meanwhile.
  signal.throwIfAborted();
  if (total === 0) report('empty_file', 'The input file holds no requests.', null, 'input_file_id');
  if (errors.length > 0) store.fail(id, errors.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)).slice(0, MOST_ERRORS));
  else store.enter(id, 'in_progress', { request_counts: { total, completed: 0, failed: 0 } });
}
