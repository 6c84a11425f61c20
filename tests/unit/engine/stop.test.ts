/** Stop strings end a text at the same place however it is cut into pieces, and nothing of one is ever shown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StopMatcher } from '../../../gpu-worker/engine/stop.ts';

/** The text before the stop string that is complete first; of those complete at one place, the longest. */
function naive(text: string, stops: readonly string[]): { text: string; hit: boolean } {
  for (let end = 1; end <= text.length; end++) {
    const matching = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (matching.length > 0) return { text: text.slice(0, end - Math.max(...matching.map((stop) => stop.length))), hit: true };
  }
  return { text, hit: false };
}

function feed(pieces: readonly string[], stops: readonly string[]): { shown: string[]; text: string; hit: boolean } {
  const matcher = new StopMatcher(stops);
  const shown: string[] = [];
  for (const piece of pieces) {
    const { text, hit } = matcher.push(piece);
    shown.push(text);
    if (hit) return { shown, text: shown.join(''), hit };
  }
  return { shown, text: shown.join('') + matcher.flush(), hit: false };
}

// Two letters make matches, near matches and overlaps common.
const letters = (options: { minLength?: number; maxLength: number }) =>
  fc.array(fc.constantFrom('a', 'b'), options).map((chars) => chars.join(''));
const stops = fc.array(letters({ minLength: 1, maxLength: 5 }), { maxLength: 4 });

test('any cutting gives what the whole text gives', () => {
  fc.assert(
    fc.property(fc.array(letters({ maxLength: 6 }), { maxLength: 12 }), stops, (pieces, stops) => {
      const { text, hit } = feed(pieces, stops);
      assert.deepEqual({ text, hit }, naive(pieces.join(''), stops));
    }),
    { numRuns: 2000 },
  );
});

test('what has been shown is never taken back, and no more is held than could become a stop string', () => {
  fc.assert(
    fc.property(fc.array(letters({ maxLength: 6 }), { maxLength: 12 }), stops, (pieces, stops) => {
      const { shown } = feed(pieces, stops);
      const { text } = naive(pieces.join(''), stops);
      let soFar = '';
      for (const [i, piece] of shown.entries()) {
        soFar += piece;
        assert.ok(text.startsWith(soFar));
        const held = pieces
          .slice(0, i + 1)
          .join('')
          .slice(soFar.length);
        const stopped = naive(pieces.slice(0, i + 1).join(''), stops).hit;
        if (!stopped) assert.ok(held === '' || stops.some((stop) => stop.length > held.length && stop.startsWith(held)), held);
      }
    }),
    { numRuns: 1000 },
  );
});

test('without stop strings text passes as it comes', () => {
  assert.deepEqual(feed(['a', '', 'bc'], []), { shown: ['a', '', 'bc'], text: 'abc', hit: false });
});
