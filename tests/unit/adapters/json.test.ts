/** The strict JSON parser: JSON.parse's values on what both accept, and refusals where that is lenient. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isJsonObject, type JsonValue, parseJson } from '../../../shared/adapters/json.ts';
import { Failure } from '../../../shared/errors.ts';

const parse = (text: string | Uint8Array, maxDepth = 32): JsonValue =>
  parseJson(typeof text === 'string' ? new TextEncoder().encode(text) : text, {
    file: 'x.json',
    code: 'config',
    maxBytes: 1 << 20,
    maxDepth,
  });

/** Maps back to what JSON.parse gives. */
function plain(value: JsonValue): unknown {
  if (isJsonObject(value)) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

test('agrees with JSON.parse on what JSON.stringify writes', () => {
  fc.assert(
    fc.property(
      // Integers beyond 2^53 are refused on purpose.
      fc.json({ maxDepth: 6 }).filter((text) => !/\d{16}/.test(text)),
      fc.integer({ min: 0, max: 3 }),
      (text, indent) => {
        const parsed = JSON.parse(text) as unknown;
        assert.deepEqual(plain(parse(JSON.stringify(parsed, null, indent))), parsed);
      },
    ),
  );
});

test('accepts nothing that JSON.parse refuses', () => {
  const piece = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '"',
    '"a"',
    '\\',
    '\\u12',
    'tru',
    'true',
    '1',
    '-',
    '.5',
    '01',
    'e9',
    ' ',
    '\n',
    '\t',
    'NaN',
    '\u0001',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const text = pieces.join('');
      let value: JsonValue | undefined;
      try {
        value = parse(text);
      } catch (error) {
        assert.ok(error instanceof Failure);
        return;
      }
      assert.deepEqual(plain(value), JSON.parse(text));
    }),
    { numRuns: 3000 },
  );
});

test('refuses what is ambiguous, unbounded or not JSON', () => {
  const cases: [string | Uint8Array, RegExp][] = [
    ['{"a":1,"a":1}', /key "a" is given twice/],
    ['{"a":1,"\\u0061":1}', /key "a" is given twice/],
    ['[1e400]', /does not fit a double/],
    ['[9007199254740993]', /does not fit a double/],
    ['[NaN]', /expected a value/],
    ['[-Infinity]', /expected a value/],
    ['\ufeff{}', /expected a value/],
    ['{}x', /expected the end/],
    ['', /the end of the file/],
    ['[1,]', /expected a value/],
    [Uint8Array.of(0x22, 0xff, 0x22), /not valid UTF-8/],
    [`${'['.repeat(40)}${']'.repeat(40)}`, /nested deeper than 32/],
    [' '.repeat((1 << 20) + 1), /too large/],
  ];
  for (const [text, message] of cases) assert.throws(() => parse(text), message);
});

test('a hundred thousand open brackets cost nothing', () => {
  assert.throws(() => parse('{"a":'.repeat(100_000)), /nested deeper/);
});

test('keys keep their order and cannot reach a prototype', () => {
  const value = parse('{"2":1,"1":2,"__proto__":{"x":1}}');
  assert.ok(isJsonObject(value));
  assert.deepEqual([...value.keys()], ['2', '1', '__proto__']);
  assert.equal(({} as Record<string, unknown>)['x'], undefined);
});
