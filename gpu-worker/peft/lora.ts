/**
 * LoRA, rsLoRA included:  ΔW = s·B·A,  A [r, in], B [out, r], s = α/r or α/√r.
 * Keys: base_model.model.<module>.lora_A.weight and .lora_B.weight.
 * The file may hold only pairs that its config announces, whole, in the shapes that the base and the
 * ranks demand. A target without a pair stays as the base has it (PEFT starts B at zero), but each
 * sort of target (q_proj, v_proj, …) must have a pair in some layer, or the file is incomplete.
 */

import type { BaseModules } from '../../shared/adapters/base.ts';
import { collect, quote, rejected } from '../../shared/adapters/findings.ts';
import { decodeFloats } from '../../shared/adapters/floats.ts';
import { type LoraConfig, readLoraConfig } from '../../shared/adapters/lora-config.ts';
import { type LoraTarget, resolveTargets } from '../../shared/adapters/lora-targets.ts';
import { WEIGHTS_FILE } from '../../shared/adapters/package-files.ts';
import type { Tensor } from '../../shared/adapters/safetensors.ts';
import type { AdapterFinding } from '../../shared/errors.ts';
import type { AdapterKind, AdapterPackage, KindTarget } from './kind.ts';

const PREFIX = 'base_model.model.';
const MAX_FLOAT32 = 3.4028234663852886e38;
const keyOf = (module: string, factor: 'A' | 'B'): string => `${PREFIX}${module}.lora_${factor}.weight`;

export const lora: AdapterKind = {
  name: 'lora',
  claims: (config) => config.get('peft_type') === 'LORA',
  seal(source, base) {
    const targets = resolveTargets(readConfig(source), base, (module) => hasPair(source, module));
    const findings = [...strays(source, targets, base), ...missing(source, targets)];
    const sealed = new Map<string, KindTarget>();
    for (const [module, target] of targets) {
      if (!hasPair(source, module)) continue;
      const A = factor(source, keyOf(module, 'A'), [target.rank, target.in], findings);
      const B = factor(source, keyOf(module, 'B'), [target.out, target.rank], findings);
      if (!A || !B) continue;
      const scaled = B.map((value) => value * target.scale);
      if (overflows(A, scaled, target)) {
        const message = `${quote(module)}: the product of the factors overflows float32`;
        findings.push({ code: 'values', message, file: WEIGHTS_FILE, tensor: keyOf(module, 'B') });
      }
      sealed.set(module, { A, B: scaled, rank: target.rank, scale: target.scale });
    }
    if (findings.length > 0) throw rejected(findings);
    return sealed;
  },
};

/** A config that is refused for DoRA is also held against the file: without magnitudes it is broken, not merely unsupported. */
function readConfig({ config, weights }: AdapterPackage): LoraConfig {
  const findings: AdapterFinding[] = [];
  const read = collect(findings, () => readLoraConfig(config));
  if (read) return read;
  if (config.get('use_dora') === true && ![...weights.tensors.keys()].some((name) => name.endsWith('.lora_magnitude_vector'))) {
    const message = `${WEIGHTS_FILE}: use_dora is true, but there are no lora_magnitude_vector tensors`;
    findings.unshift({ code: 'tensors', message, file: WEIGHTS_FILE });
  }
  throw rejected(findings);
}

/** Tensors that the config does not announce. */
function* strays({ weights }: AdapterPackage, targets: ReadonlyMap<string, LoraTarget>, base: BaseModules): Iterable<AdapterFinding> {
  for (const name of weights.tensors.keys()) {
    const module = /^base_model\.model\.(.+)\.lora_[AB]\.weight$/s.exec(name)?.[1];
    if (module !== undefined && targets.has(module)) continue;
    const why =
      module === undefined
        ? `is not a LoRA parameter (${PREFIX}<module>.lora_A.weight or .lora_B.weight)`
        : base.linears.has(module)
          ? 'belongs to a module that the config does not target'
          : base.others.has(module)
            ? `belongs to a module that cannot be adapted on ${base.id} yet`
            : `belongs to a module that ${base.id} does not have`;
    yield { code: 'modules', message: `${WEIGHTS_FILE}: tensor ${quote(name)} ${why}`, file: WEIGHTS_FILE, tensor: quote(name) };
  }
}

const hasPair = ({ weights }: AdapterPackage, module: string): boolean =>
  weights.tensors.has(keyOf(module, 'A')) || weights.tensors.has(keyOf(module, 'B'));

/** Sorts of targets of which the file holds none. */
function* missing(source: AdapterPackage, targets: ReadonlyMap<string, LoraTarget>): Iterable<AdapterFinding> {
  const sortOf = (module: string) => module.slice(module.lastIndexOf('.') + 1);
  const present = new Set([...targets.keys()].filter((module) => hasPair(source, module)).map(sortOf));
  for (const sort of new Set([...targets.keys()].map(sortOf))) {
    if (present.has(sort)) continue;
    const message = `${WEIGHTS_FILE}: ${quote(sort)} is targeted, but no layer has tensors for it`;
    yield { code: 'tensors', message, file: WEIGHTS_FILE, expected: `${PREFIX}….${sort}.lora_A.weight and .lora_B.weight` };
  }
}

/** The factor's values, or undefined with findings about what is wrong. */
function factor(
  { weights }: AdapterPackage,
  key: string,
  shape: readonly [number, number],
  findings: AdapterFinding[],
): Float32Array | undefined {
  const where = { file: WEIGHTS_FILE, tensor: key };
  const tensor = weights.tensors.get(key);
  if (!tensor) {
    findings.push({ code: 'tensors', message: `${WEIGHTS_FILE}: tensor ${quote(key)} is missing`, ...where });
    return undefined;
  }
  if (tensor.shape.length !== 2 || tensor.shape[0] !== shape[0] || tensor.shape[1] !== shape[1]) {
    const expected = `[${shape.join(', ')}]`;
    const got = `[${tensor.shape.join(', ')}]`;
    findings.push({ code: 'shapes', message: `tensor ${quote(key)} has shape ${got}, expected ${expected}`, expected, got, ...where });
    return undefined;
  }
  const values = floats(tensor);
  if (!values) {
    const message = `tensor ${quote(key)} is stored as ${tensor.dtype}`;
    findings.push({ code: 'tensors', message, expected: 'F32, F16 or BF16', got: tensor.dtype, ...where });
    return undefined;
  }
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) {
    findings.push({ code: 'values', message: `tensor ${quote(key)} holds ${values[at]} at index ${at}`, got: `${values[at]}`, ...where });
    return undefined;
  }
  return values;
}

function floats({ dtype, data }: Tensor): Float32Array | undefined {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16' ? decodeFloats(dtype, data) : undefined;
}

/** Whether an element of B·A could leave float32: Σ_k max|B[:,k]|·max|A[k,:]| bounds them all. */
function overflows(A: Float32Array, B: Float32Array, { rank, in: width }: LoraTarget): boolean {
  const largestB = new Float64Array(rank);
  for (let i = 0; i < B.length; i++) largestB[i % rank] = Math.max(largestB[i % rank]!, Math.abs(B[i]!));
  let bound = 0;
  for (let k = 0; k < rank; k++) {
    let largestA = 0;
    for (let i = k * width; i < (k + 1) * width; i++) largestA = Math.max(largestA, Math.abs(A[i]!));
    bound += largestA * largestB[k]!;
  }
  return !(bound <= MAX_FLOAT32);
}
