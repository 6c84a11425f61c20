/**
 * The real stack for tests, as `npm start` runs it: own home, own ports. Only the base's weight cache is
 * shared with other runs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { HOME, ROOT } from '../../cli/home.ts';
import { freePort } from '../../cli/supervisor.ts';

export const BASE = 'SmolLM2-135M-Instruct';
export const BASE_FILE = process.env['SWITCHYARD_TEST_BASE'] ?? join(HOME, 'models', `${BASE}.Q4_1.gguf`);

interface RunningProcess {
  pid: number;
  url: string;
}
export interface RunFile {
  supervisor: RunningProcess;
  edge: RunningProcess | null;
  workers: RunningProcess[];
}

export interface TestTenant {
  id: string;
  key: string;
  client: OpenAI;
}

export async function eventually<T>(what: string, timeoutMs: number, probe: () => Promise<T | null | undefined | false>): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe().catch(() => null);
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await sleep(50);
  }
}

export class TestStack {
  readonly home: string;
  readonly url: string;
  readonly #env: NodeJS.ProcessEnv;
  #process: ChildProcess | null = null;
  output = '';

  private constructor(home: string, port: number, workerPort: number, env: NodeJS.ProcessEnv) {
    this.home = home;
    this.url = `http://127.0.0.1:${port}`;
    this.#env = {
      ...process.env,
      SWITCHYARD_HOME: home,
      SWITCHYARD_BASE: BASE_FILE,
      PORT: String(port),
      WORKER_PORT: String(workerPort),
      ...env,
    };
  }

  static async start(env: NodeJS.ProcessEnv = {}): Promise<TestStack> {
    const home = await mkdtemp(join(tmpdir(), 'switchyard-e2e-'));
    const shared = join(HOME, 'cache', 'bases');
    await mkdir(shared, { recursive: true });
    await mkdir(join(home, 'cache'));
    await symlink(shared, join(home, 'cache', 'bases'));
    const stack = new TestStack(home, await freePort(), await freePort(), env);
    try {
      await stack.launch();
      return stack;
    } catch (error) {
      await rm(home, { recursive: true, force: true });
      throw error;
    }
  }

  /** Starts `npm start`'s program on this home; resolves when it says that it serves. */
  async launch(): Promise<void> {
    const child = spawn(process.execPath, [join(ROOT, 'cli', 'start.ts')], { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    this.output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
    await eventually('npm start', 300_000, async () => child.exitCode !== null || this.output.includes('Switchyard serves'));
    if (child.exitCode !== null) throw new Error(`npm start ended with ${child.exitCode}: ${this.output}`);
  }

  /** A second program on the same home and ports; answers its exit code and output. */
  async launchSecond(): Promise<{ code: number; output: string }> {
    const child = spawn(process.execPath, [join(ROOT, 'cli', 'start.ts')], { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const [code] = await once(child, 'exit');
    return { code, output };
  }

  /** Stops as a terminal or a service manager does, impatiently. */
  async stop(): Promise<number> {
    const child = this.#process!;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? -1;
    const exited = once(child, 'exit');
    for (let i = 0; i < 3; i++) {
      child.kill('SIGTERM');
      await Promise.race([exited, sleep(50)]);
    }
    const [code] = await exited;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.home, { recursive: true, force: true });
  }

  async run(): Promise<RunFile> {
    return JSON.parse(await readFile(join(this.home, 'run.json'), 'utf8')) as RunFile;
  }

  async adminKey(): Promise<string> {
    return (await readFile(join(this.home, 'admin.key'), 'utf8')).trim();
  }

  async call(path: string, key: string, init: RequestInit = {}): Promise<Response> {
    return await fetch(this.url + path, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });
  }

  async tenant(name = 'test'): Promise<TestTenant> {
    const response = await this.call('/v1/admin/tenants', await this.adminKey(), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name }),
    });
    if (response.status !== 201) throw new Error(`creating a tenant: ${response.status} ${await response.text()}`);
    const { id, key } = (await response.json()) as { id: string; key: string };
    return { id, key, client: new OpenAI({ baseURL: `${this.url}/v1`, apiKey: key, maxRetries: 0 }) };
  }

  async upload(tenant: TestTenant, name: string, files: { name: string; bytes: Uint8Array }[], base = BASE): Promise<{ digest: string }> {
    const form = new FormData();
    form.set('name', name);
    form.set('base', base);
    for (const file of files) form.append('files', new Blob([Uint8Array.from(file.bytes)]), file.name);
    const response = await this.call('/v1/adapters', tenant.key, { method: 'POST', body: form });
    if (response.status !== 201) throw new Error(`uploading ${name}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { digest: string };
  }

  /** The row of one tenant, once the engine's count is settled; fails if that takes more than 5 s. */
  async settled(tenant: TestTenant): Promise<{ engine_committed: number; settled: number; outbox: number; reserved: number }> {
    const admin = await this.adminKey();
    return await eventually('engine_committed == settled', 5000, async () => {
      const response = await this.call('/v1/admin/reconcile', admin);
      const { data } = (await response.json()) as {
        data: { tenant: string; engine_committed: number; settled: number; outbox: number; reserved: number }[];
      };
      const row = data.find((candidate) => candidate.tenant === tenant.id);
      return row && row.outbox === 0 && row.reserved === 0 && row.engine_committed === row.settled && row;
    });
  }
}

/** The files of one of the trained adapters. */
export async function adapterFiles(name: string): Promise<{ name: string; bytes: Uint8Array }[]> {
  const folder = join(ROOT, 'tests', 'fixtures', 'smollm2', 'adapters', name);
  return await Promise.all(
    ['adapter_config.json', 'adapter_model.safetensors'].map(async (file) => ({ name: file, bytes: await readFile(join(folder, file)) })),
  );
}

export interface Validation {
  messages: { role: 'user' | 'system' | 'assistant'; content: string }[];
  adapter: { greedy: number[]; text: string };
}

export async function validationOf(name: string): Promise<Validation[]> {
  return JSON.parse(
    await readFile(join(ROOT, 'tests', 'fixtures', 'smollm2', 'adapters', name, 'val_outputs.json'), 'utf8'),
  ) as Validation[];
}
