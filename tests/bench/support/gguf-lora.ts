/** Random LoRA adapters in the GGUF form that llama-server loads. Speed does not depend on the values. */
import type { BaseModules } from '../../../shared/adapters/base.ts';
import { Random } from './random.ts';
import { uniform } from './workload.ts';

const ALIGNMENT = 32;
const TYPE = { f32: 6, string: 8 } as const;
const GGML_F16 = 1;
const AMPLITUDE = 0.02;

/** llama.cpp's names of the linears of a llama layer. */
const NAMES: Record<string, string> = {
  q_proj: 'attn_q',
  k_proj: 'attn_k',
  v_proj: 'attn_v',
  o_proj: 'attn_output',
  gate_proj: 'ffn_gate',
  up_proj: 'ffn_up',
  down_proj: 'ffn_down',
};

export function ggufAdapter(seed: number, base: BaseModules, rank: number): Uint8Array {
  const random = new Random(seed);
  const tensors = [...base.linears].flatMap(([module, { in: width, out }]) => {
    const [, layer, kind] = /layers\.(\d+)\..*\.(\w+)$/.exec(module) ?? [];
    const name = `blk.${layer}.${NAMES[kind ?? '']}.weight`;
    // ggml writes the fastest dimension first.
    return [
      { name: `${name}.lora_a`, dims: [width, rank] },
      { name: `${name}.lora_b`, dims: [rank, out] },
    ];
  });
  const head: Uint8Array[] = [];
  const u32 = (n: number) => head.push(new Uint8Array(Uint32Array.of(n).buffer));
  const u64 = (n: number) => head.push(new Uint8Array(BigUint64Array.of(BigInt(n)).buffer));
  const string = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    u64(bytes.length);
    head.push(bytes);
  };
  const metadata: [string, string | number][] = [
    ['general.architecture', 'llama'],
    ['general.type', 'adapter'],
    ['adapter.type', 'lora'],
    ['adapter.lora.alpha', rank],
  ];
  head.push(new TextEncoder().encode('GGUF'));
  u32(3);
  u64(tensors.length);
  u64(metadata.length);
  for (const [key, value] of metadata) {
    string(key);
    u32(typeof value === 'string' ? TYPE.string : TYPE.f32);
    if (typeof value === 'string') string(value);
    else head.push(new Uint8Array(Float32Array.of(value).buffer));
  }
  let offset = 0;
  for (const { name, dims } of tensors) {
    string(name);
    u32(dims.length);
    for (const dim of dims) u64(dim);
    u32(GGML_F16);
    u64(offset);
    offset += aligned(dims[0]! * dims[1]! * 2);
  }
  const headBytes = head.reduce((sum, part) => sum + part.length, 0);
  const file = new Uint8Array(aligned(headBytes) + offset);
  let at = 0;
  for (const part of head) {
    file.set(part, at);
    at += part.length;
  }
  at = aligned(at);
  for (const { dims } of tensors) {
    const values = Float16Array.from({ length: dims[0]! * dims[1]! }, () => (2 * uniform(random) - 1) * AMPLITUDE);
    file.set(new Uint8Array(values.buffer), at);
    at += aligned(values.byteLength);
  }
  return file;
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
