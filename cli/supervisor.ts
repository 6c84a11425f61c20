/**
 * The embedded stack: one edge and a gpu-worker for each base, kept running. Its state lies in one
 * home, which one stack at a time may use; run.json there tells who runs (DESIGN §6, processes).
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { Child, killGroup } from './child.ts';
import { ROOT } from './home.ts';
import { LockHeld, takeLock } from './lockfile.ts';
import { openSecrets } from './secrets.ts';

const PREDECESSOR_WAIT_MS = 15_000;
/** From all children ready to the first heartbeat that the edge has seen. */
/** By default glibc keeps the large buffers that threads free: a worker would grow by the adapters that passed through it. */
const ALLOCATOR = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '1048576' };
const SERVING_TIMEOUT_MS = 30_000;

const EDGE_SCRIPT = join(ROOT, 'cli', 'edge.ts');
const WORKER_SCRIPT = join(ROOT, 'gpu-worker', 'main.ts');

const Process = z.object({ pid: z.number().int().positive(), url: z.string() });
const RunFile = z.object({ supervisor: Process, edge: Process.nullable(), workers: z.array(Process) });

const ReadyBody = z.object({ bases: z.array(z.string()) });

export interface StackOptions {
  home: string;
  port: number;
  workerPort: number;
  /** Paths of the bases: one worker each, on ports from workerPort on. */
  bases: string[];
  /** Gives up starting when aborted. */
  signal: AbortSignal;
}

export interface Stack {
  url: string;
  adminKey: string;
  adminKeyFile: string;
  stop(): Promise<void>;
}

export async function isPortFree(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** What was just killed gives its port back within moments. */
async function becomesFree(port: number): Promise<boolean> {
  for (let i = 0; i < 10; i++) {
    if (await isPortFree(port)) return true;
    await sleep(100);
  }
  return false;
}

/** Ends children of a supervisor that was killed: they would hold the ports and the home's files. */
function endOrphans(runFile: string): void {
  let run: z.infer<typeof RunFile>;
  try {
    run = RunFile.parse(JSON.parse(readFileSync(runFile, 'utf8')));
  } catch {
    return;
  }
  for (const { pid } of [...run.workers, ...(run.edge ? [run.edge] : [])]) {
    const command = commandOf(pid);
    // A pid may have been given to a stranger since.
    if (command.includes(EDGE_SCRIPT) || command.includes(WORKER_SCRIPT)) killGroup(pid);
  }
}

function commandOf(pid: number): string {
  try {
    return execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}

export async function startStack(options: StackOptions): Promise<Stack> {
  const { home, port, workerPort, bases, signal } = options;
  mkdirSync(join(home, 'logs'), { recursive: true });
  const release = await takeLock(join(home, 'stack.lock'), PREDECESSOR_WAIT_MS, (pid) => {
    process.stderr.write(`switchyard: process ${pid} runs a stack on ${home}; waiting for it to leave …\n`);
  }).catch((error: unknown) => {
    if (!(error instanceof LockHeld)) throw error;
    throw new Error(`process ${error.pid} still runs a stack on ${home}; stop it, or choose another SWITCHYARD_HOME`);
  });

  const runFile = join(home, 'run.json');
  const url = `http://127.0.0.1:${port}`;
  const children: { edge: Child | null; workers: Child[] } = { edge: null, workers: [] };
  let stopped = false;

  const publish = () => {
    if (stopped) return;
    const run = {
      supervisor: { pid: process.pid, url },
      edge: children.edge?.running ?? null,
      workers: children.workers.flatMap((child) => child.running ?? []),
    };
    writeFileSync(`${runFile}.tmp`, `${JSON.stringify(run, null, 2)}\n`);
    renameSync(`${runFile}.tmp`, runFile);
  };

  let stopping: Promise<void> | null = null;
  const stop = () => {
    stopping ??= (async () => {
      // Workers first: they hand their last usage to the edge.
      await Promise.all(children.workers.map((child) => child.stop()));
      await children.edge?.stop();
      stopped = true;
      rmSync(runFile, { force: true });
      await release();
    })();
    return stopping;
  };

  try {
    endOrphans(runFile);
    for (const wanted of [port, ...bases.map((_, i) => workerPort + i)]) {
      if (!(await becomesFree(wanted))) throw new Error(`port ${wanted} is taken; set PORT and WORKER_PORT to free ones`);
    }
    const secrets = await openSecrets(home);
    const common = { ...process.env, SWITCHYARD_HOME: home, SWITCHYARD_SECRET: secrets.edgeAndWorker, SWITCHYARD_S3_SECRET: secrets.s3 };
    const child = (name: string, script: string, env: NodeJS.ProcessEnv) =>
      new Child({ name, script, env: { ...common, ...env }, logFile: join(home, 'logs', `${name}.log`) }, publish);

    children.edge = child('edge', EDGE_SCRIPT, { PORT: String(port), SWITCHYARD_ADMIN_KEY_HASH: secrets.adminKeyHash });
    children.workers = bases.map((base, i) =>
      child(`worker-${i + 1}`, WORKER_SCRIPT, {
        WORKER_PORT: String(workerPort + i),
        SWITCHYARD_WORKER: `worker-${i + 1}`,
        SWITCHYARD_EDGE_URL: url,
        SWITCHYARD_BASE: base,
        ...ALLOCATOR,
      }),
    );
    const started = Promise.all([children.edge, ...children.workers].map((one) => one.start()));
    await Promise.race([started.then(() => untilServing(url, bases.length, signal)), once(signal, 'abort')]);
    signal.throwIfAborted();
    return { url, adminKey: secrets.adminKey, adminKeyFile: join(home, 'admin.key'), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function untilServing(url: string, bases: number, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + SERVING_TIMEOUT_MS;
  let answer = 'nothing';
  while (Date.now() < deadline && !signal.aborted) {
    const response = await fetch(`${url}/ready`).catch(() => null);
    const body = await response?.text();
    if (response?.ok && ReadyBody.parse(JSON.parse(body ?? '')).bases.length >= bases) return;
    answer = response ? `${response.status} ${body?.slice(0, 300)}` : 'no connection';
    await sleep(100);
  }
  throw new Error(`the edge did not see ${bases} base(s) within ${SERVING_TIMEOUT_MS / 1000} s; GET ${url}/ready gave ${answer}`);
}
