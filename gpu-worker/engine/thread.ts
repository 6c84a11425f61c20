/** The engine's own thread: runs step after step, and between two steps takes what the main thread sent. */

import { once } from 'node:events';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { EngineStats } from '../../shared/contract/engine.ts';
import { addressTable, imageRank } from '../models/adapter-image.ts';
import type { ServedFactors } from '../models/adapter-path.ts';
import { transpose } from '../models/linear.ts';
import { precisionOf } from '../models/precisions.ts';
import { prepareModel } from '../models/prepare.ts';
import { openCheckpoint } from '../models/source/checkpoint.ts';
import { Session } from '../runtime/session.ts';
import { hasChatTemplate } from '../tokenizer/chat.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { AdapterSlots, largestRank, type ServedAdapter } from './adapter-slots.ts';
import { EngineCore } from './core.ts';
import { Executor } from './executor.ts';
import { UsageJournal } from './journal.ts';
import { KvCache, kvBytesPerSlot } from './kv-cache.ts';
import type { EngineSettings, FromEngine, ToEngine } from './protocol.ts';

if (!parentPort) throw new Error('engine/thread.ts runs as a worker thread only');
const port = parentPort;
const settings = workerData as EngineSettings;
const send = (message: FromEngine): void => port.postMessage(message);

/** How long the cores are left to those who carry a first token to its client. */
const FIRST_TOKEN_PAUSE_MS = 1;
const NOTHING = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

const checkpoint = await openCheckpoint(settings.basePath);
const { config } = checkpoint;
const model = prepareModel(checkpoint, precisionOf(settings.precision), settings.cacheFolder);
const context = Math.min(settings.context, config.max_position_embeddings);
const kv = new KvCache(config, settings.slots, context);
const adapterSlots = new AdapterSlots(model.linears);
const prefillSlot = new AdapterSlots(model.linears);
using executor = new Executor(model, kv, settings.threads);
const journal = new UsageJournal(settings.journalPath);
const core = new EngineCore({
  executor,
  kv,
  adapterSlots,
  prefillSlot,
  linears: model.linears,
  adapterBudget: settings.adapterBudget,
  tokenizer: checkpoint.tokenizer ? createTokenizer(checkpoint.tokenizer) : null,
  eos: new Set(config.eos_token_id),
  journal,
  baseRevision: checkpoint.revision,
  emit: (batches) => send({ type: 'events', batches }),
});
const kvBytes = kvBytesPerSlot(config, context) * settings.slots;

send({
  type: 'ready',
  maxRank: largestRank(model.linears, settings.adapterBudget),
  base: {
    id: checkpoint.id,
    revision: checkpoint.revision,
    precision: settings.precision,
    family: config.model_type,
    context_length: context,
    vocab_size: config.vocab_size,
    has_tokenizer: checkpoint.tokenizer !== null,
    has_chat_template: checkpoint.tokenizer !== null && hasChatTemplate(checkpoint.tokenizer),
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
port.close();

function handle(message: ToEngine): void {
  switch (message.type) {
    case 'submit':
      core.submit(message.request);
      break;
    case 'cancel':
      core.cancel(message.id);
      break;
    case 'add':
      core.addAdapter(message.digest, adapterOf(message.image));
      send({ type: 'done', call: message.call });
      break;
    case 'remove':
      core.removeAdapter(message.digest);
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

/** Slots hold float32 factors, A transposed. */
function adapterOf(image: ArrayBuffer): ServedAdapter {
  const table = new DataView(addressTable(image, 0n).buffer);
  const factors = new Map<string, ServedFactors>();
  for (const [number, { path, in: width, out }] of model.linears.entries()) {
    const entry = number * 32;
    const [scale, rank, kind] = [table.getFloat32(entry + 16, true), table.getInt32(entry + 20, true), table.getInt32(entry + 24, true)];
    if (kind === 0) continue;
    const read = (field: number, length: number) => {
      const at = Number(table.getBigUint64(entry + field, true));
      return Float32Array.from(kind === 1 ? new Float32Array(image, at, length) : new Float16Array(image, at, length));
    };
    factors.set(path, { rank, A: transpose(read(0, rank * width), rank, width), B: read(8, rank * out).map((value) => value * scale) });
  }
  return { rank: imageRank(image), factors };
}

function stats(): EngineStats {
  return {
    active: core.active,
    queued: core.queued,
    slots: settings.slots,
    sessions: Session.open,
    baseBytes: model.weightBytes,
    kvBytes,
    adapterSlotBytes: adapterSlots.bytes + prefillSlot.bytes,
    residentAdapters: core.residents,
    residentAdapterBytes: core.residentBytes,
    steps: core.steps,
    tokens: core.tokens,
  };
}
