/** Random LoRA packages as PEFT writes them, bfloat16. Speed does not depend on the values. */
import type { BaseModules } from '../../../shared/adapters/base.ts';
import { CONFIG_FILE, type PackageFile, WEIGHTS_FILE } from '../../../shared/adapters/package-files.ts';
import { type Tensor, writeSafetensors } from '../../../shared/adapters/safetensors.ts';
import { Random } from './random.ts';

export const RANK = 16;

export interface AdapterShape {
  rank: number;
  /** Last parts of the names of the linears that it changes; all when absent. */
  targets?: readonly string[];
  /** Of the factors' values; the default is small enough that the base's distribution survives. */
  amplitude?: number;
}

const sortOf = (module: string): string => module.slice(module.lastIndexOf('.') + 1);

export function randomAdapter(seed: number, base: BaseModules, shape: AdapterShape = { rank: RANK }): PackageFile[] {
  const { rank, targets, amplitude = 0.02 } = shape;
  const random = new Random(seed);
  const tensors = new Map<string, Tensor>();
  const linears = [...base.linears].filter(([module]) => targets?.includes(sortOf(module)) ?? true);
  for (const [module, { in: width, out }] of linears) {
    tensors.set(`base_model.model.${module}.lora_A.weight`, matrix(random, rank, width, amplitude));
    tensors.set(`base_model.model.${module}.lora_B.weight`, matrix(random, out, rank, amplitude));
  }
  const config = {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base.id,
    r: rank,
    lora_alpha: rank,
    target_modules: [...new Set(linears.map(([module]) => sortOf(module)))],
  };
  return [
    { name: CONFIG_FILE, bytes: new TextEncoder().encode(JSON.stringify(config)) },
    { name: WEIGHTS_FILE, bytes: writeSafetensors(tensors, new Map([['format', 'pt']])) },
  ];
}

/** Uniform in ±amplitude; bfloat16 is the upper half of float32. */
function matrix(random: Random, rows: number, columns: number, amplitude: number): Tensor {
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = (random.next() / 2 ** 31 - 1) * amplitude;
  const bits = new Uint32Array(values.buffer);
  const upper = Uint16Array.from(bits, (word) => word >>> 16);
  return { dtype: 'BF16', shape: [rows, columns], data: new Uint8Array(upper.buffer) };
}
