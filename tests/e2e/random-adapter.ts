/** Untrained LoRA packages for q_proj and v_proj: many different adapters without keeping many files. */
import { writeSafetensors } from '../../shared/adapters/safetensors.ts';

interface Shape {
  layers: number;
  hidden: number;
  /** Width of v_proj's output. */
  kv: number;
  rank: number;
}
const SMOLLM2: Shape = { layers: 30, hidden: 576, kv: 192, rank: 2 };
/** For the base in tests/fixtures/families/llama: 230 kB an adapter, so that keeping hundreds by mistake shows. */
export const TINY_LLAMA: Shape = { layers: 2, hidden: 64, kv: 32, rank: 128 };

/** Numbers of mean 0 and the given spread, the same for the same seed (mulberry32). */
function numbers(seed: number, count: number, spread: number): Float32Array<ArrayBuffer> {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) / 2 ** 32 - 0.5) * spread;
  });
}

export function randomAdapter(seed: number, { layers, hidden, kv, rank }: Shape = SMOLLM2): { name: string; bytes: Uint8Array }[] {
  const tensors = new Map<string, { dtype: 'F32'; shape: number[]; data: Uint8Array }>();
  const add = (name: string, shape: [number, number], spread: number) => {
    const data = numbers(seed * 1000 + tensors.size, shape[0] * shape[1], spread);
    tensors.set(name, { dtype: 'F32', shape, data: new Uint8Array(data.buffer) });
  };
  for (let layer = 0; layer < layers; layer++) {
    for (const [module, out] of [
      ['q_proj', hidden],
      ['v_proj', kv],
    ] as const) {
      const path = `base_model.model.model.layers.${layer}.self_attn.${module}`;
      add(`${path}.lora_A.weight`, [rank, hidden], 0.2);
      add(`${path}.lora_B.weight`, [out, rank], 0.2);
    }
  }
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: rank, lora_alpha: 2 * rank, target_modules: ['q_proj', 'v_proj'] };
  return [
    { name: 'adapter_config.json', bytes: Buffer.from(JSON.stringify(config)) },
    { name: 'adapter_model.safetensors', bytes: writeSafetensors(tensors, new Map([['format', 'pt']])) },
  ];
}
