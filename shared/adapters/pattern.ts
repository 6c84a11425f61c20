/**
 * Matching of module patterns in time linear in the text, whatever the pattern: PEFT configs bring
 * regular expressions from strangers, and a backtracking engine can be made to hang by one line.
 *
 * Thompson's construction: the tree becomes a program of states, and all states that a backtracking
 * matcher could try are advanced together, each at most once per character. Since callers ask only
 * whether there is a match, this gives Python's answer. A budget bounds the sum over all texts.
 */
import { type Assertion, type CharSet, PatternError, type PatternNode, parsePattern, WORD } from './pattern-syntax.ts';

type Instruction =
  | { op: 'set'; set: CharSet }
  | { op: 'split'; to: number }
  | { op: 'jump'; to: number }
  | { op: 'assert'; assertion: Assertion }
  /** The body follows and ends in `accept`; the rest of the pattern begins at `after`. */
  | { op: 'lookahead'; negated: boolean; after: number }
  | { op: 'accept' };

/** Tree nodes visited while compiling: bounds the program under nested repeats. */
const MAX_COMPILED = 10_000;

/** Steps left to all patterns of one package; an instruction tried at one character is one step. */
export interface StepBudget {
  steps: number;
}

export class Pattern {
  readonly #program: Instruction[] = [];
  readonly #budget: StepBudget;
  #compiled = 0;

  /** Throws PatternError. */
  constructor(source: string, budget: StepBudget) {
    this.#budget = budget;
    this.#compile(parsePattern(source));
    this.#program.push({ op: 'accept' });
  }

  /** Python's `re.fullmatch(pattern, text) is not None`. Throws PatternError when the budget is spent. */
  fullMatch(text: string): boolean {
    return this.#run(text, 0, 0, true, new Map());
  }

  /** Python's `re.match`: anchored at the start only. */
  prefixMatch(text: string): boolean {
    return this.#run(text, 0, 0, false, new Map());
  }

  #compile(node: PatternNode): void {
    if (++this.#compiled > MAX_COMPILED) throw new PatternError('too large once its repeats are written out');
    const program = this.#program;
    switch (node.kind) {
      case 'set':
        program.push({ op: 'set', set: node.set });
        return;
      case 'assert':
        program.push({ op: 'assert', assertion: node.assertion });
        return;
      case 'sequence':
        for (const part of node.parts) this.#compile(part);
        return;
      case 'choice': {
        const exits: { op: 'jump'; to: number }[] = [];
        for (const [i, option] of node.options.entries()) {
          if (i === node.options.length - 1) {
            this.#compile(option);
          } else {
            this.#optional(() => {
              this.#compile(option);
              const exit = { op: 'jump' as const, to: 0 };
              exits.push(exit);
              program.push(exit);
            });
          }
        }
        for (const exit of exits) exit.to = program.length;
        return;
      }
      case 'repeat': {
        for (let i = 0; i < node.min; i++) this.#compile(node.body);
        if (node.max === Number.POSITIVE_INFINITY) {
          const start = program.length;
          this.#optional(() => {
            this.#compile(node.body);
            program.push({ op: 'jump', to: start });
          });
        } else {
          // x{0,3} as x?x?x?: the same texts as (x(x(x)?)?)?, without the nesting.
          for (let i = node.min; i < node.max; i++) this.#optional(() => this.#compile(node.body));
        }
        return;
      }
      case 'lookahead': {
        const look = { op: 'lookahead' as const, negated: node.negated, after: 0 };
        program.push(look);
        this.#compile(node.body);
        program.push({ op: 'accept' });
        look.after = program.length;
        return;
      }
      default:
        node satisfies never;
    }
  }

  /** A split whose second branch goes past what `body` emits. */
  #optional(body: () => void): void {
    const split = { op: 'split' as const, to: 0 };
    this.#program.push(split);
    body();
    split.to = this.#program.length;
  }

  #run(text: string, pc: number, from: number, whole: boolean, looks: Map<number, boolean>): boolean {
    const program = this.#program;
    // Setting up a run costs time too, and a lookahead starts one at every character.
    this.#budget.steps -= program.length >> 4;
    /** At which position a state was last entered, so that it is entered once. */
    const entered = new Int32Array(program.length).fill(-1);
    let waiting = [pc];
    for (let at = from; waiting.length > 0; at++) {
      const stack = waiting;
      waiting = [];
      while (stack.length > 0) {
        const state = stack.pop()!;
        if (entered[state] === at) continue;
        entered[state] = at;
        if (--this.#budget.steps < 0) throw new PatternError('too expensive to match against the modules of the base');
        const instruction = program[state]!;
        switch (instruction.op) {
          case 'accept':
            if (!whole || at === text.length) return true;
            break;
          case 'set':
            if (at < text.length && contains(instruction.set, text.charCodeAt(at))) waiting.push(state + 1);
            break;
          case 'split':
            stack.push(state + 1, instruction.to);
            break;
          case 'jump':
            stack.push(instruction.to);
            break;
          case 'assert':
            if (holds(instruction.assertion, text, at)) stack.push(state + 1);
            break;
          case 'lookahead': {
            const key = state * (text.length + 1) + at;
            const found = looks.get(key) ?? this.#run(text, state + 1, at, false, looks);
            looks.set(key, found);
            if (found !== instruction.negated) stack.push(instruction.after);
            break;
          }
          default:
            instruction satisfies never;
        }
      }
    }
    return false;
  }
}

function contains({ negated, ranges }: CharSet, unit: number): boolean {
  return ranges.some(([low, high]) => unit >= low && unit <= high) !== negated;
}

const WORD_SET: CharSet = { negated: false, ranges: WORD };
const isWordAt = (text: string, at: number): boolean => at >= 0 && at < text.length && contains(WORD_SET, text.charCodeAt(at));

/** Module names hold no newline, so Python's `$` and `\Z` are one. */
function holds(assertion: Assertion, text: string, at: number): boolean {
  switch (assertion) {
    case 'start':
      return at === 0;
    case 'end':
      return at === text.length;
    case 'wordBoundary':
      return isWordAt(text, at - 1) !== isWordAt(text, at);
    case 'notWordBoundary':
      return isWordAt(text, at - 1) === isWordAt(text, at);
    default:
      return assertion satisfies never;
  }
}
