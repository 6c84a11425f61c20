/**
 * The loader's thread: gets adapter images from disk, else from object storage, else makes them of the sealed form,
 * which stays the truth. What it had to fetch it keeps on disk, what it had to make also in object storage.
 */
import { setPriority } from 'node:os';
import path from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { imageKey, sealedKey } from '../../shared/contract/worker.ts';
import { Failure } from '../../shared/errors.ts';
import { buildImage, isImage } from '../models/adapter-image.ts';
import { imageForm } from '../models/image-form.ts';
import { precisionOf } from '../models/precisions.ts';
import { openCheckpoint } from '../models/source/checkpoint.ts';
import { openObjectStore } from '../storage/object-store.ts';
import { ImageDisk } from './image-disk.ts';
import type { FromLoader, ImageSource, LoaderSettings, ToLoader } from './protocol.ts';

if (!parentPort) throw new Error('adapters/loader-thread.ts runs as a worker thread only');
const port = parentPort;
const settings = workerData as LoaderSettings;
/**
 * Of a contested core this gives the loader one part in seven: a step that needs every core takes a sixth longer at most.
 * Linux gives each thread a priority of its own; elsewhere this would slow the whole process.
 */
const NICENESS = 8;
if (process.platform === 'linux') setPriority(NICENESS);

const checkpoint = await openCheckpoint(settings.basePath);
const form = imageForm(checkpoint, precisionOf(settings.precision));
const objects = openObjectStore(settings.edgeUrl, settings.s3Secret);
const disk = await ImageDisk.open({
  folder: path.join(settings.cacheFolder, form.id),
  limit: settings.diskLimit,
  check: (image, digest) => isImage(image, digest, form.id),
});

/** The sealed form may be float32 where its image has half floats; tensors' names come on top. */
const SEALED_LIMIT = 2 * settings.limit + 10_000_000;

async function load(digest: string): Promise<{ image: ArrayBuffer; source: ImageSource }> {
  const cached = await disk.get(digest).catch(warn);
  if (cached) return { image: cached, source: 'disk' };
  const stored = await objects.get(imageKey(form.id, digest), settings.limit).catch(absent);
  if (stored && isImage(stored.buffer, digest, form.id)) return { image: stored.buffer, source: 'object_storage' };
  const sealed = await objects.get(sealedKey(digest), SEALED_LIMIT);
  return { image: await buildImage(digest, sealed, form), source: 'sealed' };
}

/** Answers first: writing takes longer than copying, and a request waits. */
async function answerLoad(call: number, digest: string): Promise<void> {
  const { image, source } = await load(digest);
  const copy = source === 'disk' ? null : image.slice();
  port.postMessage({ type: 'loaded', call, image, source, disk: diskState() } satisfies FromLoader, [image]);
  if (!copy) return;
  await keep(digest, copy);
  port.postMessage({ type: 'disk', disk: diskState() } satisfies FromLoader);
  // If this fails, the next worker makes it again.
  if (source === 'sealed') await objects.put(imageKey(form.id, digest), new Uint8Array(copy)).catch(warn);
}

async function store(digest: string, sealed: Uint8Array): Promise<void> {
  const image = await buildImage(digest, sealed, form);
  await Promise.all([keep(digest, image), objects.put(imageKey(form.id, digest), new Uint8Array(image))]);
}

function absent(error: unknown): null {
  if (error instanceof Failure && error.value.kind === 'not_found') return null;
  throw error;
}

/** A disk that is full or broken costs speed, not answers. */
const keep = (digest: string, image: ArrayBuffer): Promise<void> => disk.put(digest, image).catch(warn);

function warn(error: unknown): void {
  port.postMessage({ type: 'warning', message: error instanceof Error ? error.message : String(error) } satisfies FromLoader);
}

async function answer(message: ToLoader): Promise<void> {
  try {
    switch (message.type) {
      case 'load':
        await answerLoad(message.call, message.digest);
        break;
      case 'store':
        await store(message.digest, message.sealed);
        port.postMessage({ type: 'stored', call: message.call, disk: diskState() } satisfies FromLoader);
        break;
      default:
        message satisfies never;
    }
  } catch (error) {
    const value = error instanceof Failure ? error.value : ({ kind: 'internal', message: `load adapter: ${String(error)}` } as const);
    port.postMessage({ type: 'failed', call: message.call, failure: value } satisfies FromLoader);
  }
}

const diskState = () => ({ images: disk.size, bytes: disk.bytes, evictions: disk.evictions, damaged: disk.damaged });

port.on('message', (message: ToLoader) => void answer(message));
