/**
 * Patterns → deterministic automata → rules of one step each ("state ::= [a-z] next | …").
 *
 * Deterministic, because the library merges alternatives that share beginnings and ends into more than they were; one
 * chain of rules from the first to the last step, because a token that runs past the end of a rule has to be tried
 * against what may follow, whenever a mask is made. A step is an ASCII character or, as long as the pattern does not tell
 * them apart, any other; else a byte of UTF-8, since the library's classes hold bytes.
 */
import type { Pattern } from './pattern.ts';
import { SchemaProblem } from './problem.ts';
import { ASCII_END, beyondAsciiAlike, byte, classOf, type StepRange, utf8Ranges, wholeSteps } from './steps.ts';

/** States of one automaton; each takes up to some hundredths of a second to compile. */
const MAX_STATES = 20_000;
const MAX_NODES = 100_000;

interface Node {
  /** Steps and where they lead. */
  edges: [from: number, to: number, target: number][];
  free: number[];
}

/** Thompson's construction (CACM 11(6), 1968). */
class Nondeterministic {
  readonly nodes: Node[] = [];
  /** Whether characters beyond ASCII are one step, or each its bytes. */
  readonly #together: boolean;

  constructor(together: boolean) {
    this.#together = together;
  }

  add(): number {
    if (this.nodes.length >= MAX_NODES) throw new SchemaProblem('unsupported', '', 'a pattern or length this large is not honoured');
    return this.nodes.push({ edges: [], free: [] }) - 1;
  }

  /** Adds what leads from `from` to the node that it returns. */
  append(pattern: Pattern, from: number): number {
    switch (pattern.kind) {
      case 'chars': {
        const to = this.add();
        for (const steps of this.#together ? wholeSteps(pattern.points) : utf8Ranges(pattern.points)) this.#steps(steps, from, to);
        return to;
      }
      case 'sequence':
        return pattern.parts.reduce((at, part) => this.append(part, at), from);
      case 'either': {
        const to = this.add();
        for (const option of pattern.options) this.nodes[this.append(option, from)]!.free.push(to);
        return to;
      }
      case 'repeat':
        return this.#repeat(pattern, from);
      default:
        return pattern satisfies never;
    }
  }

  #steps(ranges: readonly StepRange[], from: number, to: number): void {
    let at = from;
    for (const [i, [low, high]] of ranges.entries()) {
      const target = i === ranges.length - 1 ? to : this.add();
      this.nodes[at]!.edges.push([low, high, target]);
      at = target;
    }
  }

  #repeat({ part, least, most }: Extract<Pattern, { kind: 'repeat' }>, from: number): number {
    let at = from;
    for (let i = 0; i < least; i++) at = this.append(part, at);
    const end = this.add();
    if (most === null) {
      const loop = this.add();
      this.nodes[at]!.free.push(loop);
      this.nodes[this.append(part, loop)]!.free.push(loop);
      this.nodes[loop]!.free.push(end);
      return end;
    }
    this.nodes[at]!.free.push(end);
    for (let i = least; i < most; i++) {
      at = this.append(part, at);
      this.nodes[at]!.free.push(end);
    }
    return end;
  }

  /** Of the nodes and all that they lead to without a step, in order, those that make a difference: with steps of their own, or the end. */
  closure(nodes: Iterable<number>, end: number): number[] {
    const reached = new Set(nodes);
    for (const node of reached) for (const next of this.nodes[node]!.free) reached.add(next);
    return [...reached].filter((node) => node === end || this.nodes[node]!.edges.length > 0).sort((a, b) => a - b);
  }
}

/** Alternatives of one state: bytes and the state that follows. */
interface State {
  edges: Map<number, StepRange[]>;
  ends: boolean;
}

/** The rules of a pattern, the first of which is `name` itself. What can only go on in one way goes on in the same rule. */
export function rulesOf(pattern: Pattern, name: string): string[] {
  const states = usefulStates(deterministic(pattern));
  if (!states.has(0)) throw new SchemaProblem('invalid', '', 'a pattern that no text can match');
  const nameOf = (state: number) => (state === 0 ? name : `${name}_${state}`);
  const rules: string[] = [];
  // Grows while it is walked: states that have a rule of their own.
  const own = new Set([0]);
  for (const id of own) {
    const { edges, ends } = states.get(id)!;
    const forms = [...edges].map(([target, ranges]) => {
      const { text, at } = straightOn(states, target);
      const parts = [classOf(ranges), ...(text ? [`"${text}"`] : [])];
      if (at !== null) {
        own.add(at);
        parts.push(nameOf(at));
      }
      return parts.join(' ');
    });
    rules.push(`${nameOf(id)} ::= ${[...forms, ...(ends ? ['""'] : [])].join(' | ')}`);
  }
  return rules;
}

/** The only text from a state on, and the state after it; null: the end. */
function straightOn(states: ReadonlyMap<number, State>, from: number): { text: string; at: number | null } {
  let text = '';
  for (let at = from; ; ) {
    const { edges, ends } = states.get(at)!;
    const [only, ...others] = edges;
    if (!only) return { text, at: null };
    const [target, [range, ...ranges]] = only;
    const single = range![0] === range![1] && range![0] < ASCII_END && ranges.length === 0;
    if (ends || others.length > 0 || !single) return { text, at };
    text += byte(range![0]);
    at = target;
  }
}

function deterministic(pattern: Pattern): State[] {
  const nodes = new Nondeterministic(beyondAsciiAlike(pattern));
  const start = nodes.add();
  const end = nodes.append(pattern, start);
  const ids = new Map<string, number>();
  const sets: number[][] = [];
  const idOf = (set: number[]): number => {
    const key = set.join();
    const known = ids.get(key);
    if (known !== undefined) return known;
    if (sets.length >= MAX_STATES) throw new SchemaProblem('unsupported', '', 'a pattern or length this large is not honoured');
    ids.set(key, sets.length);
    return sets.push(set) - 1;
  };
  idOf(nodes.closure([start], end));
  const states: State[] = [];
  for (let i = 0; i < sets.length; i++) {
    const edges = new Map<number, StepRange[]>();
    const all = sets[i]!.flatMap((node) => nodes.nodes[node]!.edges);
    const cuts = [...new Set(all.flatMap(([from, to]) => [from, to + 1]))].sort((a, b) => a - b);
    for (const [c, low] of cuts.entries()) {
      const targets = all.flatMap(([from, to, target]) => (from <= low && low <= to ? [target] : []));
      if (targets.length === 0) continue;
      const id = idOf(nodes.closure(targets, end));
      const high = cuts[c + 1]! - 1;
      const ranges = edges.get(id) ?? [];
      const last = ranges.at(-1);
      if (last && last[1] === low - 1) last[1] = high;
      else edges.set(id, [...ranges, [low, high]]);
    }
    states.push({ edges, ends: sets[i]!.includes(end) });
  }
  return states;
}

/** Those from which an end can be reached. */
function usefulStates(states: readonly State[]): Map<number, State> {
  const useful = new Set([...states.keys()].filter((id) => states[id]!.ends));
  for (let before = -1; before < useful.size; ) {
    before = useful.size;
    for (let id = states.length - 1; id >= 0; id--) if ([...states[id]!.edges.keys()].some((target) => useful.has(target))) useful.add(id);
  }
  return new Map(
    [...useful]
      .sort((a, b) => a - b)
      .map((id) => [id, { ends: states[id]!.ends, edges: new Map([...states[id]!.edges].filter(([target]) => useful.has(target))) }]),
  );
}
