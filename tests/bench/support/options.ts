/** Command lines of the benchmarks: what all of them take, and what one adds. */
import { type ParseArgsOptionDescriptor, parseArgs } from 'node:util';

const COMMON = {
  help: { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
  rounds: { type: 'string' },
  base: { type: 'string' },
  json: { type: 'string' },
} as const satisfies Record<string, ParseArgsOptionDescriptor>;

export const COMMON_HELP = `  --quick         one short round: shows that the benchmark runs, says nothing about speed
  --rounds N      measurements of each figure, every side in turn
  --base PATH     a GGUF file (default: SWITCHYARD_BASE, else SmolLM2-135M-Instruct, fetched if needed)
  --json FILE     write machine, options and every sample there
  --help
`;

export interface Options<Own extends string = string> {
  quick: boolean;
  rounds: number;
  base: string | undefined;
  json: string | undefined;
  /** The benchmark's own options; those left out have their defaults. */
  own: Record<Own, string>;
}

/** Reads process.argv; prints `help` and ends the process if that is asked for. `own`: names and defaults. */
export function readOptions<Own extends string>(help: string, rounds: number, own: Record<Own, string>): Options<Own> {
  const more = Object.fromEntries(Object.entries<string>(own).map(([name, value]) => [name, { type: 'string', default: value } as const]));
  const values: Record<string, unknown> = parseArgs({ options: { ...more, ...COMMON } }).values;
  if (values['help']) {
    process.stdout.write(`${help}\nOptions:\n${COMMON_HELP}`);
    process.exit(0);
  }
  const quick = values['quick'] === true;
  const text = (name: string) => values[name] as string | undefined;
  const asked = text('rounds');
  return {
    quick,
    rounds: asked === undefined ? (quick ? 1 : rounds) : positive('--rounds', asked),
    base: text('base'),
    json: text('json'),
    own: Object.fromEntries(Object.keys(own).map((name) => [name, values[name]])) as Record<Own, string>,
  };
}

function positive(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1) throw new Error(`${name}: expected a positive whole number, got ${value}`);
  return number;
}

/** A comma-separated list of names, each one of `known`. */
export function listOf<T extends string>(name: string, value: string, known: readonly T[]): T[] {
  return value.split(',').map((part) => {
    const found = known.find((candidate) => candidate === part.trim());
    if (found === undefined) throw new Error(`${name}: expected ${known.join(', ')}; got ${JSON.stringify(part)}`);
    return found;
  });
}
