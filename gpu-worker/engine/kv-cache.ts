/**
 * Keys and values of the running sequences: one slot of fixed capacity each, updated in place by the graph.
 * Sequences occupy slots 0…n−1, so that a step binds one contiguous slice of every layer.
 */
import { cacheInput } from '../models/prepare.ts';
import type { ModelConfig } from '../models/source/config.ts';
import type { Binding } from '../runtime/session.ts';
import { Tensor } from '../runtime/tensor.ts';

const SIDES = ['key', 'value'] as const;

export const kvBytesPerSlot = (config: ModelConfig, capacity: number): number =>
  2 * config.num_hidden_layers * config.num_key_value_heads * capacity * config.head_dim * 4;

export class KvCache {
  readonly slots: number;
  readonly capacity: number;
  readonly #config: ModelConfig;
  /** Per layer and side: [slots, kvHeads, capacity, headDim]. */
  readonly #memory: { input: string; output: string; data: Float32Array }[];
  readonly #views = new Map<string, Tensor[]>();

  constructor(config: ModelConfig, slots: number, capacity: number) {
    this.slots = slots;
    this.capacity = capacity;
    this.#config = config;
    const size = slots * this.#slotSize;
    this.#memory = Array.from({ length: config.num_hidden_layers }, (_, layer) =>
      SIDES.map((side) => ({ input: cacheInput(layer)[side], output: `present.${layer}.${side}`, data: new Float32Array(size) })),
    ).flat();
  }

  get #slotSize(): number {
    return this.#config.num_key_value_heads * this.capacity * this.#config.head_dim;
  }

  /** Binds slots first…first+count−1 as the cache to read and to extend. */
  bind(binding: Binding, first: number, count: number): void {
    const tensors = this.#view(first, count);
    this.#memory.forEach(({ input, output }, i) => {
      binding.input(input, tensors[i]!);
      binding.output(output, tensors[i]!);
    });
  }

  #view(first: number, count: number): Tensor[] {
    const key = `${first}+${count}`;
    let tensors = this.#views.get(key);
    if (!tensors) {
      const size = this.#slotSize;
      const dims = [count, this.#config.num_key_value_heads, this.capacity, this.#config.head_dim];
      tensors = this.#memory.map(({ input, data }) => new Tensor(input, 'f32', dims, data.subarray(first * size, (first + count) * size)));
      this.#views.set(key, tensors);
    }
    return tensors;
  }

  /** Copies the first `tokens` positions of one slot to another. */
  move(from: number, to: number, tokens: number): void {
    const { num_key_value_heads: heads, head_dim } = this.#config;
    const stride = this.capacity * head_dim;
    for (const { data } of this.#memory) {
      for (let head = 0; head < heads; head++) {
        const source = (from * heads + head) * stride;
        data.copyWithin((to * heads + head) * stride, source, source + tokens * head_dim);
      }
    }
  }
}
