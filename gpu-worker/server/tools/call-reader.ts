/**
 * One call's JSON object, read character by character as it is generated: the name as soon as it is
 * whole, the arguments as they come, untouched.
 */
type Phase = 'key' | 'in key' | 'colon' | 'value' | 'in value' | 'next' | 'done' | 'failed';

const ARGUMENT_KEYS = ['arguments', 'parameters'];
const isSpace = (char: string): boolean => char === ' ' || char === '\n' || char === '\t' || char === '\r';

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

export class CallReader {
  name: string | null = null;
  /** Everything read so far. */
  raw = '{';
  #phase: Phase = 'key';
  #key = '';
  /** The key or value being read. */
  #token = '';
  #depth = 0;
  #inString = false;
  #escaped = false;
  #arguments = '';
  #hasArguments = false;

  get done(): boolean {
    return this.#phase === 'done';
  }

  /** What came is not a call. */
  get failed(): boolean {
    return this.#phase === 'failed';
  }

  /** Text of the arguments that came since; none before the name is known. */
  takeArguments(): string {
    if (this.name === null) return '';
    const text = this.#arguments;
    this.#arguments = '';
    return text;
  }

  /** Takes the character after those taken before, the first of them after the opening brace. */
  take(char: string): void {
    this.raw += char;
    this.#take(char);
  }

  #take(char: string): void {
    switch (this.#phase) {
      case 'key':
        if (isSpace(char)) return;
        if (char === '"') this.#begin('in key', char);
        else this.#phase = char === '}' ? this.#end() : 'failed';
        return;
      case 'in key':
        this.#token += char;
        if (this.#ended(char)) {
          const key = parsed(this.#token);
          this.#key = typeof key === 'string' ? key : '';
          this.#phase = 'colon';
        }
        return;
      case 'colon':
        if (!isSpace(char)) this.#phase = char === ':' ? 'value' : 'failed';
        return;
      case 'value':
        if (isSpace(char)) return;
        if (char === ',' || char === '}') this.#phase = 'failed';
        else this.#begin('in value', char);
        return;
      case 'in value':
        this.#inValue(char);
        return;
      case 'next':
        if (isSpace(char)) return;
        if (char === ',') this.#phase = 'key';
        else this.#phase = char === '}' ? this.#end() : 'failed';
        return;
      case 'done':
      case 'failed':
        return;
      default:
        this.#phase satisfies never;
    }
  }

  #begin(phase: 'in key' | 'in value', char: string): void {
    this.#phase = phase;
    this.#token = char;
    this.#depth = 0;
    this.#escaped = false;
    this.#inString = char === '"';
    if (char === '{' || char === '[') this.#depth = 1;
    if (this.#streams) this.#arguments += char;
  }

  /** Arguments that are an object pass through as they come; anything else is looked at whole. */
  get #streams(): boolean {
    return this.#phase === 'in value' && this.#token.startsWith('{') && ARGUMENT_KEYS.includes(this.#key);
  }

  #inValue(char: string): void {
    const isScalar = this.#depth === 0 && !this.#inString;
    if (isScalar && (char === ',' || char === '}' || isSpace(char))) {
      this.#value();
      if (!this.failed) this.#take(char);
      return;
    }
    if (this.#streams) this.#arguments += char;
    else this.#token += char;
    if (this.#ended(char)) this.#value();
  }

  /** Whether this character ends the string, object or array that is being read. */
  #ended(char: string): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (char === '\\') this.#escaped = true;
      else if (char === '"') this.#inString = false;
      return !this.#inString && this.#depth === 0;
    }
    if (char === '"') this.#inString = true;
    else if (char === '{' || char === '[') this.#depth++;
    else if (char === '}' || char === ']') return --this.#depth === 0;
    return false;
  }

  #value(): void {
    const streamed = this.#streams;
    this.#phase = 'next';
    if (ARGUMENT_KEYS.includes(this.#key)) {
      if (!streamed) this.#arguments += asObjectText(this.#token);
      this.#hasArguments = streamed || this.#arguments !== '';
    } else if (this.#key === 'name') {
      const name = parsed(this.#token);
      if (typeof name === 'string') this.name = name;
      else this.#phase = 'failed';
    }
  }

  #end(): Phase {
    if (this.name === null) return 'failed';
    if (!this.#hasArguments) this.#arguments = '{}';
    return 'done';
  }
}

/** Some models write the arguments as text of an object; null stands for none. */
function asObjectText(json: string): string {
  const value = parsed(json);
  if (typeof value === 'string') return value;
  return value === null ? '' : json;
}
