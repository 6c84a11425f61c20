/** llama.cpp's own HTTP server beside ours, with adapters loaded at its start (it knows no other way). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../../cli/supervisor.ts';
import type { BenchBase } from './base.ts';
import { ggufAdapter } from './gguf-lora.ts';
import type { LlamaCpp, Quantisation } from './llama-cpp.ts';

/** Sequences side by side, and tokens of context for all of them together. */
const PARALLEL = 16;
const CONTEXT = 16_384;
const START_TIMEOUT_MS = 120_000;

export class LlamaServer {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(url: string, process: ChildProcess, folder: string) {
    this.url = url;
    this.#process = process;
    this.#folder = folder;
  }

  static async start(peer: LlamaCpp, quantisation: Quantisation, base: BenchBase, adapters: number, rank: number): Promise<LlamaServer> {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-llama-server-'));
    const files: string[] = [];
    for (let seed = 0; seed < adapters; seed++) {
      const file = join(folder, `${seed}.gguf`);
      await writeFile(file, ggufAdapter(seed, base.modules, rank));
      files.push(file);
    }
    const port = await freePort();
    const threads = String(availableParallelism());
    const args = ['-m', peer.model(quantisation), '-t', threads, '-tb', threads, '-np', String(PARALLEL), '-c', String(CONTEXT)];
    // A cache for each slot is faster here than one for all; nothing of a prompt is kept, as with ours.
    args.push('-no-kvu', '-cram', '0', '--host', '127.0.0.1', '--port', String(port));
    if (files.length > 0) args.push('--lora', files.join(','), '--lora-init-without-apply');
    const child = spawn(peer.program('llama-server'), args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (log = (log + text).slice(-4000)));
    const server = new LlamaServer(`http://127.0.0.1:${port}`, child, folder);
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (
      !(await fetch(`${server.url}/health`).then(
        ({ ok }) => ok,
        () => false,
      ))
    ) {
      if (child.exitCode !== null || Date.now() > deadline) {
        await server[Symbol.asyncDispose]();
        throw new Error(`llama-server did not start: ${log}`);
      }
      await sleep(50);
    }
    return server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null) {
      const exited = once(this.#process, 'exit');
      this.#process.kill('SIGTERM');
      await exited;
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
