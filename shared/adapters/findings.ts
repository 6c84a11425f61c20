/**
 * Refusals of an adapter package. Every text that comes out of a package is quoted and cut here,
 * so that a hostile name cannot grow or garble an error message.
 */
import { type AdapterFinding, Failure } from '../errors.ts';

/** One answer names at most this many findings; the message says how many there are. */
const MAX_FINDINGS = 32;
const MAX_QUOTED = 120;

/** Untrusted text as a JSON string of bounded length: control and bidirectional characters are escaped. */
export function quote(text: string): string {
  const cut = text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}… (${text.length} characters)` : text;
  return JSON.stringify(cut).replace(/[^\x20-\x7e…]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

export function rejected(findings: readonly AdapterFinding[]): Failure {
  const first = findings[0]?.message ?? 'no finding';
  const more = findings.length > 1 ? ` (and ${findings.length - 1} more)` : '';
  return new Failure({
    kind: 'adapter_rejected',
    message: `The adapter package was refused: ${first}${more}`,
    details: findings.slice(0, MAX_FINDINGS),
  });
}

/** A refusal with one finding. */
export const refusal = (code: AdapterFinding['code'], message: string, where: Omit<AdapterFinding, 'code' | 'message'> = {}): Failure =>
  rejected([{ code, message, ...where }]);

/** Runs `step`; the findings of a refusal join `findings` and the result is undefined. Anything else passes on. */
export function collect<T>(findings: AdapterFinding[], step: () => T): T | undefined {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof Failure) || error.value.kind !== 'adapter_rejected') throw error;
    findings.push(...error.value.details);
    return undefined;
  }
}
