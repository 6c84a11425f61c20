/**
 * One supervised process: a program that prints `{"ready":true,"url":…}` when it can answer. It leads
 * a process group of its own, so that what it leaves behind when killed dies before its successor starts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, renameSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

const ReadyLine = z.object({ ready: z.literal(true), url: z.string() });

const LogLine = z.object({ msg: z.string(), err: z.object({ message: z.string() }).optional() });

/** Writing the weight cache of a base on a slow disk is the longest wait. */
const READY_TIMEOUT_MS = 240_000;
const STOP_TIMEOUT_MS = 10_000;
const LONGEST_RESTART_DELAY_MS = 3000;
const LOG_LIMIT = 20_000_000;

export interface ChildSpec {
  name: string;
  script: string;
  env: NodeJS.ProcessEnv;
  logFile: string;
}

export interface RunningChild {
  pid: number;
  url: string;
}

/** Ends every process of a group that this supervisor made. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // ESRCH: nobody is left.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function openLog(path: string): number {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LOG_LIMIT) renameSync(path, `${path}.1`);
  return openSync(path, 'a');
}

export class Child {
  readonly #spec: ChildSpec;
  readonly #onChange: () => void;
  #process: ChildProcess | null = null;
  #stopping = false;
  running: RunningChild | null = null;

  /** `onChange` is called whenever `running` changed. */
  constructor(spec: ChildSpec, onChange: () => void) {
    this.#spec = spec;
    this.#onChange = onChange;
  }

  /** Resolves when the first process is ready, and restarts it from then on. Rejects if that one never was. */
  async start(): Promise<void> {
    await this.#launch();
    void this.#keepAlive();
  }

  async #launch(): Promise<void> {
    const { name, script, env, logFile } = this.#spec;
    const log = openLog(logFile);
    const begin = fstatSync(log).size;
    const child = spawn(process.execPath, [script], { env, detached: true, stdio: ['ignore', 'pipe', log, 'ipc'] });
    closeSync(log);
    this.#process = child;
    const ready = new Promise<RunningChild>((resolve, reject) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        const parsed = ReadyLine.safeParse(parseLine(line));
        if (parsed.success) resolve({ pid: child.pid!, url: parsed.data.url });
      });
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`it ended with ${signal ?? `exit code ${code}`}`)));
      setTimeout(() => reject(new Error(`it was not ready within ${READY_TIMEOUT_MS / 1000} s`)), READY_TIMEOUT_MS).unref();
    });
    try {
      this.running = await ready;
    } catch (cause) {
      if (child.pid) killGroup(child.pid);
      const said = (await readFile(logFile)).subarray(begin).toString('utf8').trimEnd().split('\n').slice(-15).map(readable).join('\n  ');
      throw new Error(`${name} did not start: ${(cause as Error).message}. In ${logFile} it said:\n  ${said}`, { cause });
    }
    this.#onChange();
  }

  async #keepAlive(): Promise<void> {
    for (let delay = 0; ; ) {
      const child = this.#process!;
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      this.running = null;
      if (child.pid) killGroup(child.pid);
      this.#onChange();
      if (this.#stopping) return;
      process.stderr.write(
        `switchyard: ${this.#spec.name} ended (${child.signalCode ?? `exit code ${child.exitCode}`}); starting it again\n`,
      );
      await sleep(delay);
      if (this.#stopping) return;
      await this.#launch().then(
        () => {
          delay = 0;
        },
        (error: Error) => {
          delay = Math.min(Math.max(delay * 2, 250), LONGEST_RESTART_DELAY_MS);
          process.stderr.write(`switchyard: ${error.message}\n`);
        },
      );
    }
  }

  /** Asks it to stop, then makes it. Also ends what it started. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#process;
    if (!child?.pid) return;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await Promise.race([once(child, 'exit'), sleep(STOP_TIMEOUT_MS, undefined, { ref: false })]);
    }
    killGroup(child.pid);
  }
}

/** The message of a structured log line. */
function readable(line: string): string {
  const parsed = LogLine.safeParse(parseLine(line));
  return parsed.success ? (parsed.data.err?.message ?? parsed.data.msg) : line;
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
