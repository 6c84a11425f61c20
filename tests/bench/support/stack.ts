/** The whole stack as `npm start` runs it, on a home of its own, and the calls that benchmarks make of it. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { openSecrets } from '../../../cli/secrets.ts';
import { freePort, type Stack, startStack } from '../../../cli/supervisor.ts';
import type { PackageFile } from '../../../shared/adapters/package-files.ts';
import { signCall } from '../../../shared/contract/signature.ts';
import { BaseInfo } from '../../../shared/contract/worker.ts';

const RunFile = z.object({ workers: z.array(z.object({ url: z.string() })).length(1) });
const Tenant = z.object({ id: z.string(), key: z.string() });

export class BenchStack {
  readonly home: string;
  readonly #base: string;
  readonly #port: number;
  readonly #workerPort: number;
  readonly #stopping = new AbortController();
  #stack: Stack | null = null;
  tenant = { id: '', key: '' };

  private constructor(home: string, base: string, port: number, workerPort: number) {
    this.home = home;
    this.#base = base;
    this.#port = port;
    this.#workerPort = workerPort;
  }

  /** Its processes take their settings from this one's environment. */
  static async start(base: string): Promise<BenchStack> {
    const home = await mkdtemp(join(tmpdir(), 'switchyard-bench-stack-'));
    const stack = new BenchStack(home, base, await freePort(), await freePort());
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, () => void stack[Symbol.asyncDispose]().finally(() => process.exit(1)));
    try {
      await stack.launch();
      stack.tenant = await stack.newTenant('bench');
    } catch (error) {
      await stack[Symbol.asyncDispose]();
      throw error;
    }
    return stack;
  }

  async launch(): Promise<void> {
    const { signal } = this.#stopping;
    this.#stack = await startStack({ home: this.home, bases: [this.#base], port: this.#port, workerPort: this.#workerPort, signal });
  }

  async stop(): Promise<void> {
    await this.#stack?.stop();
    this.#stack = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.stop();
    await rm(this.home, { recursive: true, force: true });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get headers(): Record<string, string> {
    return { authorization: `Bearer ${this.tenant.key}`, 'content-type': 'application/json' };
  }

  async newTenant(name: string): Promise<z.infer<typeof Tenant>> {
    return Tenant.parse(await this.#admin('/v1/admin/tenants', { name }));
  }

  async #admin(path: string, body: unknown): Promise<unknown> {
    const headers = { authorization: `Bearer ${this.#stack!.adminKey}`, 'content-type': 'application/json' };
    return await answerOf(await fetch(this.url + path, { method: 'POST', headers, body: JSON.stringify(body) }), path);
  }

  /** A new adapter, or a new version of one. Returns its digest. */
  async upload(name: string, files: readonly PackageFile[], as: 'adapter' | 'version' = 'adapter'): Promise<string> {
    const form = new FormData();
    if (as === 'adapter') {
      form.set('name', name);
      form.set('base', (await this.base()).id);
    }
    for (const { name: file, bytes } of files) form.append('files', new Blob([new Uint8Array(bytes)]), file);
    const { authorization } = this.headers;
    const path = as === 'adapter' ? '/v1/adapters' : `/v1/adapters/${name}/versions`;
    const answer = await fetch(this.url + path, { method: 'POST', headers: { authorization: authorization! }, body: form });
    return z.object({ digest: z.string() }).parse(await answerOf(answer, `uploading ${name}`)).digest;
  }

  async remove(name: string): Promise<void> {
    await answerOf(await fetch(`${this.url}/v1/adapters/${name}`, { method: 'DELETE', headers: this.headers }), `deleting ${name}`);
  }

  async workerUrl(): Promise<string> {
    return RunFile.parse(JSON.parse(await readFile(join(this.home, 'run.json'), 'utf8'))).workers[0]!.url;
  }

  /** Headers of one call to the worker, as the edge would make it. */
  async signed(method: 'GET' | 'POST', path: string, body: Uint8Array): Promise<Record<string, string>> {
    const { edgeAndWorker } = await openSecrets(this.home);
    return { authorization: await signCall(edgeAndWorker, 'edge', 'worker', { method, path, body }), 'content-type': 'application/json' };
  }

  async base(): Promise<BaseInfo> {
    const headers = await this.signed('GET', '/ready', new Uint8Array());
    const answer = await answerOf(await fetch(`${await this.workerUrl()}/ready`, { headers }), 'GET /ready');
    return z.object({ base: BaseInfo }).parse(answer).base;
  }
}

async function answerOf(response: Response, what: string): Promise<unknown> {
  const text = await response.text();
  if (!response.ok) throw new Error(`${what}: ${response.status} ${text.slice(0, 500)}`);
  return JSON.parse(text);
}
