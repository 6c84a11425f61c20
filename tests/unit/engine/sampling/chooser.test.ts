/** A sequence's choices: bias and penalties by their formulas, the grammar's mask over all of them, and logprobs untouched by any. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Allowed, GrammarState } from '../../../../gpu-worker/engine/grammar/mask.ts';
import { TokenChooser } from '../../../../gpu-worker/engine/sampling/chooser.ts';
import { draw } from '../../../../gpu-worker/engine/sampling/draw.ts';
import { tokenLogprob } from '../../../../gpu-worker/engine/sampling/order.ts';
import { Random } from '../../../../gpu-worker/engine/sampling/random.ts';
import type { SamplingOptions } from '../../../../shared/contract/engine.ts';
import { NEUTRAL_SAMPLING } from '../../../support/neutral.ts';

const VOCABULARY = 40;
const chooser = (options: Partial<SamplingOptions>, prompt: number[] = [], grammar: GrammarState | null = null) =>
  new TokenChooser({ ...NEUTRAL_SAMPLING, ...options }, prompt, grammar, new Random(options.seed ?? 1, 0));

function chosen(by: TokenChooser, logits: Float32Array): number {
  const choice = by.choose(logits);
  assert.ok(choice.type === 'token');
  return choice.id;
}

const id = fc.nat(VOCABULARY - 1);
const row = fc
  .array(fc.integer({ min: -640, max: 640 }), { minLength: VOCABULARY, maxLength: VOCABULARY })
  .map((x) => Float32Array.from(x, (v) => v / 64));
const eighths = (min: number, max: number) => fc.integer({ min: min * 8, max: max * 8 }).map((x) => x / 8);

/** What the formulas make of a row, in float64. */
function edited(logits: Float32Array, options: SamplingOptions, prompt: number[], generated: number[]): number[] {
  const out = [...logits];
  for (const [token, bias] of options.logitBias) out[token]! += bias;
  for (const token of new Set(options.repetitionPenalty === 1 ? [] : [...prompt, ...generated]))
    out[token] = out[token]! > 0 ? out[token]! / options.repetitionPenalty : out[token]! * options.repetitionPenalty;
  for (const token of new Set(generated))
    out[token]! -= generated.filter((other) => other === token).length * options.frequencyPenalty + options.presencePenalty;
  return out;
}

describe('bias and penalties', () => {
  test('follow their formulas over a whole answer', () => {
    const penalties = fc.record({
      frequencyPenalty: eighths(-2, 2),
      presencePenalty: eighths(-2, 2),
      repetitionPenalty: fc.constantFrom(0.5, 1, 1.25, 2),
      logitBias: fc.uniqueArray(fc.tuple(id, eighths(-5, 5)), { maxLength: 6, selector: ([token]) => token }),
    });
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 12 }), penalties, fc.array(id, { maxLength: 8 }), (rows, options, prompt) => {
        const by = chooser(options, prompt);
        const generated: number[] = [];
        for (const logits of rows) {
          const wanted = edited(logits, { ...NEUTRAL_SAMPLING, ...options }, prompt, generated);
          const taken = chosen(by, logits);
          assert.ok(
            wanted[taken]! >= Math.max(...wanted) - 1e-5,
            `took ${taken} with ${wanted[taken]}, the largest is ${Math.max(...wanted)}`,
          );
          generated.push(taken);
        }
      }),
    );
  });

  test('a bias of 100 forces a token, −100 bans it, drawn or not', () => {
    fc.assert(
      fc.property(row, id, fc.constantFrom(0, 1, 2), fc.nat(), (logits, token, temperature, seed) => {
        assert.equal(chosen(chooser({ temperature, seed, logitBias: [[token, 100]] }), logits), token);
        assert.notEqual(chosen(chooser({ temperature, seed, logitBias: [[token, -100]] }), logits), token);
      }),
    );
  });

  test('leave the row and its log-probabilities as the model gave them', () => {
    fc.assert(
      fc.property(row, id, (logits, token) => {
        const before = logits.slice();
        const choice = chooser({ logprobs: 3, logitBias: [[token, 100]], repetitionPenalty: 2 }, [1, 2]).choose(logits);
        assert.deepEqual(logits, before);
        assert.deepEqual(choice, { type: 'token', id: token, logprob: tokenLogprob(logits, token, 3) });
      }),
    );
  });

  test('without any of them a choice is the draw of the same seed', () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 5 }), fc.constantFrom(0, 0.7), fc.nat(), (rows, temperature, seed) => {
        const by = chooser({ temperature, seed });
        const random = new Random(seed, 0);
        for (const logits of rows) assert.equal(chosen(by, logits), draw(logits, { ...NEUTRAL_SAMPLING, temperature }, random));
      }),
    );
  });
});

/** Says what it is told to; remembers what it was told. */
function played(answers: Allowed[]): { state: GrammarState; accepted: number[] } {
  const accepted: number[] = [];
  return { accepted, state: { allowed: () => answers.shift()!, accept: (token) => void accepted.push(token), close: () => undefined } };
}

function maskOf(ids: Iterable<number>): Int32Array {
  const mask = new Int32Array(Math.ceil(VOCABULARY / 32));
  for (const token of ids) mask[token >> 5]! |= 1 << (token & 31);
  return mask;
}

describe('a grammar', () => {
  test('leaves only what it allows, whatever bias and temperature want', () => {
    fc.assert(
      fc.property(
        row,
        fc.uniqueArray(id, { minLength: 1 }),
        id,
        fc.constantFrom(0, 1, 2),
        fc.nat(),
        (logits, allowed, token, temperature, seed) => {
          const { state, accepted } = played([{ type: 'some', mask: maskOf(allowed) }]);
          const taken = chosen(chooser({ temperature, seed, logitBias: [[token, 100]] }, [], state), logits);
          assert.ok(allowed.includes(taken));
          assert.deepEqual(accepted, [taken]);
          if (allowed.includes(token)) assert.equal(taken, token);
          else if (temperature === 0) assert.equal(logits[taken], Math.max(...allowed.map((other) => logits[other]!)));
        },
      ),
    );
  });

  test('that is not there yet takes nothing: the next call draws what this one would have', () => {
    fc.assert(
      fc.property(row, fc.nat(), (logits, seed) => {
        const all = { type: 'some', mask: maskOf(Array.from({ length: VOCABULARY }, (_, i) => i)) } as const;
        const by = chooser({ temperature: 1, seed, frequencyPenalty: 1 }, [], played([{ type: 'pending' }, all]).state);
        assert.deepEqual(by.choose(logits), { type: 'pending' });
        assert.equal(chosen(by, logits), chosen(chooser({ temperature: 1, seed, frequencyPenalty: 1 }), logits));
      }),
    );
  });

  test('that leaves nothing or broke fails by name', () => {
    const logits = new Float32Array(VOCABULARY);
    const empty = chooser({}, [], played([{ type: 'some', mask: maskOf([]) }]).state).choose(logits);
    assert.ok(empty.type === 'failed' && /no token/.test(empty.message));
    const broken = chooser({}, [], played([{ type: 'failed', message: 'it broke' }]).state).choose(logits);
    assert.deepEqual(broken, { type: 'failed', message: 'it broke' });
  });
});
