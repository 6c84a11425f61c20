/** The linear-time matcher against the platform's engine where both speak the same language, and against what Python says where not. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Pattern } from '../../../shared/adapters/pattern.ts';
import { PatternError } from '../../../shared/adapters/pattern-syntax.ts';

const pattern = (source: string, steps = 10_000_000) => new Pattern(source, { steps });
const fullMatch = (source: string, text: string) => pattern(source).fullMatch(text);

/** Small patterns over a, b and "."; short texts keep the backtracking oracle from blowing up. */
const { node: source } = fc.letrec<{ node: string; atom: string }>((tie) => ({
  atom: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('a', 'b', '.', '\\.', '\\w', '\\D', '[ab]', '[^a.]', '[a-c.]', '^', '$', '\\b', '\\B') },
    { weight: 2, arbitrary: tie('node').map((inner) => `(${inner})`) },
    { weight: 1, arbitrary: tie('node').map((inner) => `(?:${inner})`) },
    { weight: 1, arbitrary: tie('node').map((inner) => `(?=${inner})`) },
    { weight: 1, arbitrary: tie('node').map((inner) => `(?!${inner})`) },
  ),
  node: fc.oneof(
    { maxDepth: 3 },
    tie('atom'),
    fc.tuple(tie('atom'), tie('node')).map(([a, b]) => a + b),
    fc.tuple(tie('node'), tie('node')).map(([a, b]) => `${a}|${b}`),
    fc
      .tuple(tie('node'), fc.constantFrom('*', '+', '?', '*?', '+?', '{2}', '{1,2}', '{0,}', '{2,3}?'))
      .map(([inner, times]) => `(?:${inner})${times}`),
  ),
}));
const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '.', '_'), maxLength: 7 });

test('finds the matches that a backtracking engine finds', () => {
  fc.assert(
    fc.property(source, text, (expression, subject) => {
      assert.equal(fullMatch(expression, subject), new RegExp(`^(?:${expression})$`).test(subject), 'whole');
      assert.equal(pattern(expression).prefixMatch(subject), new RegExp(`^(?:${expression})`).test(subject), 'prefix');
    }),
    { numRuns: 3000 },
  );
});

describe("Python's own rules", () => {
  const cases: [string, string, boolean][] = [
    ['a{,2}', 'aa', true],
    ['a{,2}', 'aaa', false],
    ['a{x}', 'a{x}', true],
    ['[]a]+', ']a', true],
    ['(?P<part>q|v)_proj', 'q_proj', true],
    ['\\Aq\\Z', 'q', true],
    ['q\\x2ep', 'q.p', true],
    ['^(?!.*lm_head).*proj$', 'model.q_proj', true],
    ['^(?!.*lm_head).*proj$', 'lm_head.q_proj', false],
  ];
  for (const [expression, subject, expected] of cases) {
    test(`${expression} on ${subject}: ${expected}`, () => assert.equal(fullMatch(expression, subject), expected));
  }

  const refused = [
    '(q',
    'q)',
    '*q',
    'a**',
    '[q',
    '[z-a]',
    '[a-\\d]',
    'a{3,2}',
    '\\',
    '\\q',
    '(a)\\1',
    '(?P=x)',
    '(?<=a)b',
    '(?>a)',
    'a*+',
    '(?i)a',
  ];
  for (const expression of [...refused, 'a{2000}', '((a{900}){900}){900}', '(((){900}){900}){900}', '('.repeat(2000), 'a'.repeat(5000)]) {
    test(`${expression.slice(0, 30)} is refused`, () => assert.throws(() => pattern(expression), PatternError));
  }
});

test('patterns that make backtracking explode are answered within their budget', () => {
  const subject = `${'a'.repeat(200)}!`;
  for (const evil of ['(.*a){30}$', '((a|a|a)*)*', '(a*)*b', '(.*.*.*.*)*x', '(a?){100}a{100}', '(?=(a*)*b)*c', '(a|aa)+$']) {
    const start = performance.now();
    assert.equal(fullMatch(evil, subject), false, evil);
    assert.ok(performance.now() - start < 500, evil);
  }
});

test('a spent budget is an error, not an answer', () => {
  assert.throws(() => pattern('(a*)*b', 100).fullMatch('a'.repeat(200)), /too expensive/);
});
