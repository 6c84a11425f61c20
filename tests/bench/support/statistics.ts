/** Order statistics of small samples, and ratios of samples that were taken in turn. */

/** Linear between the two nearest ranks; q in [0, 1]. */
export function quantile(samples: readonly number[], q: number): number {
  if (samples.length === 0) throw new RangeError('a quantile needs at least one sample');
  const sorted = samples.toSorted((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5);

function paired(a: readonly number[], b: readonly number[], of: (x: number, y: number) => number): number[] {
  if (a.length !== b.length) throw new RangeError(`samples taken in turn come in pairs, got ${a.length} and ${b.length}`);
  return a.map((x, i) => of(x, b[i]!));
}

/** Round by round, so that a drift of the machine meets both sides. */
export const ratios = (a: readonly number[], b: readonly number[]): number[] => paired(a, b, (x, y) => x / y);
export const differences = (a: readonly number[], b: readonly number[]): number[] => paired(a, b, (x, y) => x - y);

/** Median of some repetitions, as one sample of a round. */
export async function repeated(times: number, measure: () => Promise<number>): Promise<number> {
  const samples: number[] = [];
  for (let i = 0; i < times; i++) samples.push(await measure());
  return median(samples);
}

/** Samples by name, in the order in which they were taken. */
export class Samples {
  readonly #of = new Map<string, number[]>();

  add(name: string, ...values: number[]): void {
    this.#of.set(name, [...this.of(name), ...values]);
  }

  of(name: string): number[] {
    return this.#of.get(name) ?? [];
  }
}
