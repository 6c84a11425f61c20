/** The engine thread's end of the grammar threads: opens a state for each sequence and waits for its masks. */
import type { MessagePort } from 'node:worker_threads';
import type { Grammar } from '../../../shared/contract/engine.ts';
import type { Allowed, GrammarState } from './mask.ts';
import { ALLOWED, ANSWERS, MASK, maskWords, REJECTED, type ToStates, VERDICT } from './protocol.ts';

/** A mask is made while the step runs, in some 20 µs; what takes longer waits for a compilation, and is not waited for again. */
const PATIENCE_MS = 5;

export class GrammarStates {
  readonly #port: MessagePort;
  readonly #words: number;
  #last = 0;

  /** `port`: Grammars.port, moved to this thread. `vocabulary`: logits in a row. */
  constructor(port: MessagePort, vocabulary: number) {
    this.#port = port;
    this.#words = maskWords(vocabulary);
  }

  /** At the grammar's beginning. The main thread must have prepared the grammar. */
  open(grammar: Grammar): GrammarState {
    const state = ++this.#last;
    const memory = new SharedArrayBuffer((MASK + this.#words) * Int32Array.BYTES_PER_ELEMENT);
    const words = new Int32Array(memory);
    const mask = words.subarray(MASK);
    const send = (message: ToStates): void => this.#port.postMessage(message);
    let asked = 1;
    let late = false;
    send({ type: 'open', state, grammar, memory });
    return {
      allowed() {
        late = !answered(words, asked, late ? 0 : PATIENCE_MS);
        return late ? { type: 'pending' } : verdictOf(words[VERDICT]!, mask);
      },
      accept(id) {
        asked++;
        send({ type: 'accept', state, id });
      },
      close: () => send({ type: 'close', state }),
    };
  }
}

function answered(words: Int32Array, asked: number, patience: number): boolean {
  if (Atomics.load(words, ANSWERS) === asked) return true;
  if (patience === 0) return false;
  Atomics.wait(words, ANSWERS, asked - 1, patience);
  return Atomics.load(words, ANSWERS) === asked;
}

function verdictOf(verdict: number, mask: Int32Array): Allowed {
  switch (verdict) {
    case ALLOWED:
      return { type: 'some', mask };
    case REJECTED:
      return { type: 'failed', message: 'the grammar does not allow what was generated' };
    default:
      throw new Error(`grammar: verdict ${verdict} is not known`);
  }
}
