/** llama.cpp beside us: installed on demand by tests/setup-peers, run through its own benchmarks. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { ROOT } from '../../../cli/home.ts';

const exec = promisify(execFile);

/** Our quality, and its fastest. */
export const QUANTISATIONS = ['Q8_0', 'Q4_0'] as const;
export type Quantisation = (typeof QUANTISATIONS)[number];

const THREADS = String(availableParallelism());
const INSTALL_TIMEOUT_MS = 30 * 60_000;
const RUN_TIMEOUT_MS = 10 * 60_000;

const BatchedRow = z.object({ pl: z.number(), speed_tg: z.number() });
const BenchRow = z.object({ n_prompt: z.number(), samples_ts: z.array(z.number()) });

export class LlamaCpp {
  readonly #folder: string;
  /** How it was built, in a sentence. */
  readonly build: string;

  private constructor(folder: string, build: string) {
    this.#folder = folder;
    this.build = build;
  }

  /** `model`: the GGUF file that it serves requantised. */
  static async setUp(model: string): Promise<LlamaCpp> {
    if (!model.endsWith('.gguf'))
      throw new Error(`llama.cpp beside ${model}: expected a GGUF file; name one with --base, or leave it out with --peers none`);
    const script = join(ROOT, 'tests', 'setup-peers');
    const { stdout } = await exec(script, ['llama.cpp', model], { timeout: INSTALL_TIMEOUT_MS });
    const folder = stdout.trim();
    return new LlamaCpp(folder, (await readFile(join(folder, 'BUILD'), 'utf8')).trim());
  }

  program(name: string): string {
    return join(this.#folder, name);
  }

  model(quantisation: Quantisation): string {
    return join(this.#folder, `${quantisation}.gguf`);
  }

  async #run(program: string, quantisation: Quantisation, args: string[]): Promise<unknown[]> {
    const all = ['-m', this.model(quantisation), '-t', THREADS, ...args];
    const { stdout } = await exec(this.program(program), all, { timeout: RUN_TIMEOUT_MS });
    return stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line): unknown => JSON.parse(line));
  }

  /** Tokens/s while `sequences` decode side by side, prefill excluded. */
  async decode(quantisation: Quantisation, work: { sequences: number; context: number; generated: number }): Promise<number> {
    const { sequences, context, generated } = work;
    const args = ['-c', String(2 * sequences * (context + generated)), '-npp', String(context), '-ntg', String(generated)];
    const rows = await this.#run('llama-batched-bench', quantisation, [...args, '-npl', String(sequences), '--output-format', 'jsonl']);
    const row = z
      .array(BatchedRow)
      .parse(rows)
      .find(({ pl }) => pl === sequences);
    if (!row) throw new Error(`llama-batched-bench ${quantisation}: no row for ${sequences} sequences`);
    return row.speed_tg;
  }

  /** Tokens/s of each repetition, by length of the prompt. */
  async prefill(quantisation: Quantisation, lengths: readonly number[], repetitions: number): Promise<Map<number, number[]>> {
    const rows = await this.#run('llama-bench', quantisation, [
      '-p',
      lengths.join(','),
      '-n',
      '0',
      '-r',
      String(repetitions),
      '-o',
      'jsonl',
    ]);
    return new Map(
      z
        .array(BenchRow)
        .parse(rows)
        .map((row) => [row.n_prompt, row.samples_ts]),
    );
  }
}
