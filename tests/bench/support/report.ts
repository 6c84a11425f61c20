/** Figures as a table for people and as JSON for later comparison. */
import { writeFile } from 'node:fs/promises';
import { describeMachine, type Machine, machineText, QuietGate } from './machine.ts';
import type { Options } from './options.ts';
import { quantile } from './statistics.ts';

export interface Figure {
  name: string;
  unit: 'tok/s' | 'ms' | '×' | '%' | '';
  samples: number[];
  target?: { atLeast: number } | { atMost: number };
  /** Which quantile the table shows and the target means; the median when absent. */
  q?: number;
}

const DIGITS: Record<Figure['unit'], number> = { 'tok/s': 0, ms: 1, '×': 2, '%': 2, '': 4 };

export class Report {
  readonly quiet: QuietGate;
  readonly #name: string;
  readonly #options: Options;
  readonly #machine: Machine;
  readonly #notes: string[] = [];
  readonly #figures: Figure[] = [];

  private constructor(name: string, options: Options, machine: Machine) {
    this.#name = name;
    this.#options = options;
    this.#machine = machine;
    this.quiet = new QuietGate(!options.quick);
  }

  static async start(name: string, options: Options): Promise<Report> {
    const machine = await describeMachine();
    process.stdout.write(`${name}${options.quick ? ' --quick: speeds of this run mean nothing' : ''}\n${machineText(machine)}\n`);
    return new Report(name, options, machine);
  }

  /** Something that whoever reads the figures must know. */
  note(text: string): void {
    this.#notes.push(text);
    process.stdout.write(`${text}\n`);
  }

  progress(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  add(...figures: Figure[]): void {
    this.#figures.push(...figures);
  }

  async end(): Promise<void> {
    const { measurements, disturbed } = this.quiet;
    if (disturbed > 0) this.note(`${disturbed} of ${measurements} measurements began while other processes kept the machine busy`);
    process.stdout.write(`\n${table(this.#figures, !this.#options.quick)}\n`);
    if (this.#options.json === undefined) return;
    const content = {
      benchmark: this.#name,
      machine: this.#machine,
      options: this.#options,
      notes: this.#notes,
      figures: this.#figures.map((figure) => ({ ...figure, value: shown(figure), met: isMet(figure) })),
    };
    await writeFile(this.#options.json, `${JSON.stringify(content, null, 2)}\n`);
  }
}

const shown = (figure: Figure): number => quantile(figure.samples, figure.q ?? 0.5);

function isMet(figure: Figure): boolean | null {
  if (!figure.target) return null;
  return 'atLeast' in figure.target ? shown(figure) >= figure.target.atLeast : shown(figure) <= figure.target.atMost;
}

function table(figures: readonly Figure[], judge: boolean): string {
  const rows = figures.map((figure) => {
    const format = (value: number) => value.toFixed(DIGITS[figure.unit]);
    const { target, samples } = figure;
    const goal = target ? ('atLeast' in target ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`) : '';
    const verdict = { true: 'met', false: 'MISSED', null: '' }[String(isMet(figure)) as 'true' | 'false' | 'null'];
    const judgement = judge ? verdict : '';
    const range = `${format(Math.min(...samples))}–${format(Math.max(...samples))}`;
    return [figure.name, format(shown(figure)), figure.unit, range, String(samples.length), goal, judgement];
  });
  const all = [['figure', 'value', 'unit', 'min–max', 'n', 'target', ''], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (row: string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
  return [line(all[0]!), `|${widths.map((w) => '-'.repeat(w + 2)).join('|')}|`, ...all.slice(1).map(line)].join('\n');
}
