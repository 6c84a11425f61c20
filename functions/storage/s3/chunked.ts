/**
 * Decoder of the `aws-chunked` content coding in its unsigned form with trailers:
 *
 *   <size in hex>[;extension]\r\n<bytes>\r\n … 0\r\n[<name>:<value>\r\n]…\r\n
 *
 * Works on pieces of any length; keeps no more than one line in memory. Pure.
 */
const MAX_LINE = 1024;
const MAX_TRAILERS = 16;
const CR = 13;
const LF = 10;

type State = 'size' | 'data' | 'data-end' | 'trailer' | 'done';

export class ChunkedFormatError extends Error {}

export class ChunkedDecoder {
  /** Names in lower case. Complete once `done`. */
  readonly trailers = new Map<string, string>();
  #state: State = 'size';
  #left = 0;
  #line: number[] = [];

  get done(): boolean {
    return this.#state === 'done';
  }

  /** The decoded bytes that `input` completes, as views of it. */
  write(input: Uint8Array): Uint8Array[] {
    const output: Uint8Array[] = [];
    let at = 0;
    while (at < input.length) {
      if (this.#state === 'done') throw new ChunkedFormatError('bytes after the end');
      if (this.#state === 'data') {
        const take = Math.min(this.#left, input.length - at);
        output.push(input.subarray(at, at + take));
        at += take;
        this.#left -= take;
        if (this.#left === 0) this.#state = 'data-end';
        continue;
      }
      const byte = input[at++]!;
      if (byte !== LF) {
        if (this.#line.push(byte) > MAX_LINE) throw new ChunkedFormatError('a line is too long');
        continue;
      }
      if (this.#line.pop() !== CR) throw new ChunkedFormatError('a line does not end with CR LF');
      const line = String.fromCharCode(...this.#line);
      this.#line = [];
      this.#endLine(line);
    }
    return output;
  }

  #endLine(line: string): void {
    switch (this.#state) {
      case 'size': {
        const size = /^([0-9a-f]{1,8})(;.*)?$/i.exec(line)?.[1];
        if (size === undefined) throw new ChunkedFormatError(`expected a chunk's size, got ${JSON.stringify(line.slice(0, 40))}`);
        this.#left = Number.parseInt(size, 16);
        this.#state = this.#left === 0 ? 'trailer' : 'data';
        return;
      }
      case 'data-end':
        if (line !== '') throw new ChunkedFormatError('a chunk is longer than its size');
        this.#state = 'size';
        return;
      case 'trailer': {
        if (line === '') {
          this.#state = 'done';
          return;
        }
        const [, name, value] = /^([A-Za-z0-9-]+):\s*(.*)$/.exec(line) ?? [];
        if (name === undefined || value === undefined) throw new ChunkedFormatError('malformed trailer');
        this.trailers.set(name.toLowerCase(), value.trim());
        if (this.trailers.size > MAX_TRAILERS) throw new ChunkedFormatError('too many trailers');
        return;
      }
      case 'data':
      case 'done':
        throw new ChunkedFormatError(`a line in state ${this.#state}`);
      default:
        this.#state satisfies never;
    }
  }
}
