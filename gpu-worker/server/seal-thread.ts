/** The sealing thread: packages in, sealed adapters out, one at a time. Its worker data is the base's modules. */
import { parentPort, workerData } from 'node:worker_threads';
import type { BaseModules } from '../../shared/adapters/base.ts';
import type { AdapterCard } from '../../shared/contract/worker.ts';
import { type ErrorValue, Failure } from '../../shared/errors.ts';
import { sealPackage } from '../peft/seal.ts';

export interface SealQuestion {
  files: { name: string; bytes: Uint8Array }[];
}

export type SealAnswer = { ok: true; digest: string; bytes: Uint8Array; card: AdapterCard } | { ok: false; failure: ErrorValue };

function answerTo({ files }: SealQuestion): SealAnswer {
  try {
    return { ok: true, ...sealPackage(files, workerData as BaseModules) };
  } catch (error) {
    if (error instanceof Failure) return { ok: false, failure: error.value };
    return { ok: false, failure: { kind: 'internal', message: `seal: ${error instanceof Error ? error.message : String(error)}` } };
  }
}

parentPort?.on('message', (question: SealQuestion) => {
  const answer = answerTo(question);
  parentPort?.postMessage(answer, answer.ok ? [answer.bytes.buffer as ArrayBuffer] : []);
});
