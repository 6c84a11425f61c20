/** A schema that is wrong or not honoured; `message` says where and why. */
export class SchemaProblem extends Error {
  readonly kind: 'invalid' | 'unsupported';
  /** `at`: JSON pointer. */
  constructor(kind: 'invalid' | 'unsupported', at: string, what: string) {
    super(`schema${at}: ${what}`);
    this.kind = kind;
  }
}
