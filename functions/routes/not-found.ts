/** Tells an unknown route (404) from a known one under another method (405). */

interface Route {
  method: string;
  path: string;
}

/** Methods of the routes that match `path`. Middleware (method ALL) does not count. */
export function allowedMethods(routes: readonly Route[], path: string): string[] {
  const methods = routes.filter((r) => r.method !== 'ALL' && matches(r.path, path)).map((r) => r.method);
  return [...new Set(methods)].sort();
}

/** hono's patterns as used here: literal segments, `:name`, `:name{.+}` for the rest of the path. */
function matches(pattern: string, path: string): boolean {
  const [expected, given] = [pattern.split('/'), path.split('/')];
  for (const [i, segment] of expected.entries()) {
    if (given[i] === undefined) return false;
    if (segment.endsWith('{.+}')) return given[i] !== '';
    if (segment.startsWith(':') ? given[i] === '' : segment !== given[i]) return false;
  }
  return expected.length === given.length;
}
