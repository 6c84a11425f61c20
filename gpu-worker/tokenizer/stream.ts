/**
 * Text of a growing token sequence: each push costs the token's own bytes, and half a character is
 * held back until the rest of it arrives.
 */
export class TextStream {
  readonly #tokenBytes: (id: number) => Uint8Array;
  // A byte order mark is a token like any other.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokenBytes: (id: number) => Uint8Array) {
    this.#tokenBytes = tokenBytes;
  }

  /** The characters that this token completes. Special tokens complete none. */
  push(id: number): string {
    return this.#decoder.decode(this.#tokenBytes(id), { stream: true });
  }

  /** What was held back: U+FFFD for a character that never became whole. The stream starts afresh. */
  flush(): string {
    return this.#decoder.decode();
  }
}
