/**
 * Sealing: from an uploaded package to the one form that is stored and served, and its card.
 *
 *     files → openPackage → {config, weights} → kind.seal → factors → writeSealed → digest, card
 *
 * Nothing of the upload is trusted on the way; every fault ends in an `adapter_rejected` failure.
 */
import { createHash } from 'node:crypto';
import { openPackage } from '../../shared/adapters/archive.ts';
import type { BaseModules } from '../../shared/adapters/base.ts';
import { collect, refusal, rejected } from '../../shared/adapters/findings.ts';
import { isJsonObject, type JsonObject, parseJson } from '../../shared/adapters/json.ts';
import { CONFIG_FILE, type PackageFile, WEIGHTS_FILE } from '../../shared/adapters/package-files.ts';
import { readSafetensors } from '../../shared/adapters/safetensors.ts';
import { writeSealed } from '../../shared/adapters/sealed.ts';
import type { AdapterCard } from '../../shared/contract/worker.ts';
import type { AdapterFinding } from '../../shared/errors.ts';
import type { AdapterPackage } from './kind.ts';
import { kindOf } from './registry.ts';

const MAX_CONFIG_BYTES = 4 << 20;
const MAX_CONFIG_DEPTH = 16;
/** No PEFT method stores more tensors for a module than this. */
const MAX_TENSORS_PER_MODULE = 8;

export interface SealedPackage {
  /** SHA-256 of `bytes`, in hex: the adapter's identity everywhere. */
  digest: string;
  bytes: Uint8Array<ArrayBuffer>;
  card: AdapterCard;
}

export function sealPackage(files: readonly PackageFile[], base: BaseModules): SealedPackage {
  const source = readPackage(files, base);
  const kind = kindOf(source);
  const targets = kind.seal(source, base);
  const ofTargets = [...targets.values()];
  const rank = ofTargets.reduce((largest, target) => Math.max(largest, target.rank), 0);
  const bytes = writeSealed({ baseRevision: base.revision, rank, targets });
  const name = source.config.get('base_model_name_or_path');
  const card: AdapterCard = {
    kind: kind.name,
    base: base.id,
    base_revision: base.revision,
    base_model_name_or_path: typeof name === 'string' ? name : null,
    rank,
    parameters: ofTargets.reduce((sum, { A, B }) => sum + A.length + B.length, 0),
    targets: [...targets].map(([module, target]) => ({ module, rank: target.rank, scale: target.scale, exactness: 'exact' })),
    source: files.map((file) => ({ name: file.name, bytes: file.bytes.byteLength, sha256: sha256(file.bytes) })),
  };
  return { digest: sha256(bytes), bytes, card };
}

function readPackage(files: readonly PackageFile[], base: BaseModules): AdapterPackage {
  const opened = openPackage(files);
  const maxTensors = (base.linears.size + base.others.size) * MAX_TENSORS_PER_MODULE;
  const findings: AdapterFinding[] = [];
  const weights = collect(findings, () => {
    const read = readSafetensors(opened.weights, WEIGHTS_FILE, maxTensors);
    if (read.tensors.size === 0) throw refusal('tensors', `${WEIGHTS_FILE}: there are no tensors`, { file: WEIGHTS_FILE });
    return read;
  });
  const config = collect(findings, () => readConfig(opened.config));
  if (!weights || !config) throw rejected(findings);
  return { config, weights };
}

function readConfig(bytes: Uint8Array): JsonObject {
  const config = parseJson(bytes, { file: CONFIG_FILE, code: 'config', maxBytes: MAX_CONFIG_BYTES, maxDepth: MAX_CONFIG_DEPTH });
  if (!isJsonObject(config)) throw refusal('config', `${CONFIG_FILE}: not an object`, { file: CONFIG_FILE });
  return config;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
