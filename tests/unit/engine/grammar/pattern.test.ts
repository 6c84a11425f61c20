/** Patterns: a string gets through exactly when JavaScript's own regular expression finds the pattern in it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readPattern } from '../../../../gpu-worker/engine/grammar/schema/pattern.ts';
import { SchemaProblem } from '../../../../gpu-worker/engine/grammar/schema/problem.ts';
import { accepts, toyCompiler } from './toy.ts';

const compiler = await toyCompiler();

const atom = fc.constantFrom(
  'a',
  'b',
  'c',
  'é',
  '😀',
  '"',
  '.',
  '[ab]',
  '[^a]',
  '[a-cé]',
  '\\d',
  '\\W',
  '\\\\',
  '\\n',
  '\\u0061',
  '[^\\s"]',
);
const quantifier = fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{1,2}', '{0,}', '+?');
const { whole } = fc.letrec<{ whole: string; part: string }>((tie) => ({
  part: fc.oneof(
    { maxDepth: 1 },
    atom,
    tie('whole').map((inner) => `(?:${inner})`),
    tie('whole').map((inner) => `(${inner})`),
  ),
  whole: fc
    .array(
      fc.array(fc.tuple(tie('part'), quantifier), { maxLength: 3 }).map((parts) => parts.map(([part, times]) => part + times).join('')),
      { minLength: 1, maxLength: 2 },
    )
    .map((options) => options.join('|')),
}));
const pattern = fc.oneof(
  whole,
  whole.map((inner) => `^(?:${inner})$`),
  fc
    .array(fc.tuple(fc.boolean(), atom, fc.boolean()), { minLength: 1, maxLength: 3 })
    .map((options) => options.map(([from, inner, to]) => (from ? '^' : '') + inner + (to ? '$' : '')).join('|')),
);
const text = fc
  .array(fc.constantFrom('a', 'b', 'c', 'é', '😀', '"', '\\', '7', '\n', ' ', 'z'), { maxLength: 6 })
  .map((chars) => chars.join(''));

test('what gets through is what the pattern is found in', { timeout: 120_000 }, async () => {
  const seen = { through: 0, held: 0 };
  await fc.assert(
    fc.asyncProperty(pattern, fc.array(text, { minLength: 12, maxLength: 12 }), async (source, texts) => {
      const regex = new RegExp(source, 'u');
      const grammar = await compiler
        .compile({ kind: 'json_schema', schema: JSON.stringify({ type: 'string', pattern: source }) })
        .catch((error: unknown) => {
          // Found anywhere and ambiguous, a pattern may need more states than are honoured.
          assert.ok(error instanceof SchemaProblem && /this large/.test(error.message), String(error));
          return null;
        });
      if (!grammar) return;
      for (const string of texts) {
        const found = regex.test(string);
        assert.equal(await accepts(compiler, grammar, JSON.stringify(string)), found, `${JSON.stringify(string)} and /${source}/u`);
        seen[found ? 'through' : 'held']++;
      }
      grammar.dispose();
    }),
    { numRuns: 80 },
  );
  assert.ok(seen.through > 100 && seen.held > 100, JSON.stringify(seen));
});

test('any text is a pattern that JavaScript takes too, or refused', () => {
  const pieces = fc.array(
    fc.constantFrom(
      'a',
      '(',
      ')',
      '[',
      ']',
      '{',
      '}',
      '*',
      '+',
      '?',
      '|',
      '^',
      '$',
      '\\',
      '-',
      ',',
      '1',
      '9',
      ':',
      '=',
      '<',
      '!',
      'd',
      'p',
      'u',
      '.',
    ),
    {
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(pieces, (chars) => {
      const source = chars.join('');
      try {
        readPattern(source);
      } catch (error) {
        assert.match(String(error), /is not supported$/);
        return;
      }
      assert.doesNotThrow(() => new RegExp(source, 'u'), source);
    }),
    { numRuns: 5000 },
  );
});
