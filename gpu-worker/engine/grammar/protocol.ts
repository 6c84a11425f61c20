/**
 * What main thread, engine thread and grammar threads say to each other. Grammars are compiled and matched in threads of
 * their own, since compiling can take as long as many steps, and what was compiled cannot be moved between threads. Masks
 * come back through shared memory, so that the engine can wait for one without returning to its event loop.
 */
import { createHash } from 'node:crypto';
import type { MessagePort } from 'node:worker_threads';
import type { Grammar } from '../../../shared/contract/engine.ts';
import type { Vocabulary } from './vocabulary.ts';

export interface GrammarThreadSettings {
  basePath: string;
  /** null: the thread reads it and tells it when it is ready. */
  vocabulary: Vocabulary | null;
}

/** Main thread → grammar thread. */
export type ToGrammarThread =
  | { type: 'compile'; call: number; grammar: Grammar }
  /** From here states are opened. */
  | { type: 'serve'; port: MessagePort }
  /** To there states of grammars go that this thread has not compiled. */
  | { type: 'pass on'; port: MessagePort };

/** `broken`: the library aborted, and the thread is of no use any more. */
export interface GrammarError {
  kind: 'invalid' | 'unsupported' | 'broken';
  message: string;
}
/** Grammar thread → main thread. */
export type FromGrammarThread =
  | { type: 'ready'; vocabulary: Vocabulary }
  | { type: 'compiled'; call: number; milliseconds: number; error: GrammarError | null };

/** Engine thread → grammar thread, and on to the next. `state` numbers one sequence's place in its grammar. */
export type ToStates =
  | { type: 'open'; state: number; grammar: Grammar; memory: SharedArrayBuffer }
  | { type: 'accept'; state: number; id: number }
  | { type: 'close'; state: number };

/**
 * A state's shared memory, in 32-bit words: [answers so far, verdict of the last one, mask …]. The thread writes only
 * between an `open` or `accept` and its answer, the engine reads only after it.
 */
export const ANSWERS = 0;
export const VERDICT = 1;
export const MASK = 2;
/** Verdicts. */
export const ALLOWED = 0;
export const REJECTED = 1;

export const maskWords = (vocabulary: number): number => Math.ceil(vocabulary / 32);

/** Equal for equal grammars. */
export const keyOf = (grammar: Grammar): string => createHash('sha256').update(JSON.stringify(grammar)).digest('base64');
