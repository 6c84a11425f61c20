/**
 * A thread that turns sealed adapters into the form the graph reads, so that neither streams nor steps wait for it.
 * Several share the modules of one adapter. Results are handed over: the engine thread uses them where they are.
 */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { readSealed } from '../../shared/adapters/sealed.ts';
import { writeServedFactors } from '../models/adapter-path.ts';
import { precisionOf } from '../models/precisions.ts';
import { familyOf } from '../models/registry.ts';
import { openCheckpoint } from '../models/source/checkpoint.ts';
import type { AdapterImage, EngineSettings, FromLoader, ToLoader } from './protocol.ts';

if (!parentPort) throw new Error('engine/loader.ts runs as a worker thread only');
const port = parentPort;
const settings = workerData as EngineSettings;
const checkpoint = await openCheckpoint(settings.basePath);
const specs = new Map(
  familyOf(checkpoint.config)
    .linears(checkpoint.config, precisionOf(settings.precision), checkpoint)
    .map((spec) => [spec.path, spec]),
);

port.on('message', ({ call, digest, sealed, part }: ToLoader) => {
  try {
    const image = imageOf(digest, sealed, part);
    port.postMessage({ call, image } satisfies FromLoader, [image.memory]);
  } catch (error) {
    port.postMessage({ call, error: error instanceof Error ? error.message : String(error) } satisfies FromLoader);
  }
});

function imageOf(digest: string, sealed: Uint8Array, part: ToLoader['part']): AdapterImage {
  const actual = part.index === 0 ? createHash('sha256').update(sealed).digest('hex') : digest;
  if (actual !== digest) throw new Error(`load adapter ${digest}: its bytes have the digest ${actual}`);
  const adapter = readSealed(sealed, part);
  if (adapter.baseRevision !== checkpoint.revision)
    throw new Error(`load adapter ${digest}: sealed for base revision ${adapter.baseRevision}, this base is ${checkpoint.revision}`);
  const targets = [...adapter.targets];
  const floats = targets.reduce((sum, [, { A, B }]) => sum + A.length + B.length, 0);
  const memory = new ArrayBuffer(floats * Float32Array.BYTES_PER_ELEMENT);
  let at = 0;
  const take = (length: number) => {
    at += length;
    return { at: at - length, length };
  };
  const modules = targets.map(([path, target]) => {
    const spec = specs.get(path);
    if (!spec) throw new Error(`load adapter ${digest}: the base has no linear ${path}`);
    const image = { path, rank: target.rank, A: take(target.A.length), B: take(target.B.length) };
    const view = ({ at, length }: { at: number; length: number }) => new Float32Array(memory, at * Float32Array.BYTES_PER_ELEMENT, length);
    writeServedFactors(target, spec, view(image.A), view(image.B));
    return image;
  });
  return { rank: adapter.rank, memory, modules };
}
