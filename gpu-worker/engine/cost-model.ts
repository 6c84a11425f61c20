/**
 * How long a step takes on this machine, learnt from the steps that ran:
 *
 *   t = a + b · decoding tokens + c · prompt tokens + d · positions attended to
 *
 * Least squares over steps that fade with age, held to a first guess by a small weight, so that what never varies
 * (only decoding steps, say) leaves the other coefficients where they were.
 */

export interface StepWork {
  /** Tokens of rows that decode, drafts included. */
  decoding: number;
  /** Tokens of rows that are being prefilled. */
  prompt: number;
  /** Sum over all tokens of the positions that each looks back on. */
  attended: number;
}

/** The most that a step may be off the model, in either direction, and still teach it; beyond that something else ran. */
const PLAUSIBLE = 4;
const MEMORY = 0.99;
/** Square of the milliseconds by which a step must miss to pull a coefficient as far as its guess is from nothing. */
const GUESS_WEIGHT = 25;
/** Brings the four quantities to about one. */
const SCALE = [1, 16, 128, 16_384] as const;
const TERMS = SCALE.length;
/** Milliseconds at those sizes, of a small base on two cores. */
const GUESS = [5, 8, 35, 1];
const FLOOR = GUESS.map((value) => value / 100);

const scaled = ({ decoding, prompt, attended }: StepWork): number[] => [1, decoding, prompt, attended].map((value, i) => value / SCALE[i]!);

export class CostModel {
  /** Σ x xᵀ and Σ x t over fading steps. */
  readonly #moments = new Float64Array(TERMS * TERMS);
  readonly #products = new Float64Array(TERMS);
  #coefficients = [...GUESS];
  #seen = 0;

  learn(work: StepWork, milliseconds: number): void {
    const expected = this.milliseconds(work);
    // Until the guess has given way to measurements, anything may be true.
    const settled = this.#seen >= 20;
    this.#seen++;
    const t = settled ? Math.min(milliseconds, expected * PLAUSIBLE) : milliseconds;
    const x = scaled(work);
    for (let i = 0; i < TERMS; i++) {
      this.#products[i] = MEMORY * this.#products[i]! + x[i]! * t;
      for (let j = 0; j < TERMS; j++) this.#moments[i * TERMS + j] = MEMORY * this.#moments[i * TERMS + j]! + x[i]! * x[j]!;
    }
    this.#coefficients = this.#solve();
  }

  milliseconds(work: StepWork): number {
    return scaled(work).reduce((sum, x, i) => sum + x * this.#coefficients[i]!, 0);
  }

  /** What one more decoding token costs that looks back on `context` positions. */
  decodingToken(context: number): number {
    return this.#coefficients[1]! / SCALE[1] + this.#attending(context);
  }

  /** What one more prompt token costs. */
  promptToken(context: number): number {
    return this.#coefficients[2]! / SCALE[2] + this.#attending(context);
  }

  #attending(context: number): number {
    return (context * this.#coefficients[3]!) / SCALE[3];
  }

  /** Where least squares would price something below its floor, it is held there and the rest found again. */
  #solve(): number[] {
    const held = new Set<number>();
    for (;;) {
      const found = this.#solveHolding(held);
      const below = found.findIndex((value, i) => value < FLOOR[i]! && !held.has(i));
      if (below < 0) return found;
      held.add(below);
    }
  }

  /** Gauss–Jordan elimination of (M + Λ) θ = p + Λ θ₀, with some θ at their floors. What is left is symmetric and positive definite: no pivoting is needed. */
  #solveHolding(held: ReadonlySet<number>): number[] {
    const rows = Array.from({ length: TERMS }, (_, i) => {
      if (held.has(i)) return [...Array.from({ length: TERMS }, (_, j) => Number(i === j)), FLOOR[i]!];
      const hold = GUESS_WEIGHT / GUESS[i]! ** 2;
      const left = Array.from({ length: TERMS }, (_, j) => this.#moments[i * TERMS + j]! + (i === j ? hold : 0));
      return [...left, this.#products[i]! + hold * GUESS[i]!];
    });
    for (let i = 0; i < TERMS; i++) {
      for (let k = 0; k < TERMS; k++) {
        if (k === i) continue;
        const factor = rows[k]![i]! / rows[i]![i]!;
        for (let j = i; j <= TERMS; j++) rows[k]![j]! -= factor * rows[i]![j]!;
      }
    }
    return rows.map((row, i) => row[TERMS]! / row[i]!);
  }
}
