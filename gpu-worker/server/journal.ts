/**
 * Reads the engine's usage journal: what was started, which tokens were committed, what ended. The
 * engine thread appends whole steps; this side folds lines into state, the same way while the worker
 * runs and when it replays the file after a crash.
 *
 *   {"t":"start","id","account":{tenant,keyId,model,fromBatch},"base","base_revision","adapters":[{digest,weight}],"priority"}
 *   {"t":"commit","id","p":prompt tokens,"c":completion tokens,"k":cached prompt tokens}
 *   {"t":"end","id","outcome":"finished"|"cancelled"|"failed"|"expired","at":ms}
 */
import { z } from 'zod';
import { AdapterRef, Priority, type UsageRecord } from '../../shared/contract/worker.ts';
import { Digest, RequestId, TenantId } from '../../shared/ids.ts';

const count = z.number().int().nonnegative();
const Line = z.discriminatedUnion('t', [
  z.strictObject({
    t: z.literal('start'),
    id: RequestId,
    account: z.strictObject({ tenant: TenantId, keyId: z.string(), model: z.string(), fromBatch: z.boolean().default(false) }),
    base: z.string(),
    base_revision: Digest,
    adapters: z.array(AdapterRef),
    priority: Priority.default('interactive'),
  }),
  z.strictObject({ t: z.literal('commit'), id: RequestId, p: count, c: count, k: count.default(0) }),
  z.strictObject({ t: z.literal('end'), id: RequestId, outcome: z.enum(['finished', 'cancelled', 'failed', 'expired']), at: count }),
]);

export class Journal {
  /** Started and not ended. */
  readonly open = new Map<string, UsageRecord>();
  /** Ended since `takeEnded` was last called. */
  #ended: UsageRecord[] = [];
  /** Prompt and completion tokens that the engine committed, by tenant. */
  readonly committed: Map<string, number>;

  constructor(committed: Iterable<[string, number]> = []) {
    this.committed = new Map(committed);
  }

  /** Folds in complete lines. `where` is for messages. */
  fold(text: string, where: string): void {
    for (const line of text.split('\n')) {
      if (line !== '') this.#apply(line, where);
    }
  }

  #apply(text: string, where: string): void {
    const parsed = Line.safeParse(parseJson(text));
    if (!parsed.success) throw new Error(`usage journal ${where}: not a journal line: ${text.slice(0, 200)}`);
    const line = parsed.data;
    if (line.t === 'start') {
      this.open.set(line.id, {
        request_id: line.id,
        tenant: line.account.tenant,
        key_id: line.account.keyId,
        model: line.account.model,
        base: line.base,
        base_revision: line.base_revision,
        adapters: line.adapters,
        priority: line.priority,
        from_batch: line.account.fromBatch,
        prompt_tokens: 0,
        cached_tokens: 0,
        completion_tokens: 0,
        finished_at: 0,
        outcome: 'crashed',
      });
      return;
    }
    const record = this.open.get(line.id);
    if (!record) throw new Error(`usage journal ${where}: ${line.t} of ${line.id}, which was not started`);
    switch (line.t) {
      case 'commit':
        record.prompt_tokens += line.p;
        record.cached_tokens += line.k;
        record.completion_tokens += line.c;
        this.committed.set(record.tenant, (this.committed.get(record.tenant) ?? 0) + line.p + line.c);
        break;
      case 'end':
        this.open.delete(line.id);
        this.#ended.push({ ...record, outcome: line.outcome, finished_at: line.at });
        break;
      default:
        line satisfies never;
    }
  }

  takeEnded(): UsageRecord[] {
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  /** Ends what the crash of the engine left open: its committed tokens are billed. */
  crash(at: number): void {
    for (const record of this.open.values()) this.#ended.push({ ...record, finished_at: at });
    this.open.clear();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
