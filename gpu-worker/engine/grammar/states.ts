/** The engine thread's end of the grammar thread: opens a state for each sequence and waits for its masks. */
import type { MessagePort } from 'node:worker_threads';
import type { Grammar } from '../../../shared/contract/engine.ts';
import type { Allowed, GrammarState } from './mask.ts';
import { ALL_ALLOWED, ANSWERS, type FromEngineThread, keyOf, MASK, maskWords, REJECTED, SOME_ALLOWED, VERDICT } from './protocol.ts';

/** A mask takes some 20 µs, and is made while the step runs; longer waits mean that the thread had no core or compiles. */
const PATIENCE_MS = 20;
const GLANCE_MS = 1;

export class GrammarStates {
  readonly #port: MessagePort;
  readonly #busy: Int32Array;
  readonly #words: number;
  #last = 0;

  /** `busy`: as the grammar thread has it. `vocabulary`: rows of logits. */
  constructor(port: MessagePort, busy: SharedArrayBuffer, vocabulary: number) {
    this.#port = port;
    this.#busy = new Int32Array(busy);
    this.#words = maskWords(vocabulary);
  }

  /** At the grammar's beginning. The grammar must have been prepared by the main thread. */
  open(grammar: Grammar): GrammarState {
    const state = ++this.#last;
    const memory = new SharedArrayBuffer((MASK + this.#words) * Int32Array.BYTES_PER_ELEMENT);
    const words = new Int32Array(memory);
    const mask = words.subarray(MASK);
    const send = (message: FromEngineThread): void => this.#port.postMessage(message);
    let asked = 1;
    send({ type: 'open', state, key: keyOf(grammar), grammar, memory });
    return {
      allowed: (): Allowed => {
        if (!this.#answered(words, asked)) return { type: 'pending' };
        const verdict = words[VERDICT]!;
        switch (verdict) {
          case SOME_ALLOWED:
            return { type: 'some', mask };
          case ALL_ALLOWED:
            return { type: 'all' };
          case REJECTED:
            return { type: 'failed', message: 'the grammar does not allow what was generated' };
          default:
            throw new Error(`grammar: verdict ${verdict} is not known`);
        }
      },
      accept: (id) => {
        asked++;
        send({ type: 'accept', state, id });
      },
      close: () => send({ type: 'close', state }),
    };
  }

  #answered(words: Int32Array, asked: number): boolean {
    for (let waited = 0; ; waited += GLANCE_MS) {
      const answers = Atomics.load(words, ANSWERS);
      if (answers === asked) return true;
      if (waited >= PATIENCE_MS || Atomics.load(this.#busy, 0) === 1) return false;
      Atomics.wait(words, ANSWERS, answers, GLANCE_MS);
    }
  }
}
