/** The alphabet of automata: what one step of a text is, and how the library's grammar writes a set of steps. */
import type { CodePoints, Pattern } from './pattern.ts';

/** Steps: bytes, and BEYOND for all characters beyond ASCII. */
export type StepRange = [low: number, high: number];
const BEYOND = 256;

export const byte = (value: number): string => `\\x${value.toString(16).padStart(2, '0')}`;
/** A lone byte is said twice: the library takes a class of one for a character, which it would spell in UTF-8. */
const bytesOf = (ranges: readonly StepRange[]): string =>
  ranges.map(([low, high]) => (low === high ? byte(low) + byte(low) : `${byte(low)}-${byte(high)}`)).join('');

/** Only a negated class holds characters beyond ASCII, all of them. */
export function classOf(ranges: readonly StepRange[]): string {
  if (ranges.at(-1)![1] < BEYOND) return `[${bytesOf(ranges)}]`;
  const others: StepRange[] = [];
  let next = 0;
  for (const [low, high] of ranges) {
    if (low > next && next < 0x80) others.push([next, Math.min(low, 0x80) - 1]);
    next = high + 1;
  }
  return `[^${bytesOf(others)}]`;
}

export const ASCII_END = 0x80;
/** Without halves of pairs, which stand in no text. */
// biome-ignore format: a table
const BEYOND_ASCII: CodePoints = [[0x80, 0xd7ff], [0xe000, 0x10ffff]];
const beyondAscii = (points: CodePoints): CodePoints => points.filter(([, to]) => to >= ASCII_END);

/** Whether every set of characters in the pattern holds all or none of those beyond ASCII. */
export function beyondAsciiAlike(pattern: Pattern): boolean {
  switch (pattern.kind) {
    case 'chars': {
      const beyond = beyondAscii(pattern.points);
      return beyond.length === 0 || BEYOND_ASCII.every(([low, high]) => beyond.some(([from, to]) => from <= low && high <= to));
    }
    case 'sequence':
      return pattern.parts.every(beyondAsciiAlike);
    case 'either':
      return pattern.options.every(beyondAsciiAlike);
    case 'repeat':
      return beyondAsciiAlike(pattern.part);
    default:
      return pattern satisfies never;
  }
}

export function wholeSteps(points: CodePoints): StepRange[][] {
  const ascii = points.filter(([from]) => from < ASCII_END).map(([from, to]): StepRange[] => [[from, Math.min(to, ASCII_END - 1)]]);
  return beyondAscii(points).length > 0 ? [...ascii, [[BEYOND, BEYOND]]] : ascii;
}

/** Where the number of bytes changes, and where halves of pairs are left out. */
// biome-ignore format: a table
const SAME_LENGTH: CodePoints = [[0, 0x7f], [0x80, 0x7ff], [0x800, 0xd7ff], [0xe000, 0xffff], [0x10000, 0x10ffff]];

export function utf8Ranges(points: CodePoints): StepRange[][] {
  return points.flatMap(([from, to]) =>
    SAME_LENGTH.flatMap(([low, high]) => (from <= high && low <= to ? split(Math.max(from, low), Math.min(to, high)) : [])),
  );
}

const utf8 = new TextEncoder();

/** Code points of one length as sequences of byte ranges: split where a last byte's range is not whole. */
function split(from: number, to: number): StepRange[][] {
  for (let bits = 6; bits <= 18 && from >= 0x80; bits += 6) {
    const low = (1 << bits) - 1;
    if (from >> bits === to >> bits) break;
    if ((from & low) !== 0) return [...split(from, from | low), ...split((from | low) + 1, to)];
    if ((to & low) !== low) return [...split(from, (to & ~low) - 1), ...split(to & ~low, to)];
  }
  const [first, last] = [from, to].map((point) => utf8.encode(String.fromCodePoint(point)));
  return [Array.from(first!, (low, i) => [low, last![i]!])];
}
