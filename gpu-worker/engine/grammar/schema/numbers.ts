/**
 * Numbers within bounds, as patterns of their digits. A number is a whole one or has one to six decimals; with `places`
 * decimals it is an integer of that many more digits with a point in it, so integers are all there is to bound.
 */
import { either, type Pattern, range, readPattern, repeat, sequence, text } from './pattern.ts';
import type { Bound } from './shape.ts';

/** Digits of an unbounded integer: more would not survive JSON.parse, and small models repeat digits without end. */
const DIGITS = 15;
const PLACES = 6;
/** Bounds of numbers, so that digits and decimals together survive JSON.parse. */
export const NUMBER_LIMIT = 1e9;

export const ANY_INTEGER = readPattern(`^(?:0|-?[1-9][0-9]{0,${DIGITS - 1}})$`);
/** Exponents of one or two digits stay far from infinity. */
export const ANY_NUMBER = readPattern(String.raw`^-?(?:0|[1-9][0-9]{0,${DIGITS - 1}})(?:\.[0-9]{1,${DIGITS}})?(?:[eE][+-]?[0-9]{1,2})?$`);

export function integerBetween(least: number | null, most: number | null): Pattern {
  if (least === null && most === null) return ANY_INTEGER;
  const far = 10n ** BigInt(DIGITS) - 1n;
  const from = least === null ? -far : BigInt(least);
  const to = most === null ? far : BigInt(most);
  // One bound alone may lie beyond the usual digits.
  return signed(least === null && to < from ? to - far : from, most === null && to < from ? from + far : to, 0) ?? nothing();
}

/** null: no number that can be written lies between. */
export function numberBetween(least: Bound | null, most: Bound | null): Pattern | null {
  if (!least && !most) return ANY_NUMBER;
  const forms: Pattern[] = [];
  for (let places = 0; places <= PLACES; places++) {
    const from = least ? scaled(least, places, 'up') : -BigInt(NUMBER_LIMIT) * 10n ** BigInt(places);
    const to = most ? scaled(most, places, 'down') : BigInt(NUMBER_LIMIT) * 10n ** BigInt(places);
    const form = from <= to ? signed(from, to, places) : null;
    if (form) forms.push(form);
  }
  return forms.length > 0 ? either(forms) : null;
}

function nothing(): never {
  throw new Error('an integer range with nothing in it');
}

/** The bound times 10^places, rounded into the range. */
function scaled({ value, exclusive }: Bound, places: number, towards: 'up' | 'down'): bigint {
  const [whole, fraction] = decimalOf(Math.abs(value));
  const all = fraction.padEnd(places, '0');
  const cut = BigInt(whole + all.slice(0, places));
  const exactly = /^0*$/.test(all.slice(places));
  const floor = value < 0 ? (exactly ? -cut : -cut - 1n) : cut;
  const ceiling = exactly ? floor : floor + 1n;
  const step = exclusive && exactly ? 1n : 0n;
  return towards === 'up' ? ceiling + step : floor - step;
}

/** Digits before and after the point, as many as tell the number from its neighbours. */
function decimalOf(value: number): [whole: string, fraction: string] {
  const [digits = '0', exponent = '0'] = value.toString().split('e');
  const [whole = '0', fraction = ''] = digits.split('.');
  const shift = Number(exponent);
  if (shift >= 0) return [whole + fraction.padEnd(shift, '0').slice(0, shift), fraction.slice(shift)];
  const moved = whole.padStart(1 - shift, '0');
  return [moved.slice(0, shift), moved.slice(shift) + fraction];
}

function signed(from: bigint, to: bigint, places: number): Pattern | null {
  const forms: Pattern[] = [];
  if (from < 0n) {
    const negative = magnitudes(to < 0n ? -to : 1n, -from, places);
    if (negative) forms.push(sequence([text('-'), negative]));
  }
  if (to >= 0n) {
    const positive = magnitudes(from > 0n ? from : 0n, to, places);
    if (positive) forms.push(positive);
  }
  return forms.length > 0 ? either(forms) : null;
}

/** Non-negative integers from `from` to `to`, a point before the last `places` digits. */
function magnitudes(from: bigint, to: bigint, places: number): Pattern | null {
  if (from > to) return null;
  const forms: Pattern[] = [];
  for (let length = places + 1; length <= Math.max(String(to).length, places + 1); length++) {
    // Only numbers below one begin with 0.
    const shortest = length === places + 1 ? 0n : 10n ** BigInt(length - 1);
    const low = from > shortest ? from : shortest;
    const longest = 10n ** BigInt(length) - 1n;
    const high = to < longest ? to : longest;
    if (low <= high) forms.push(between(String(low).padStart(length, '0'), String(high).padStart(length, '0'), places));
  }
  return either(forms);
}

/** Numerals of one length, digit by digit. */
function between(low: string, high: string, places: number): Pattern {
  const rest = low.length - 1;
  const nines = '9'.repeat(rest);
  const zeros = '0'.repeat(rest);
  const [first, last] = [Number(low[0]), Number(high[0])];
  const form = (from: number, to: number, tail: Pattern[]) =>
    sequence([range(0x30 + from, 0x30 + to), ...(rest === places && places > 0 ? [text('.')] : []), ...tail]);
  if (rest === 0) return form(first, last, []);
  if (first === last) return form(first, first, [between(low.slice(1), high.slice(1), places)]);
  const whole = { from: low.slice(1) === zeros ? first : first + 1, to: high.slice(1) === nines ? last : last - 1 };
  const forms: Pattern[] = [];
  if (whole.from > first) forms.push(form(first, first, [between(low.slice(1), nines, places)]));
  if (whole.from <= whole.to) forms.push(form(whole.from, whole.to, anyDigits(rest, places)));
  if (whole.to < last) forms.push(form(last, last, [between(zeros, high.slice(1), places)]));
  return either(forms);
}

function anyDigits(length: number, places: number): Pattern[] {
  const digits = (count: number) => repeat(range(0x30, 0x39), count, count);
  if (length <= places || places === 0) return [digits(length)];
  return [digits(length - places), text('.'), digits(places)];
}
