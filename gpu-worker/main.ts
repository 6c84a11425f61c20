/**
 * The gpu-worker: wires base → engine, storage, usage outbox, HTTP server and heartbeat. Prints one
 * line `{"ready":true,"url":…}` when it can answer; ends with its parent.
 */
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import pino from 'pino';
import type { HeartbeatAnswer } from '../shared/contract/worker.ts';
import { randomId } from '../shared/ids.ts';
import { ImageLoader } from './adapters/loader.ts';
import { baseModules } from './base-modules.ts';
import { openEngine } from './engine/client.ts';
import { parsePrecision } from './models/precisions.ts';
import { openCheckpoint } from './models/source/checkpoint.ts';
import { AdapterTier } from './server/adapter-tier.ts';
import { createEdgeClient } from './server/edge-client.ts';
import { embedHandler } from './server/embed.ts';
import { generateHandler } from './server/generate.ts';
import { keepBeating } from './server/heartbeat.ts';
import { createHttpServer, type Route } from './server/http.ts';
import { KeptAnswers, keptRoutes } from './server/kept-answers.ts';
import { createMeasures, measured } from './server/metrics.ts';
import { operationRoutes } from './server/operations.ts';
import { Outbox } from './server/outbox.ts';
import { openTextSide } from './server/prompts.ts';
import { Sealer, sealHandler } from './server/seal.ts';
import { readSettings } from './settings.ts';
import { openObjectStore } from './storage/object-store.ts';
import { createTextEncoding } from './tokenizer/encoder.ts';

/** How long running requests, and then the outbox, may take after a signal to stop. */
const DRAIN_MS = 2000;
/** How often the journal is read besides at each request's end. */
const FLUSH_EVERY_MS = 1000;

const log = pino({ base: { part: 'gpu-worker' } }, pino.destination({ dest: 2, sync: true }));

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** Usage that this worker counted is its own, whatever port it has: its name lasts as long as its folder. */
async function workerName(folder: string, role: string): Promise<string> {
  const path = join(folder, 'id');
  const known = await readFile(path, 'utf8').catch(() => null);
  if (known) return known;
  const name = `${role}-${randomId(12)}`;
  await writeFile(path, name);
  return name;
}

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  const home = settings.SWITCHYARD_HOME;
  const folder = join(home, 'worker', settings.SWITCHYARD_WORKER);
  await mkdir(folder, { recursive: true });
  const worker = await workerName(folder, settings.SWITCHYARD_WORKER);
  const edge = createEdgeClient(settings.SWITCHYARD_EDGE_URL, settings.SWITCHYARD_SECRET);
  /** Until everything is open there is nothing to drain. */
  let stop = async (): Promise<void> => process.exit(1);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop().catch(fatal));
  process.on('disconnect', () => void stop().catch(fatal));
  const fatal = (error: unknown) => {
    log.fatal(error instanceof Error ? error : new Error(String(error)), 'the worker cannot go on');
    process.exit(1);
  };

  const outbox = await Outbox.open({
    folder,
    send: (records, signal) => edge.usage({ worker, records }, signal),
    onError: (error) => log.warn(`usage was not settled and is sent again: ${reasonOf(error)}`),
  });
  const flush = () => void outbox.flush().catch(fatal);

  const [checkpoint, engine] = await Promise.all([
    openCheckpoint(settings.SWITCHYARD_BASE),
    openEngine({
      basePath: settings.SWITCHYARD_BASE,
      precision: settings.SWITCHYARD_PRECISION,
      home,
      journalPath: outbox.journalPath,
      rows: settings.SWITCHYARD_ROWS,
      kvBytes: settings.SWITCHYARD_KV_MB,
      stepMs: settings.SWITCHYARD_STEP_MS,
      speculation: settings.SWITCHYARD_SPECULATION === 'auto',
    }),
  ]);
  const adapterMemory = settings.SWITCHYARD_ADAPTER_MEMORY_MB;
  const modules = baseModules(checkpoint);
  const objects = openObjectStore(settings.SWITCHYARD_EDGE_URL, settings.SWITCHYARD_S3_SECRET);
  const images = new ImageLoader(
    {
      basePath: settings.SWITCHYARD_BASE,
      precision: parsePrecision(settings.SWITCHYARD_PRECISION),
      edgeUrl: settings.SWITCHYARD_EDGE_URL,
      s3Secret: settings.SWITCHYARD_S3_SECRET,
      cacheFolder: join(home, 'cache', 'images'),
      diskLimit: settings.SWITCHYARD_ADAPTER_DISK_MB,
      limit: adapterMemory,
    },
    (message) => log.warn(`adapter images: ${message}`),
  );
  const measures = createMeasures(engine);
  const adapters = new AdapterTier({ engine, images, budget: adapterMemory, observer: measures.tier });
  const { slots, baseBytes, kvBytes } = await engine.stats();
  log.info({ base: engine.base.id, precision: engine.base.precision, slots, baseBytes, kvBytes, adapterMemory }, 'memory');
  const sealer = new Sealer(modules);

  const kept = new KeptAnswers();
  const parts = { worker, engine: measured(engine, measures), adapters, kept, measures, onEnded: flush };
  const taskRoute = (): Route => {
    const { tokenizer, config } = checkpoint;
    switch (engine.base.task) {
      case 'generate':
        return { method: 'POST', path: '/generate', signed: true, handle: generateHandler({ ...parts, text: openTextSide(tokenizer) }) };
      case 'embed': {
        const text = tokenizer && createTextEncoding(tokenizer);
        return { method: 'POST', path: '/embed', signed: true, handle: embedHandler({ ...parts, text, width: config.hidden_size }) };
      }
      default:
        return engine.base.task satisfies never;
    }
  };
  const storeImage = (digest: string, sealed: Uint8Array) => images.store(digest, sealed);
  const server = createHttpServer({
    secret: settings.SWITCHYARD_SECRET,
    onError: (error, call) => log.error(error, call),
    onEnd: (call) => log[call.request_id ? 'info' : 'debug'](call, 'call'),
    routes: [
      taskRoute(),
      { method: 'POST', path: '/seal', signed: true, handle: sealHandler(sealer, modules, objects, storeImage) },
      ...keptRoutes(kept),
      ...operationRoutes({ worker, engine, outbox, measures, adapters, images }),
    ],
  });
  server.listen(settings.WORKER_PORT, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const stopping = new AbortController();
  let pins: HeartbeatAnswer['pins'] = null;
  const beat = async (signal: AbortSignal) => {
    const { slots, active, queued } = await engine.stats().catch((error: unknown) => {
      if (!signal.aborted) fatal(error);
      throw error;
    });
    const beatUrl = settings.SWITCHYARD_WORKER_URL ?? url;
    const beat = { worker, url: beatUrl, bases: [engine.base], slots, active, queued, pins: pins?.name ?? null };
    const answer = await edge.heartbeat(beat, signal);
    pins = answer.pins ?? pins;
    // Each time, since a load may have failed.
    adapters.pin(new Set(pins?.digests));
    return answer.interval_ms;
  };
  const beating = keepBeating(beat, stopping.signal, (error) => log.warn(`heartbeat failed: ${reasonOf(error)}`));
  flush();
  const flushing = setInterval(flush, FLUSH_EVERY_MS);

  stop = async () => {
    if (stopping.signal.aborted) return;
    stopping.abort();
    clearInterval(flushing);
    setTimeout(() => server.closeAllConnections(), DRAIN_MS).unref();
    server.closeIdleConnections();
    await new Promise((resolve) => server.close(resolve));
    await engine.close();
    await outbox.close(DRAIN_MS);
    await sealer.close();
    await images.close();
    objects.close();
    await beating;
    process.exit(0);
  };
  process.stdout.write(`${JSON.stringify({ ready: true, url })}\n`);
}

await main().catch((error: unknown) => {
  log.fatal(error instanceof Error ? error : new Error(String(error)), 'the worker did not start');
  process.exit(1);
});
