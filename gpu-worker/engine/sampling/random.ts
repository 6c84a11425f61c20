/** The random numbers that tokens are drawn with: the same seed gives the same answer on every machine. */

/** Random numbers in [0, 1): PCG-XSH-RR 64/32 (O'Neill 2014), one independent stream for each sequence. */
export class Random {
  #state: bigint;
  readonly #increment: bigint;

  constructor(seed: number, stream: number) {
    this.#increment = (BigInt.asUintN(63, BigInt(stream)) << 1n) | 1n;
    this.#state = BigInt.asUintN(64, BigInt(seed) + this.#increment);
    this.next();
  }

  next(): number {
    const s = this.#state;
    this.#state = BigInt.asUintN(64, s * 6364136223846793005n + this.#increment);
    const xored = Number(BigInt.asUintN(32, ((s >> 18n) ^ s) >> 27n));
    const turn = Number(s >> 59n);
    return (((xored >>> turn) | (xored << (-turn & 31))) >>> 0) / 2 ** 32;
  }
}
