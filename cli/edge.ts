/**
 * Runs the edge on this machine: the Worker of functions/wrangler.toml in the real Workers runtime with
 * its D1, R2, Durable Objects and queue kept under $SWITCHYARD_HOME/edge. As a program it reads PORT,
 * SWITCHYARD_HOME, SWITCHYARD_SECRET, SWITCHYARD_ADMIN_KEY_HASH and SWITCHYARD_S3_SECRET, prints one line
 * of JSON when it serves, and stops on SIGINT or SIGTERM.
 *
 * Bindings come from wrangler's reading of wrangler.toml, but clients reach the Worker itself:
 * `unstable_startWorker` puts a proxy Worker of a second runtime process in front, which costs 2 ms a
 * request (functions/DESIGN.md has the measurements).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Log, LogLevel, Miniflare } from 'miniflare';
import { unstable_getMiniflareWorkerOptions, unstable_readConfig, unstable_splitSqlQuery } from 'wrangler';
import { openFront } from './edge-front.ts';

const FUNCTIONS = fileURLToPath(new URL('../functions/', import.meta.url));
const CONFIG = join(FUNCTIONS, 'wrangler.toml');

/** A stop that takes longer is cut short. */
const STOP_MS = 3_000;

export interface EdgeOptions {
  port: number;
  /** SWITCHYARD_HOME; state is kept in its folder `edge`. */
  home: string;
  secret: string;
  adminKeyHash: string;
  s3Secret: string;
}

export interface Edge {
  url: string;
  /** Ends the runtime's process before it resolves. */
  stop(): Promise<void>;
}

export async function startEdge(options: EdgeOptions): Promise<Edge> {
  const state = join(resolve(options.home), 'edge');
  await mkdir(state, { recursive: true });
  const script = await bundle();
  const config = unstable_readConfig({ config: CONFIG });
  const { workerOptions } = unstable_getMiniflareWorkerOptions(config);
  const children = watchChildren();
  const runtime = new Miniflare({
    host: '127.0.0.1',
    port: 0,
    cf: false,
    telemetry: { enabled: false },
    log: new Log(LogLevel.WARN),
    defaultPersistRoot: state,
    workers: [
      {
        ...workerOptions,
        // Names the objects' folders on disk.
        name: config.name ?? 'switchyard',
        modules: [{ type: 'ESModule', path: join(FUNCTIONS, 'index.js'), contents: script }],
        modulesRoot: FUNCTIONS,
        bindings: {
          ...workerOptions['bindings'],
          SWITCHYARD_SECRET: options.secret,
          SWITCHYARD_ADMIN_KEY_HASH: options.adminKeyHash,
          SWITCHYARD_S3_SECRET: options.s3Secret,
        },
        unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
      },
    ],
  });
  try {
    await runtime.ready;
    const guard = guardAgainstOrphans(children.stop());
    await migrate(await runtime.getD1Database('DB'));
    const direct = await runtime.unsafeGetDirectURL();
    const front = await openFront(options.port, Number(direct.port));
    return {
      url: `http://127.0.0.1:${front.port}`,
      async stop() {
        await front.stop();
        await runtime.dispose();
        guard.kill();
      },
    };
  } catch (error) {
    await runtime.dispose();
    throw error;
  }
}

/** One module, resolved as wrangler resolves for Workers. */
async function bundle(): Promise<string> {
  const result = await build({
    entryPoints: [join(FUNCTIONS, 'index.ts')],
    bundle: true,
    format: 'esm',
    target: 'es2024',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['cloudflare:*'],
    define: { 'process.env.NODE_ENV': '"production"' },
    sourcemap: 'inline',
    sourcesContent: false,
    logLevel: 'error',
    write: false,
  });
  return result.outputFiles[0]!.text;
}

interface D1 {
  exec(query: string): Promise<unknown>;
  prepare(query: string): { bind(...values: unknown[]): D1Statement; all<T>(): Promise<{ results: T[] }> };
  batch(statements: D1Statement[]): Promise<unknown>;
}
type D1Statement = unknown;

/** Applies functions/migrations in order, each in one transaction, in the table that wrangler keeps too. */
async function migrate(db: D1): Promise<void> {
  await db.exec(
    'CREATE TABLE IF NOT EXISTS d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)',
  );
  const { results } = await db.prepare('SELECT name FROM d1_migrations').all<{ name: string }>();
  const applied = new Set(results.map((r) => r.name));
  const folder = join(FUNCTIONS, 'migrations');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort();
  for (const name of names) {
    if (applied.has(name)) continue;
    const statements = unstable_splitSqlQuery(await readFile(join(folder, name), 'utf8'));
    await db.batch([...statements.map((s) => db.prepare(s)), db.prepare('INSERT INTO d1_migrations (name) VALUES (?)').bind(name)]);
  }
}

/** Notes the processes that this one starts from now on. */
function watchChildren(): { stop(): ChildProcess[] } {
  const children: ChildProcess[] = [];
  const note = (message: unknown) => children.push((message as { process: ChildProcess }).process);
  subscribe('child_process', note);
  return {
    stop() {
      unsubscribe('child_process', note);
      return children;
    },
  };
}

/**
 * The runtime does not notice when this process is killed: a shell that waits on a pipe from it does, and
 * ends the runtime then, so that its port and files are free for the next start.
 */
function guardAgainstOrphans(children: ChildProcess[]): ChildProcess {
  const runtimes = children.filter((c) => basename(c.spawnfile).startsWith('workerd')).map((c) => String(c.pid));
  const guard = spawn('/bin/sh', ['-c', 'read -r _; kill -9 "$@" 2>/dev/null', 'sh', ...runtimes], { stdio: ['pipe', 'ignore', 'ignore'] });
  guard.unref();
  return guard;
}

function fromEnvironment(env: NodeJS.ProcessEnv): EdgeOptions {
  const required = (name: string): string => {
    const value = env[name];
    if (!value) throw new Error(`the edge needs ${name} in its environment`);
    return value;
  };
  return {
    port: Number(env['PORT'] ?? 8787),
    home: required('SWITCHYARD_HOME'),
    secret: required('SWITCHYARD_SECRET'),
    adminKeyHash: required('SWITCHYARD_ADMIN_KEY_HASH'),
    s3Secret: required('SWITCHYARD_S3_SECRET'),
  };
}

// Not import.meta.main: the oldest Node that the project carries lacks it.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const edge = await startEdge(fromEnvironment(process.env));
  let stopping = false;
  // 'disconnect': the supervisor is gone.
  for (const event of ['SIGINT', 'SIGTERM', 'disconnect']) {
    process.on(event, () => {
      if (stopping) return;
      stopping = true;
      void edge.stop().finally(() => process.exit(0));
      // Leaving ends the runtime as well, by its guard.
      setTimeout(() => process.exit(0), STOP_MS).unref();
    });
  }
  console.log(JSON.stringify({ ready: true, url: edge.url }));
}
