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
const GUESS_WEIGHT = 0.05;
/** Brings the four quantities to about one. */
const SCALE = [1, 16, 128, 16_384] as const;
const TERMS = SCALE.length;
/** Milliseconds at those sizes, of a small base on two cores. */
const GUESS = [6, 10, 70, 1];

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

  /** Gaussian elimination of (M + λ) θ = p + λ θ₀; no coefficient falls below a hundredth of its guess. */
  #solve(): number[] {
    const rows = Array.from({ length: TERMS }, (_, i) => [
      ...Array.from({ length: TERMS }, (_, j) => this.#moments[i * TERMS + j]! + (i === j ? GUESS_WEIGHT : 0)),
      this.#products[i]! + GUESS_WEIGHT * GUESS[i]!,
    ]);
    // Symmetric and positive definite: no pivoting is needed.
    for (let i = 0; i < TERMS; i++) {
      for (let k = 0; k < TERMS; k++) {
        if (k === i) continue;
        const factor = rows[k]![i]! / rows[i]![i]!;
        for (let j = i; j <= TERMS; j++) rows[k]![j]! -= factor * rows[i]![j]!;
      }
    }
    return rows.map((row, i) => Math.max(row[TERMS]! / row[i]!, GUESS[i]! / 100));
  }
}
