/**
 * The memory of all keys and values: one tensor a layer (an encoder's layers share one), cut into pages that the graph reads and writes in place. It is
 * bound once; which pages are whose is pages.ts's. The system commits a page when it is first touched.
 */
import { poolInput } from '../models/prepare.ts';
import { familyOf } from '../models/registry.ts';
import type { ModelConfig } from '../models/source/config.ts';
import type { Binding } from '../runtime/session.ts';
import { Tensor } from '../runtime/tensor.ts';
import { allocate, bytesPerElement, type DType } from '../tensor/dtype.ts';
import { PAGE_TOKENS } from './pages.ts';

/** Keys and values of one page in one pool. */
const elementsPerPage = (config: ModelConfig): number => 2 * config.num_key_value_heads * PAGE_TOKENS * config.head_dim;

/** Of one page in all pools. */
export const bytesPerPage = (config: ModelConfig, type: DType): number =>
  familyOf(config).pools(config) * elementsPerPage(config) * bytesPerElement[type];

export class KvPool {
  readonly #tensors: Tensor[];

  constructor(config: ModelConfig, type: DType, pages: number) {
    const dims = [pages, elementsPerPage(config)];
    this.#tensors = Array.from(
      { length: familyOf(config).pools(config) },
      (_, i) => new Tensor(poolInput(i), type, dims, allocate(type, pages * elementsPerPage(config))),
    );
  }

  bind(binding: Binding): void {
    for (const tensor of this.#tensors) binding.input(tensor.name, tensor);
  }
}
