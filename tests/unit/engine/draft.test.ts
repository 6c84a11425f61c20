/** What is proposed to come next, and how much of it is worth checking. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Acceptance, LONGEST_DRAFT, PromptLookup } from '../../../gpu-worker/engine/draft.ts';

test('what followed the longest earlier agreement is proposed', () => {
  const lookup = (tokens: number[], most = 4) => new PromptLookup(tokens).draft(most);
  assert.deepEqual(lookup([1, 2, 3, 4, 5, 9, 1, 2]), [3, 4, 5, 9]);
  assert.deepEqual(lookup([7, 1, 2, 30, 31, 8, 1, 2, 40, 41, 7, 1, 2], 2), [30, 31], 'three agree there, two at the later place');
  assert.deepEqual(lookup([5, 1, 2, 30, 6, 1, 2, 40, 9, 1, 2], 1), [40], 'the later of equals');
  assert.deepEqual(lookup([1, 2, 3, 1]), [], 'one token is no agreement');
  assert.deepEqual(lookup([1, 2]), []);
  assert.deepEqual(lookup([4, 4, 4, 4, 4]), [4, 4, 4, 4]);
  assert.deepEqual(lookup([8, 1, 2, 3, 1, 2, 3, 1, 2, 3], 7), [1, 2, 3, 1, 2, 3, 1], 'a period goes on');
  assert.deepEqual(lookup([1, 2, 3, 9, 1, 2], 0), []);
});

test('a sequence that grows gives the drafts that its whole would give', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { maxLength: 60 }), fc.integer({ min: 1, max: LONGEST_DRAFT }), (all, most) => {
      const tokens: number[] = [];
      const growing = new PromptLookup(tokens);
      for (const token of all) {
        tokens.push(token);
        const draft = growing.draft(most);
        assert.deepEqual(draft, new PromptLookup([...tokens]).draft(most));
        if (draft.length === 0) continue;
        // It is what followed some earlier occurrence of the last two tokens, or the text's own period.
        const text = [...tokens, ...draft];
        const [a, b] = tokens.slice(-2);
        const places = tokens.slice(0, -2).flatMap((_, i) => (text[i] === a && text[i + 1] === b ? [i + 2] : []));
        assert.ok(places.some((at) => draft.every((token, i) => token === text[at + i])));
      }
    }),
    { numRuns: 300 },
  );
});

test('drafts grow where they are right, vanish where they are wrong or time is dear, and are tried again later', () => {
  const right = new Acceptance();
  const half = new Acceptance();
  const wrong = new Acceptance();
  for (let i = 0; i < 30; i++) {
    right.observe(4, 4);
    half.observe(4, 2);
    wrong.observe(4, 0);
  }
  assert.equal(right.length(0.2, 1), LONGEST_DRAFT);
  assert.equal(wrong.length(0.2, 1), 0);
  assert.equal(right.length(1, 1.1), 0, 'a checked token must bring more than the time it takes');
  assert.ok(half.length(0.2, 1) > 0 && half.length(0.2, 1) < LONGEST_DRAFT);
  assert.ok(half.length(0.5, 1) < half.length(0.1, 1));
  for (let i = 0; i < 300; i++) wrong.observe(0, 0);
  assert.ok(wrong.length(0.2, 1) > 0);
});
