/** Puts the caller on the context, and narrows it to the kind of caller that a route serves. */
import type { Context, MiddlewareHandler } from 'hono';
import { Failure } from '../../shared/errors.ts';
import { authenticate, type Principal } from '../auth/keys.ts';
import type { AppEnv } from '../env.ts';

export type TenantPrincipal = Extract<Principal, { kind: 'tenant' }>;

/** Any valid key. */
export const anyKey = (): MiddlewareHandler<AppEnv> =>
  async function anyKey(c, next) {
    c.set('principal', await authenticate(c.env, c.req.header('authorization'), Date.now()));
    await next();
  };

/** The administrator's key. */
export const adminKey = (): MiddlewareHandler<AppEnv> =>
  async function adminKey(c, next) {
    const principal = await authenticate(c.env, c.req.header('authorization'), Date.now());
    if (principal.kind !== 'admin') throw forbidden(c, 'admin');
    c.set('principal', principal);
    await next();
  };

/** The calling tenant. Throws Failure 'forbidden' for the administrator, who owns no adapters and no bill. */
export function tenantOf(c: Context<AppEnv>): TenantPrincipal {
  const principal = c.get('principal');
  if (principal.kind !== 'tenant') throw forbidden(c, 'tenant');
  return principal;
}

function forbidden(c: Context<AppEnv>, needed: Principal['kind']): Failure {
  const message = `${c.req.method} ${c.req.path} needs a key of kind "${needed}"; this key is of another kind.`;
  return new Failure({ kind: 'forbidden', message });
}
