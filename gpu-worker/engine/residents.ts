/**
 * Adapters in the engine thread's memory, as the kernels read them: by address, where they lie. Whoever removes one
 * sees to it that no row uses it.
 */
import { addressTable } from '../models/adapter-image.ts';
import { address } from '../runtime/library.ts';

interface Resident {
  /** Both are kept here because rows only know their addresses. */
  image: ArrayBuffer;
  table: Uint8Array;
  address: bigint;
}

export class Residents {
  readonly #residents = new Map<string, Resident>();
  #bytes = 0;

  get count(): number {
    return this.#residents.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(digest: string, image: ArrayBuffer): void {
    this.remove(digest);
    const table = addressTable(image, address(image));
    this.#residents.set(digest, { image, table, address: address(table) });
    this.#bytes += image.byteLength;
  }

  remove(digest: string): void {
    const resident = this.#residents.get(digest);
    if (!resident) return;
    this.#bytes -= resident.image.byteLength;
    this.#residents.delete(digest);
    // Frees it now: this thread makes so little garbage that a collection may be far away.
    resident.image.transfer(0);
  }

  /** Address of the module table. */
  table(digest: string): bigint {
    const resident = this.#residents.get(digest);
    if (!resident) throw new Error(`adapter ${digest} is not resident`);
    return resident.address;
  }
}
