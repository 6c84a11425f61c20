/** `npm start`: fetches the base if needed, serves until stopped. */
import { once } from 'node:events';
import { DEFAULT_BASE, resolveBases } from './base.ts';
import { HOME } from './home.ts';
import { portsFrom } from './ports.ts';
import { startStack } from './supervisor.ts';

const HELP = `npm start

Serves until SIGINT or SIGTERM. Environment:
  SWITCHYARD_HOME        state: models, object store, database, caches, keys, logs (.switchyard)
  SWITCHYARD_BASE        base models: catalogue ids, folders or GGUF files, comma-separated (${DEFAULT_BASE})
  SWITCHYARD_PRECISION   auto, fp32 or int8 (auto)
  PORT, WORKER_PORT      8787, 8788; each further base takes the next port
`;

/** Rejects once aborted. */
async function aborted(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort');
  throw signal.reason;
}

async function main(): Promise<void> {
  const stopping = new AbortController();
  for (const event of ['SIGINT', 'SIGTERM', 'SIGHUP', 'disconnect']) process.on(event, () => stopping.abort());
  const { signal } = stopping;
  const bases = await Promise.race([resolveBases(process.env['SWITCHYARD_BASE'] ?? DEFAULT_BASE, HOME), aborted(signal)]);
  const stack = await startStack({ home: HOME, bases, signal, ...portsFrom(process.env) });
  process.stdout.write(`Switchyard serves ${stack.url}/v1\nadmin key: ${stack.adminKeyFile}\nAPI reference: ${stack.url}/docs\n`);
  if (!signal.aborted) await once(signal, 'abort');
  await stack.stop();
}

if (process.argv.includes('--help')) process.stdout.write(HELP);
else {
  await main().catch((error: Error) => {
    if (error.name === 'AbortError') return;
    process.stderr.write(`switchyard: ${error.message}\n`);
    process.exitCode = 1;
  });
  process.exit();
}
