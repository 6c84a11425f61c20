/** Untrained LoRA packages for SmolLM2-135M: many different adapters without keeping many files. */
import { writeSafetensors } from '../../shared/adapters/safetensors.ts';

const LAYERS = 30;
const HIDDEN = 576;
const KV = 192;
const RANK = 2;

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

export function randomAdapter(seed: number): { name: string; bytes: Uint8Array }[] {
  const tensors = new Map<string, { dtype: 'F32'; shape: number[]; data: Uint8Array }>();
  const add = (name: string, shape: [number, number], spread: number) => {
    const data = numbers(seed * 1000 + tensors.size, shape[0] * shape[1], spread);
    tensors.set(name, { dtype: 'F32', shape, data: new Uint8Array(data.buffer) });
  };
  for (let layer = 0; layer < LAYERS; layer++) {
    for (const [module, out] of [
      ['q_proj', HIDDEN],
      ['v_proj', KV],
    ] as const) {
      const path = `base_model.model.model.layers.${layer}.self_attn.${module}`;
      add(`${path}.lora_A.weight`, [RANK, HIDDEN], 0.2);
      add(`${path}.lora_B.weight`, [out, RANK], 0.2);
    }
  }
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: RANK, lora_alpha: 2 * RANK, target_modules: ['q_proj', 'v_proj'] };
  return [
    { name: 'adapter_config.json', bytes: Buffer.from(JSON.stringify(config)) },
    { name: 'adapter_model.safetensors', bytes: writeSafetensors(tensors, new Map([['format', 'pt']])) },
  ];
}
