/**
 * The token under which edge and worker speak to each other: a JWT (HS256, RFC 7519) over a shared
 * secret, valid for seconds, bound to method, path and the body's SHA-256, usable once.
 */
import { jwtVerify, SignJWT } from 'jose';
import { Failure } from '../errors.ts';
import { randomId } from '../ids.ts';

export type Party = 'edge' | 'worker';

const LIFETIME_SECONDS = 30;

export interface SignedCall {
  method: string;
  /** Path and query, without the origin. */
  path: string;
  body: Uint8Array;
}

async function sha256hex(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (b) => b.toString(16).padStart(2, '0')).join('');
}

/** Value for the `authorization` header of one call from `from` to `to`. */
export async function signCall(secret: string, from: Party, to: Party, call: SignedCall): Promise<string> {
  const token = await new SignJWT({ htm: call.method, htp: call.path, bh: await sha256hex(call.body) })
    .setProtectedHeader({ alg: 'HS256' })
    .setIssuer(from)
    .setAudience(to)
    .setJti(randomId(20))
    .setIssuedAt()
    .setExpirationTime(`${LIFETIME_SECONDS}s`)
    .sign(new TextEncoder().encode(secret));
  return `Bearer ${token}`;
}

/** Remembers token ids until they expire, so that a captured call cannot be sent again. */
export class ReplayGuard {
  #seen = new Map<string, number>();
  /** True when `jti` is new. `expires` in seconds since the epoch. */
  admit(jti: string, expires: number, now = Date.now() / 1000): boolean {
    if (this.#seen.has(jti)) return false;
    this.#seen.set(jti, expires);
    // Insertion order is close to expiry order: all tokens live equally long.
    for (const [id, exp] of this.#seen) {
      if (exp >= now - LIFETIME_SECONDS) break;
      this.#seen.delete(id);
    }
    return true;
  }
}

/** Throws Failure 'unauthenticated' unless `authorization` was made for exactly this call. */
export async function verifyCall(
  secret: string,
  from: Party,
  to: Party,
  call: SignedCall,
  authorization: string | null | undefined,
  guard: ReplayGuard,
): Promise<void> {
  const refuse = (why: string) => new Failure({ kind: 'unauthenticated', message: `${call.method} ${call.path}: ${why}` });
  if (!authorization?.startsWith('Bearer ')) throw refuse(`expected a token signed by the ${from}, got none`);
  const { payload } = await jwtVerify(authorization.slice(7), new TextEncoder().encode(secret), {
    algorithms: ['HS256'],
    issuer: from,
    audience: to,
    clockTolerance: 5,
  }).catch((cause: unknown) => {
    throw refuse(`the token is not valid: ${cause instanceof Error ? cause.message : String(cause)}`);
  });
  if (payload['htm'] !== call.method || payload['htp'] !== call.path) throw refuse('the token was made for another call');
  if (payload['bh'] !== (await sha256hex(call.body))) throw refuse('the token was made for another body');
  if (!payload.jti || !payload.exp || !guard.admit(payload.jti, payload.exp)) throw refuse('the token was used before');
}
