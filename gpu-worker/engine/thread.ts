/** The engine's own thread: runs step after step, and between two steps takes what the main thread sent. */

import { once } from 'node:events';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { EngineStats } from '../../shared/contract/engine.ts';
import { precisionOf } from '../models/precisions.ts';
import { prepareModel } from '../models/prepare.ts';
import { familyOf } from '../models/registry.ts';
import { openCheckpoint } from '../models/source/checkpoint.ts';
import { Session } from '../runtime/session.ts';
import { hasChatTemplate } from '../tokenizer/chat.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { EngineCore } from './core.ts';
import { EncoderCore, encoderPages } from './encoder-core.ts';
import { Executor } from './executor.ts';
import { GrammarStates } from './grammar/states.ts';
import { UsageJournal } from './journal.ts';
import { bytesPerPage, KvPool } from './kv-pool.ts';
import { PAGE_TOKENS, PagePool } from './pages.ts';
import type { AnyEvent, EngineStart, FromEngine, ToEngine } from './protocol.ts';
import { Residents } from './residents.ts';

if (!parentPort) throw new Error('engine/thread.ts runs as a worker thread only');
const port = parentPort;
const { settings, grammars } = workerData as EngineStart;
const send = (message: FromEngine): void => port.postMessage(message);

/** How long the cores are left to those who carry a first token to its client. */
const FIRST_TOKEN_PAUSE_MS = 1;
const NOTHING = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

const checkpoint = await openCheckpoint(settings.basePath);
const { config } = checkpoint;
const model = prepareModel(checkpoint, precisionOf(settings.precision), settings.cacheFolder);
const pageBytes = bytesPerPage(config, model.storage);
const pooling = familyOf(config).pooling?.(config) ?? null;
const positions = Math.min(settings.context ?? config.max_position_embeddings, config.max_position_embeddings);
const pages = pooling ? encoderPages(settings.rows, positions) : Math.floor(settings.kvBytes / pageBytes);
const pool = new PagePool(Math.max(1, pages));
const context = Math.min(positions, pool.total * PAGE_TOKENS);
const residents = new Residents();
using executor = new Executor(model, new KvPool(config, model.storage, pool.total), settings.threads);
const journal = new UsageJournal(settings.journalPath);
const parts = {
  model: executor,
  pool,
  rows: settings.rows,
  adapterTable: (digest: string) => residents.table(digest),
  journal,
  baseRevision: checkpoint.revision,
  now: () => performance.timeOrigin + performance.now(),
  emit: (batches: [string, AnyEvent[]][]) => send({ type: 'events', batches }),
};
const cores = pooling
  ? { generator: null, encoder: new EncoderCore({ ...parts, pooling }) }
  : { generator: openGenerator(), encoder: null };
const core = cores.generator ?? cores.encoder;

function openGenerator(): EngineCore {
  return new EngineCore({
    ...parts,
    context,
    stepMs: settings.stepMs,
    speculation: settings.speculation,
    tokenizer: checkpoint.tokenizer ? createTokenizer(checkpoint.tokenizer) : null,
    grammars: new GrammarStates(grammars, config.vocab_size),
    eos: new Set(config.eos_token_id),
    precision: settings.precision,
  });
}

send({
  type: 'ready',
  base: {
    id: checkpoint.id,
    revision: checkpoint.revision,
    precision: settings.precision,
    family: config.model_type,
    task: pooling ? 'embed' : 'generate',
    context_length: context,
    vocab_size: config.vocab_size,
    has_tokenizer: checkpoint.tokenizer !== null,
    has_chat_template: !pooling && checkpoint.tokenizer !== null && hasChatTemplate(checkpoint.tokenizer),
  },
});

let open = true;
while (open) {
  // Between steps messages are taken without returning to the event loop; with nothing to do the thread sleeps.
  for (let received = receiveMessageOnPort(port); received && open; received = receiveMessageOnPort(port))
    handle(received.message as ToEngine);
  if (!open) break;
  if (!core.idle) {
    const begun = core.step();
    // The next step takes every core at once, and a first token has several processes to pass: let it go ahead.
    if (begun) Atomics.wait(NOTHING, 0, 0, FIRST_TOKEN_PAUSE_MS);
  } else {
    const [message] = (await once(port, 'message')) as [ToEngine];
    handle(message);
  }
}
journal.close();
grammars.close();
port.close();

function handle(message: ToEngine): void {
  switch (message.type) {
    // The client has seen to it that the base does what is asked.
    case 'submit':
      cores.generator!.submit(message.request);
      break;
    case 'embed':
      cores.encoder!.submit(message.request);
      break;
    case 'cancel':
      core.cancel(message.id);
      break;
    case 'add':
      residents.add(message.digest, message.image);
      send({ type: 'done', call: message.call });
      break;
    case 'remove':
      residents.remove(message.digest);
      send({ type: 'done', call: message.call });
      break;
    case 'stats':
      send({ type: 'stats', call: message.call, stats: stats() });
      break;
    case 'close':
      open = false;
      break;
    default:
      message satisfies never;
  }
}

function stats(): EngineStats {
  const { meters, queued } = core;
  return {
    active: core.active,
    prefilling: core.prefilling,
    queued: queued.all,
    queuedBatch: queued.batch,
    slots: settings.rows,
    sessions: Session.open,
    baseBytes: model.weightBytes,
    kvBytes: pool.total * pageBytes,
    kvPages: pool.total,
    kvPagesHeld: pool.held,
    kvPagesCached: pool.idle,
    residentAdapters: residents.count,
    residentAdapterBytes: residents.bytes,
    ...meters.counts,
  };
}
