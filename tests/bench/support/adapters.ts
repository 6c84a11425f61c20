/** Random LoRA packages as PEFT writes them: rank 16 on every linear, bfloat16. Speed does not depend on the values. */
import type { BaseModules } from '../../../shared/adapters/base.ts';
import { CONFIG_FILE, type PackageFile, WEIGHTS_FILE } from '../../../shared/adapters/package-files.ts';
import { type Tensor, writeSafetensors } from '../../../shared/adapters/safetensors.ts';
import { Random } from './random.ts';

export const RANK = 16;
/** Of the factors' values: small enough that the base's distribution survives. */
const AMPLITUDE = 0.02;

export function randomAdapter(seed: number, base: BaseModules): PackageFile[] {
  const random = new Random(seed);
  const tensors = new Map<string, Tensor>();
  for (const [module, { in: width, out }] of base.linears) {
    tensors.set(`base_model.model.${module}.lora_A.weight`, matrix(random, RANK, width));
    tensors.set(`base_model.model.${module}.lora_B.weight`, matrix(random, out, RANK));
  }
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base.id,
    r: RANK,
    lora_alpha: RANK,
    target_modules: [...new Set([...base.linears.keys()].map((module) => module.slice(module.lastIndexOf('.') + 1)))],
  };
  return [
    { name: CONFIG_FILE, bytes: new TextEncoder().encode(JSON.stringify(config)) },
    { name: WEIGHTS_FILE, bytes: writeSafetensors(tensors, new Map([['format', 'pt']])) },
  ];
}

/** Uniform in ±AMPLITUDE; bfloat16 is the upper half of float32. */
function matrix(random: Random, rows: number, columns: number): Tensor {
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = (random.next() / 2 ** 31 - 1) * AMPLITUDE;
  const bits = new Uint32Array(values.buffer);
  const upper = Uint16Array.from(bits, (word) => word >>> 16);
  return { dtype: 'BF16', shape: [rows, columns], data: new Uint8Array(upper.buffer) };
}
