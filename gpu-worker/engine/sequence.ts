/** One prompt being continued: its tokens, where it stands, and what turns its tokens into text. */
import type { EngineRequest } from '../../shared/contract/engine.ts';
import type { TextStream } from '../tokenizer/stream.ts';
import type { TextTokenizer } from '../tokenizer/tokenizer.ts';
import { Random } from './sampler.ts';
import { StopMatcher } from './stop.ts';

/** A request and the sequences that it still has. */
export interface Running {
  request: EngineRequest;
  /** Sequences not finished yet. */
  open: number;
  cancelled: boolean;
  usage: { promptTokens: number; cachedTokens: number; completionTokens: number };
}

export class Sequence {
  readonly of: Running;
  /** prompt index · n + choice */
  readonly index: number;
  readonly prompt: readonly number[];
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  /** Tokens whose keys and values are in the cache. */
  cached = 0;
  readonly maxTokens: number;
  readonly random: Random;
  readonly #text: TextStream | null;
  readonly #stop: StopMatcher;

  constructor(of: Running, index: number, seed: number, context: number, tokenizer: TextTokenizer | null) {
    const { prompts, n, sampling } = of.request;
    this.of = of;
    this.index = index;
    this.prompt = prompts[Math.floor(index / n)]!;
    this.tokens = [...this.prompt];
    this.maxTokens = Math.min(sampling.maxTokens ?? Number.POSITIVE_INFINITY, context - this.prompt.length);
    this.random = new Random(seed, index);
    this.#text = tokenizer?.stream() ?? null;
    this.#stop = new StopMatcher(sampling.stop);
  }

  /** Only the first choice of a prompt accounts for its prompt tokens. */
  get paysForPrompt(): boolean {
    return this.index % this.of.request.n === 0;
  }

  get prefilling(): boolean {
    return this.cached < this.prompt.length;
  }

  get generated(): number {
    return this.tokens.length - this.prompt.length;
  }

  /** Takes a generated token; returns the text that may be shown now. */
  push(token: number, shown: boolean): { text: string; hit: boolean } {
    this.tokens.push(token);
    return this.#stop.push(shown ? (this.#text?.push(token) ?? '') : '');
  }

  /** Text still held back when the sequence ends without a stop string. */
  flush(): string {
    const { text, hit } = this.#stop.push(this.#text?.flush() ?? '');
    return hit ? text : text + this.#stop.flush();
  }
}
