/** Patterns of strings → patterns of the JSON text that stands for them. */
import { type CodePoints, either, type Pattern, repeat, sequence, text } from './pattern.ts';

/** What stands in JSON text as it is: no quote, backslash or control character, and no half of a pair. */
// biome-ignore format: a table
const UNESCAPED: CodePoints = [[0x20, 0x21], [0x23, 0x5b], [0x5d, 0xd7ff], [0xe000, 0x10ffff]];
const ESCAPED: readonly (readonly [code: number, text: string])[] = [
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [8, '\\b'],
  [9, '\\t'],
  [10, '\\n'],
  [12, '\\f'],
  [13, '\\r'],
];

/** Strings that match; those with control characters that have no short escape are left out. */
export function jsonString(pattern: Pattern): Pattern {
  return sequence([text('"'), written(pattern), text('"')]);
}

function written(pattern: Pattern): Pattern {
  switch (pattern.kind) {
    case 'chars':
      return writtenChars(pattern.points);
    case 'sequence':
      return sequence(pattern.parts.map(written));
    case 'either':
      return either(pattern.options.map(written));
    case 'repeat':
      return repeat(written(pattern.part), pattern.least, pattern.most);
    default:
      return pattern satisfies never;
  }
}

/** An alternative without any option, for characters that are not written: nothing matches it. */
function writtenChars(points: CodePoints): Pattern {
  const plain = points.flatMap(([from, to]) =>
    UNESCAPED.flatMap(([low, high]): [number, number][] => (from <= high && low <= to ? [[Math.max(from, low), Math.min(to, high)]] : [])),
  );
  const escapes = ESCAPED.filter(([code]) => points.some(([from, to]) => from <= code && code <= to));
  return either([...(plain.length > 0 ? [{ kind: 'chars', points: plain } as const] : []), ...escapes.map(([, chars]) => text(chars))]);
}

/** One character of a string, as it is or by its short escape. */
const CHAR = writtenChars([[0, 0x10ffff]]);
const HEX = {
  kind: 'chars',
  points: [
    [0x30, 0x39],
    [0x41, 0x46],
    [0x61, 0x66],
  ],
} as const satisfies Pattern;
const ANY_CHAR = either([CHAR, text('\\/'), sequence([text('\\u'), repeat(HEX, 4, 4)])]);

export const ANY_STRING = sequence([text('"'), repeat(ANY_CHAR, 0, null), text('"')]);

/** Strings by their length in characters. */
export const stringOfLength = (least: number, most: number | null): Pattern => sequence([text('"'), repeat(CHAR, least, most), text('"')]);
