/**
 * What main thread, engine thread and grammar thread say to each other. Grammars are compiled and matched in a thread of
 * their own, since compiling takes as long as several steps and what was compiled cannot be moved between threads. Masks
 * come back through shared memory, so that the engine can wait for one without returning to its event loop.
 */
import { createHash } from 'node:crypto';
import type { MessagePort } from 'node:worker_threads';
import type { Grammar } from '../../../shared/contract/engine.ts';

export interface GrammarThreadSettings {
  basePath: string;
  /** One word, 1 while the thread compiles. */
  busy: SharedArrayBuffer;
}

/** Main thread → grammar thread. */
export type ToGrammarThread = { type: 'engine'; port: MessagePort } | { type: 'compile'; call: number; key: string; grammar: Grammar };
/** Grammar thread → main thread. `error`: why the grammar cannot be compiled. */
export type FromGrammarThread = { call: number; error: string | null };

/** Engine thread → grammar thread. `state` numbers one sequence's place in its grammar. */
export type FromEngineThread =
  | { type: 'open'; state: number; key: string; grammar: Grammar; memory: SharedArrayBuffer }
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
export const SOME_ALLOWED = 0;
export const ALL_ALLOWED = 1;
export const REJECTED = 2;

export const maskWords = (vocabulary: number): number => Math.ceil(vocabulary / 32);

/** Equal for equal grammars. */
export const keyOf = (grammar: Grammar): string => createHash('sha256').update(JSON.stringify(grammar)).digest('hex');
