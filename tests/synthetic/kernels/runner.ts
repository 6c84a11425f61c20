/** Runs one small model many times, with other shapes each time. */
import { Binding, Session } from '../../../gpu-worker/runtime/session.ts';
import { Tensor } from '../../../gpu-worker/runtime/tensor.ts';
import { allocate, type DType, elementCount, type TypedArray } from '../../../gpu-worker/tensor/dtype.ts';
import type { Data, ModelFile } from '../runtime/support.ts';

export class Runner implements Disposable {
  readonly #session: Session;
  readonly #binding: Binding;

  constructor(model: ModelFile, threads: number) {
    this.#session = new Session(model.path, { threads });
    this.#binding = new Binding(this.#session, model.inputs, model.outputs);
  }

  /** `outputs` gives the shapes that are expected. */
  run<N extends string>(inputs: Record<string, Data>, outputs: Record<N, { dtype: DType; dims: number[] }>): Record<N, TypedArray> {
    using held = new DisposableStack();
    const results: Record<string, TypedArray> = {};
    for (const [name, { dtype, dims, data }] of Object.entries(inputs))
      this.#binding.input(name, held.use(new Tensor(name, dtype, dims, data)));
    for (const [name, { dtype, dims }] of Object.entries<{ dtype: DType; dims: number[] }>(outputs)) {
      results[name] = allocate(dtype, elementCount(dims));
      this.#binding.output(name, held.use(new Tensor(name, dtype, dims, results[name])));
    }
    this.#binding.run();
    return results as Record<N, TypedArray>;
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
