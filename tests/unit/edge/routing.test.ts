/** 404 or 405: which methods a path knows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allowedMethods } from '../../../functions/routes/not-found.ts';

const ROUTES = [
  { method: 'ALL', path: '/*' },
  { method: 'GET', path: '/v1/adapters' },
  { method: 'POST', path: '/v1/adapters' },
  { method: 'DELETE', path: '/v1/adapters/:name' },
  { method: 'GET', path: '/v1/models/:id{.+}' },
];

test('methods of the routes that match, sorted, none for an unknown path', () => {
  const cases: [string, string[]][] = [
    ['/v1/adapters', ['GET', 'POST']],
    ['/v1/adapters/a', ['DELETE']],
    ['/v1/adapters/', []],
    ['/v1/adapters/a/b', []],
    ['/v1/models/org/name', ['GET']],
    ['/v1/models', []],
    ['/', []],
  ];
  for (const [path, expected] of cases) assert.deepEqual(allowedMethods(ROUTES, path), expected, path);
});
