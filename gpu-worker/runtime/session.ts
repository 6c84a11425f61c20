/** A loaded model, and a binding of its inputs and outputs that is reused from run to run. */
import { address, call, create, env, type Pointer, registerKernels, release } from './library.ts';
import type { Tensor } from './tensor.ts';

export interface SessionOptions {
  /** Threads that share one operator's work, the caller's included. */
  threads: number;
  /** Writes a Chrome trace of every operator under this path prefix when the session is released. */
  profile?: string;
}

const ALL_OPTIMISATIONS = 99;

export class Session implements Disposable {
  static #open = 0;
  /** Sessions alive in this process: constant while adapters come and go. */
  static get open(): number {
    return Session.#open;
  }

  readonly modelPath: string;
  #pointer: Pointer;

  constructor(modelPath: string, options: SessionOptions) {
    this.modelPath = modelPath;
    const settings = create('CreateSessionOptions', modelPath);
    try {
      call('SetIntraOpNumThreads', modelPath, settings, options.threads);
      call('SetSessionGraphOptimizationLevel', modelPath, settings, ALL_OPTIMISATIONS);
      // Idle pool threads would otherwise spin on the cores that serve HTTP between two steps.
      call('AddSessionConfigEntry', modelPath, settings, 'session.force_spinning_stop', '1');
      registerKernels(settings, modelPath);
      if (options.profile) call('EnableProfiling', modelPath, settings, options.profile);
      this.#pointer = create('CreateSession', modelPath, env(), modelPath, settings);
    } finally {
      release('ReleaseSessionOptions', settings);
    }
    Session.#open++;
  }

  get pointer(): Pointer {
    if (!this.#pointer) throw new Error(`session ${this.modelPath} was used after it was released`);
    return this.#pointer;
  }

  [Symbol.dispose](): void {
    if (!this.#pointer) return;
    release('ReleaseSession', this.#pointer);
    this.#pointer = null;
    Session.#open--;
  }
}

/** C strings and the array of their addresses, kept alive together. */
function nameTable(names: readonly string[]): { addresses: BigUint64Array; keep: Buffer[] } {
  const keep = names.map((name) => Buffer.from(`${name}\0`));
  return { addresses: BigUint64Array.from(keep, (buffer) => address(buffer)), keep };
}

/** Names are resolved once; between runs only the addresses of the tensors that changed are written. */
export class Binding {
  readonly #session: Session;
  readonly #inputs: Side;
  readonly #outputs: Side;

  constructor(session: Session, inputs: readonly string[], outputs: readonly string[]) {
    this.#session = session;
    this.#inputs = new Side('input', inputs);
    this.#outputs = new Side('output', outputs);
  }

  input(name: string, tensor: Tensor): void {
    this.#inputs.set(name, tensor);
  }

  output(name: string, tensor: Tensor): void {
    this.#outputs.set(name, tensor);
  }

  /** Executes the model; every input and output must have been bound. Blocks the calling thread. */
  run(): void {
    const { modelPath } = this.#session;
    const inputs = this.#inputs.addresses(modelPath);
    const outputs = this.#outputs.addresses(modelPath);
    call(
      'Run',
      modelPath,
      this.#session.pointer,
      null,
      this.#inputs.names,
      inputs,
      inputs.length,
      this.#outputs.names,
      outputs.length,
      outputs,
    );
  }
}

class Side {
  readonly names: BigUint64Array;
  readonly #kind: string;
  readonly #keep: Buffer[];
  readonly #index: Map<string, number>;
  readonly #tensors: (Tensor | undefined)[];
  readonly #addresses: BigUint64Array;

  constructor(kind: string, names: readonly string[]) {
    const table = nameTable(names);
    this.names = table.addresses;
    this.#kind = kind;
    this.#keep = table.keep;
    this.#index = new Map(names.map((name, i) => [name, i]));
    this.#tensors = names.map(() => undefined);
    this.#addresses = new BigUint64Array(names.length);
  }

  set(name: string, tensor: Tensor): void {
    const i = this.#index.get(name);
    if (i === undefined)
      throw new Error(
        `no ${this.#kind} named ${name}; there are ${this.#keep.length}: ${[...this.#index.keys()].slice(0, 8).join(', ')} …`,
      );
    this.#tensors[i] = tensor;
  }

  addresses(modelPath: string): BigUint64Array {
    for (const [name, i] of this.#index) {
      const tensor = this.#tensors[i];
      if (!tensor) throw new Error(`run of ${modelPath}: ${this.#kind} ${name} is not bound`);
      this.#addresses[i] = tensor.address;
    }
    return this.#addresses;
  }
}
