/** One prompt being continued: its tokens, what chooses the next ones, and what turns them into text. */
import type { EngineRequest, TokenLogprob } from '../../shared/contract/engine.ts';
import type { TextStream } from '../tokenizer/stream.ts';
import type { TextTokenizer } from '../tokenizer/tokenizer.ts';
import { Acceptance, PromptLookup } from './draft.ts';
import { Residency } from './residency.ts';
import type { TokenChooser } from './sampling/chooser.ts';
import type { Schedulable } from './scheduler.ts';
import { StopMatcher } from './stop.ts';

/** A request and the sequences that it still has. Times are milliseconds since the epoch. */
export interface Running {
  request: EngineRequest;
  /** First link of its pages' names (prefix-cache.ts). */
  scope: string;
  seed: number;
  submitted: number;
  /** When its first sequence was admitted, and got its first token. */
  begun: number | null;
  firstToken: number | null;
  /** Sequences not finished yet. */
  open: number;
  /** Why what is left of it ends now; null: it goes on. */
  ending: { outcome: 'cancelled' | 'failed' | 'expired'; error?: string } | null;
  usage: { promptTokens: number; cachedTokens: number; completionTokens: number };
  /** Logprobs of the prompts that were scored: choices of one prompt share them. */
  scores: Map<number, (TokenLogprob | null)[]>;
}

/** A number of tokens whose logits fit a step's memory. */
const SCORED_CHUNK = 128;

export class Sequence implements Schedulable {
  readonly of: Running;
  /** prompt index · n + choice */
  readonly index: number;
  readonly promptIndex: number;
  readonly prompt: readonly number[];
  /** Prompt and generated tokens. */
  readonly tokens: number[];
  readonly kv: Residency;
  readonly maxTokens: number;
  readonly lookup: PromptLookup;
  readonly acceptance = new Acceptance();
  /** Made when the sequence first runs. */
  chooser: TokenChooser | null = null;
  /** The prompt's tokens that were counted, found ones included. */
  counted = 0;
  /** Whether the prompt's end has been reached and, if asked for, told. */
  begun = false;
  /** Logprobs of the prompt as far as it is scored; null when nobody asks, or they are known already. */
  scoring: (TokenLogprob | null)[] | null = null;
  /** When prefill last advanced. */
  advanced = 0;
  readonly #text: TextStream | null;
  readonly #stop: StopMatcher;

  constructor(of: Running, index: number, context: number, tokenizer: TextTokenizer | null) {
    const { prompts, n, sampling } = of.request;
    this.of = of;
    this.index = index;
    this.promptIndex = Math.floor(index / n);
    this.prompt = prompts[this.promptIndex]!;
    this.tokens = [...this.prompt];
    this.kv = new Residency(this.tokens, of.scope);
    this.lookup = new PromptLookup(this.tokens);
    this.maxTokens = Math.min(sampling.maxTokens ?? Number.POSITIVE_INFINITY, context - this.prompt.length);
    this.#text = tokenizer?.stream() ?? null;
    this.#stop = new StopMatcher(sampling.stop);
  }

  get tenant(): string {
    return this.of.request.account.tenant;
  }

  get weight(): number {
    return this.of.request.tenantWeight;
  }

  get priority(): EngineRequest['priority'] {
    return this.of.request.priority;
  }

  get arrived(): number {
    return this.of.submitted;
  }

  /** Only the first choice of a prompt accounts for its prompt tokens. */
  get paysForPrompt(): boolean {
    return this.index % this.of.request.n === 0;
  }

  /** Tokens whose keys and values are still to be computed; the last one's logits give the next token. */
  get pending(): number {
    return this.tokens.length - this.kv.computed;
  }

  get prefilling(): boolean {
    return this.pending > 1 || !this.begun;
  }

  get generated(): number {
    return this.tokens.length - this.prompt.length;
  }

  /** Whether every token of the prompt has to be computed, for its logprobs. */
  get mustScore(): boolean {
    const { echo, logprobs } = this.of.request.sampling;
    return echo && logprobs !== null && !this.begun && !this.of.scores.has(this.promptIndex);
  }

  /** The most tokens of it that one step may compute. */
  get largestChunk(): number {
    return this.scoring ? SCORED_CHUNK : Number.POSITIVE_INFINITY;
  }

  /** Whether waiting for `other` to compute what both begin with saves work. */
  gainsFrom(other: Sequence): boolean {
    if (!other.prefilling || (other.priority === 'batch' && this.priority === 'interactive')) return false;
    if (this.mustScore) return other.of === this.of && other.promptIndex === this.promptIndex;
    return this.kv.couldShare(other.kv);
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
