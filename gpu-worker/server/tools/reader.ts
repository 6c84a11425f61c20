/**
 * Parts a generated text into what is said and what is called, as it grows. Nothing that may still turn
 * out to be the opening of a call is let through, and the opening itself never is.
 */
import { randomId } from '../../../shared/ids.ts';
import { CallReader } from './call-reader.ts';
import type { ToolForm } from './form.ts';

/** What a piece of text added to one call. */
export interface CallDelta {
  /** Place among the answer's calls. */
  index: number;
  /** On the first delta of a call. */
  begins: { id: string; name: string } | null;
  arguments: string;
}

export interface ToolDelta {
  content: string;
  calls: CallDelta[];
}

const newCallId = (): string => `call_${randomId(24)}`;

/** Length of the longest end of `text` that begins `mark`. */
function overlap(text: string, mark: string): number {
  for (let n = Math.min(text.length, mark.length - 1); n > 0; n--) if (text.endsWith(mark.slice(0, n))) return n;
  return 0;
}

export class ToolReader {
  readonly #form: ToolForm;
  #state: 'text' | 'before a call' | 'call';
  #held = '';
  /** Since the opening, as long as it may turn out to be no call. */
  #raw = '';
  #call: CallReader | null = null;
  #announced = false;
  #calls = 0;
  #content = '';
  #deltas: CallDelta[] = [];

  /** `opened`: the prompt ends with the opening. */
  constructor(form: ToolForm, opened: boolean) {
    this.#form = form;
    this.#state = opened ? 'before a call' : 'text';
  }

  /** Whether anything was called so far. */
  get called(): boolean {
    return this.#calls > 0;
  }

  push(text: string): ToolDelta {
    this.#held += text;
    while (this.#advance());
    return this.#taken();
  }

  /** What was held back; the text has ended. A call that broke off before its name says nothing. */
  finish(): ToolDelta {
    if (this.#state === 'text' && !(this.called && this.#form.opening.startsWith(this.#held.trim()))) this.#content += this.#held;
    this.#held = '';
    return this.#taken();
  }

  #taken(): ToolDelta {
    const taken = { content: this.#content, calls: this.#deltas };
    this.#content = '';
    this.#deltas = [];
    return taken;
  }

  /** Reads on in `held`; false when more text is needed. */
  #advance(): boolean {
    switch (this.#state) {
      case 'text':
        return this.#readText();
      case 'before a call':
        return this.#readBetween();
      case 'call':
        return this.#readCall();
      default:
        return this.#state satisfies never;
    }
  }

  #readText(): boolean {
    const { opening, openingIsJson } = this.#form;
    const at = this.#held.indexOf(opening);
    if (at < 0) {
      // Space before an opening belongs to neither side.
      const open = this.#held.length - overlap(this.#held, opening);
      const keep = this.#held.slice(0, open).trimEnd().length;
      this.#content += this.#held.slice(0, keep);
      this.#held = this.#held.slice(keep);
      return false;
    }
    this.#content += this.#held.slice(0, at).trimEnd();
    this.#held = this.#held.slice(openingIsJson ? at : at + opening.length);
    this.#raw = openingIsJson ? '' : opening;
    this.#state = 'before a call';
    return true;
  }

  #readBetween(): boolean {
    const { closing } = this.#form;
    const rest = this.#held.replace(/^[\s[,;]+/, '');
    this.#raw += this.#held.slice(0, this.#held.length - rest.length);
    this.#held = rest;
    if (rest === '') return false;
    if (rest.startsWith('{')) {
      this.#call = new CallReader();
      this.#announced = false;
      this.#held = rest.slice(1);
      this.#state = 'call';
    } else if (closing !== '' && rest.startsWith(closing)) {
      this.#held = rest.slice(closing.length);
      this.#state = 'text';
    } else if (closing.startsWith(rest)) {
      return false;
    } else {
      this.#giveUp();
    }
    return true;
  }

  #readCall(): boolean {
    const call = this.#call!;
    let read = 0;
    while (read < this.#held.length && !call.done && !call.failed) call.take(this.#held[read++]!);
    this.#held = this.#held.slice(read);
    this.#report(call);
    if (call.failed) {
      this.#raw = this.#announced ? '' : this.#raw + call.raw;
      this.#giveUp();
    } else if (call.done) {
      this.#raw = '';
      this.#state = this.#form.openingIsJson ? 'text' : 'before a call';
    } else {
      return false;
    }
    return true;
  }

  #report(call: CallReader): void {
    if (call.name === null) return;
    const begins = this.#announced ? null : { id: newCallId(), name: call.name };
    if (begins) this.#calls++;
    this.#announced = true;
    const text = call.takeArguments();
    if (begins || text !== '') this.#deltas.push({ index: this.#calls - 1, begins, arguments: text });
  }

  /** It was no call after all: what came since the opening is text like any other. A name that was told stays told. */
  #giveUp(): void {
    this.#content += this.#raw;
    this.#raw = '';
    this.#state = 'text';
  }
}
