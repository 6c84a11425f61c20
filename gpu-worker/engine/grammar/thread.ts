/**
 * A grammar thread: compiles grammars and follows sequences through them. Each state's mask is made as soon as its token
 * is known, while the engine computes the next logits.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { CompiledGrammar, GrammarMatcher } from '@mlc-ai/web-xgrammar';
import type { Grammar } from '../../../shared/contract/engine.ts';
import { Compiler } from './compiler.ts';
import {
  ALLOWED,
  ANSWERS,
  type FromGrammarThread,
  type GrammarError,
  type GrammarThreadSettings,
  keyOf,
  MASK,
  REJECTED,
  type ToGrammarThread,
  type ToStates,
  VERDICT,
} from './protocol.ts';
import { SchemaProblem } from './schema/problem.ts';
import { readVocabulary } from './vocabulary.ts';

/** Compiled grammars kept; one of JSON Schema takes some hundred kilobytes. */
const KEPT = 64;

interface Compiled {
  grammar: CompiledGrammar;
  /** Matchers whose sequence has ended. */
  idle: GrammarMatcher[];
  dropped: boolean;
}

interface State {
  of: Compiled;
  matcher: GrammarMatcher;
  words: Int32Array;
}

if (!parentPort) throw new Error('engine/grammar/thread.ts runs as a worker thread only');
const main = parentPort;
const settings = workerData as GrammarThreadSettings;
const vocabulary = settings.vocabulary ?? (await readVocabulary(settings.basePath));
const compiler = await Compiler.create(vocabulary);

/** Least recently used first. */
const kept = new Map<string, Compiled>();
const states = new Map<number, State>();
let next: MessagePort | null = null;
/** What takes the library's promises is done one message after the other. */
let queue = Promise.resolve();
const inTurn = (work: () => Promise<void>): void => {
  queue = queue.then(work);
};
const tell = (message: FromGrammarThread): void => main.postMessage(message);

main.on('message', (message: ToGrammarThread) => {
  switch (message.type) {
    case 'compile':
      inTurn(() => compile(message.call, message.grammar));
      break;
    case 'serve':
      message.port.on('message', (request: ToStates) => inTurn(() => serve(request)));
      break;
    case 'pass on':
      next = message.port;
      break;
    default:
      message satisfies never;
  }
});
tell({ type: 'ready', vocabulary });

async function compile(call: number, grammar: Grammar): Promise<void> {
  const began = performance.now();
  const error = await compiledOf(grammar).then(() => null, errorOf);
  tell({ type: 'compiled', call, milliseconds: performance.now() - began, error });
}

function errorOf(error: unknown): GrammarError {
  if (error instanceof SchemaProblem) return { kind: error.kind, message: error.message };
  return { kind: 'broken', message: error instanceof Error ? error.message : String(error) };
}

async function compiledOf(grammar: Grammar): Promise<Compiled> {
  const key = keyOf(grammar);
  const compiled = kept.get(key) ?? { grammar: await compiler.compile(grammar), idle: [], dropped: false };
  kept.delete(key);
  kept.set(key, compiled);
  const [oldest] = kept.keys();
  if (kept.size > KEPT) drop(oldest!);
  return compiled;
}

/** Matchers in use keep what they need. */
function drop(key: string): void {
  const compiled = kept.get(key)!;
  kept.delete(key);
  compiled.dropped = true;
  for (const matcher of compiled.idle) matcher.dispose();
  compiled.grammar.dispose();
}

async function serve(request: ToStates): Promise<void> {
  if (request.type === 'open') {
    // The last thread compiles what it must; before it only what was compiled already is served.
    if (next && !kept.has(keyOf(request.grammar))) next.postMessage(request);
    else await open(request.state, request.grammar, new Int32Array(request.memory));
    return;
  }
  const state = states.get(request.state);
  if (!state) next?.postMessage(request);
  else if (request.type === 'accept') await accept(state, request.id);
  else close(request.state, state);
}

async function open(id: number, grammar: Grammar, words: Int32Array): Promise<void> {
  const of = await compiledOf(grammar);
  const matcher = of.idle.pop() ?? (await compiler.matcher(of.grammar));
  const state = { of, matcher, words };
  states.set(id, state);
  await answer(state);
}

async function accept(state: State, id: number): Promise<void> {
  if (state.matcher.acceptToken(id)) return await answer(state);
  conclude(state.words, REJECTED);
}

async function answer({ matcher, words }: State): Promise<void> {
  // The end of the text was accepted: nothing follows.
  if (matcher.isTerminated()) return conclude(words, REJECTED);
  const mask = await matcher.getNextTokenBitmask();
  words.set(mask, MASK);
  conclude(words, ALLOWED);
}

function conclude(words: Int32Array, verdict: number): void {
  words[VERDICT] = verdict;
  Atomics.add(words, ANSWERS, 1);
  Atomics.notify(words, ANSWERS);
}

function close(id: number, { of, matcher }: State): void {
  states.delete(id);
  if (of.dropped) {
    matcher.dispose();
  } else {
    matcher.reset();
    of.idle.push(matcher);
  }
}
