/**
 * The thread that turns sealed adapters into the form the graph reads, so that neither streams nor steps wait for it.
 * Results are in shared memory: the engine thread uses them where they are.
 */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { readSealed } from '../../shared/adapters/sealed.ts';
import { servedFactors } from '../models/adapter-path.ts';
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

port.on('message', ({ call, digest, sealed }: ToLoader) => {
  let answer: FromLoader;
  try {
    answer = { call, image: imageOf(digest, sealed) };
  } catch (error) {
    answer = { call, error: error instanceof Error ? error.message : String(error) };
  }
  port.postMessage(answer);
});

function imageOf(digest: string, sealed: Uint8Array): AdapterImage {
  const actual = createHash('sha256').update(sealed).digest('hex');
  if (actual !== digest) throw new Error(`load adapter ${digest}: its bytes have the digest ${actual}`);
  const adapter = readSealed(sealed);
  if (adapter.baseRevision !== checkpoint.revision)
    throw new Error(`load adapter ${digest}: sealed for base revision ${adapter.baseRevision}, this base is ${checkpoint.revision}`);
  const served = [...adapter.targets].map(([path, target]) => {
    const spec = specs.get(path);
    if (!spec) throw new Error(`load adapter ${digest}: the base has no linear ${path}`);
    return { path, ...servedFactors(target, spec) };
  });
  const memory = new SharedArrayBuffer(served.reduce((sum, { A, B }) => sum + A.byteLength + B.byteLength, 0));
  const floats = new Float32Array(memory);
  let at = 0;
  const put = (data: Float32Array) => {
    floats.set(data, at);
    at += data.length;
    return { at: at - data.length, length: data.length };
  };
  return { rank: adapter.rank, memory, modules: served.map(({ path, rank, A, B }) => ({ path, rank, A: put(A), B: put(B) })) };
}
