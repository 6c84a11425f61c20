/**
 * The engine's append-only record of what it committed, from which usage is billed: one write per step. The lines
 * are described where they are read (server/journal.ts). A write that returned survives the process.
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { EngineRequest } from '../../shared/contract/engine.ts';

export class UsageJournal {
  readonly #file: number;
  #lines: string[] = [];

  constructor(file: string) {
    mkdirSync(path.dirname(file), { recursive: true });
    this.#file = openSync(file, 'a');
  }

  start(request: EngineRequest, baseRevision: string): void {
    const { id, account, base, adapters, priority } = request;
    this.#add({ t: 'start', id, account, base, base_revision: baseRevision, adapters, priority });
  }

  commit(id: string, promptTokens: number, completionTokens: number): void {
    if (promptTokens + completionTokens > 0) this.#add({ t: 'commit', id, p: promptTokens, c: completionTokens });
  }

  end(id: string, outcome: 'finished' | 'cancelled' | 'failed'): void {
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
