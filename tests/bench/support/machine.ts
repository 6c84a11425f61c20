/** What the figures were taken on, and whether anything else was using it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { arch, availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ROOT } from '../../../cli/home.ts';

/** Instruction sets that matrix kernels choose by, as Linux names them. */
const FLAGS = ['avx2', 'fma', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'amx_tile', 'amx_int8', 'amx_bf16'];

export interface Machine {
  taken: string;
  cpu: string;
  cores: number;
  flags: string[];
  memoryGb: number;
  system: string;
  node: string;
  onnxruntime: string;
  commit: string;
  load: number;
}

function cpuFlags(): string[] {
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
    const has = new Set(line?.[1]?.trim().split(' '));
    return FLAGS.filter((flag) => has.has(flag));
  } catch {
    // Not Linux: the CPU's name has to do.
    return [];
  }
}

function commit(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const changed = git('status', '--porcelain', '--untracked-files=no').trim() !== '';
    return git('rev-parse', '--short=12', 'HEAD').trim() + (changed ? ' with changes' : '');
  } catch {
    return 'unknown';
  }
}

export async function describeMachine(): Promise<Machine> {
  const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
  return {
    taken: new Date().toISOString(),
    cpu: cpus()[0]?.model.trim() ?? arch(),
    cores: availableParallelism(),
    flags: cpuFlags(),
    memoryGb: Math.round(totalmem() / 1e9),
    system: `${type()} ${release()} ${arch()}`,
    node: process.version,
    onnxruntime: manifest.dependencies['onnxruntime-node'] ?? 'unknown',
    commit: commit(),
    load: loadavg()[0]!,
  };
}

export function machineText(m: Machine): string {
  return [
    `${m.taken} · commit ${m.commit}`,
    `${m.cpu}, ${m.cores} cores (${m.flags.join(' ') || 'flags unknown'}), ${m.memoryGb} GB, ${m.system}, load ${m.load.toFixed(2)}`,
    `Node ${m.node}, ONNX Runtime ${m.onnxruntime}`,
  ].join('\n');
}

const SAMPLE_MS = 300;
const QUIET_SHARE = 0.1;
const QUIET_WAIT_MS = 60_000;

/** Share of all cores in use, by anyone. */
async function busyShare(): Promise<number> {
  const read = () =>
    cpus().reduce((sum, { times: t }) => ({ idle: sum.idle + t.idle, all: sum.all + t.idle + t.user + t.sys + t.nice + t.irq }), {
      idle: 0,
      all: 0,
    });
  const before = read();
  await sleep(SAMPLE_MS);
  const after = read();
  return 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
}

/**
 * Two threads that wait for each other lose far more than their share to a third: llama.cpp with its spinning
 * barriers drops to a hundredth. So each measurement waits until the machine is idle, and says so when it never was.
 */
export class QuietGate {
  readonly #wait: boolean;
  measurements = 0;
  disturbed = 0;

  constructor(wait: boolean) {
    this.#wait = wait;
  }

  async pass(): Promise<void> {
    this.measurements++;
    const deadline = Date.now() + (this.#wait ? QUIET_WAIT_MS : 0);
    do {
      if ((await busyShare()) <= QUIET_SHARE) return;
    } while (Date.now() < deadline);
    this.disturbed++;
  }
}
