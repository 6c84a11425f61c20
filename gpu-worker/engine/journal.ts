/**
 * The engine's append-only record of what it committed, from which usage is billed: one write per step. The lines
 * are described where they are read (server/journal.ts). A write that returned survives the process.
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { EngineWork } from '../../shared/contract/engine.ts';

export class UsageJournal {
  readonly #file: number;
  #lines: string[] = [];

  constructor(file: string) {
    mkdirSync(path.dirname(file), { recursive: true });
    this.#file = openSync(file, 'a');
  }

  start(request: EngineWork, baseRevision: string): void {
    const { id, account, base, adapters, priority } = request;
    this.#add({ t: 'start', id, account, base, base_revision: baseRevision, adapters, priority });
  }

  /** `cached`: those of the prompt's tokens that were not computed. */
  commit(id: string, prompt: number, completion: number, cached: number): void {
    if (prompt + completion > 0) this.#add({ t: 'commit', id, p: prompt, c: completion, ...(cached > 0 ? { k: cached } : {}) });
  }

  end(id: string, outcome: 'finished' | 'cancelled' | 'failed' | 'expired'): void {
    this.#add({ t: 'end', id, outcome, at: Date.now() });
  }

  #add(line: object): void {
    this.#lines.push(JSON.stringify(line));
  }

  /** Writes what was added since the last call. */
  write(): void {
    if (this.#lines.length === 0) return;
    const bytes = Buffer.from(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#file, bytes, done);
  }

  close(): void {
    this.write();
    closeSync(this.#file);
  }
}
