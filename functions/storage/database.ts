/** The drizzle handle on D1, and the one SQLite error that callers tell apart. */
import { drizzle } from 'drizzle-orm/d1';
import type { Env } from '../env.ts';

export const database = (env: Env) => drizzle(env.DB);

/** True when a statement failed because the row exists already. */
export function isUniqueViolation(error: unknown): boolean {
  for (let e: unknown = error; e instanceof Error; e = e.cause) if (e.message.includes('UNIQUE constraint failed')) return true;
  return false;
}
