/** What of a client's headers becomes a deadline. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { deadlineOf } from '../../../functions/upstream/deadline.ts';

const ARRIVED = 1_700_000_000_000;
const after = (headers: Record<string, string>) => {
  const deadline = deadlineOf(new Headers(headers), ARRIVED);
  return deadline === null ? null : deadline - ARRIVED;
};

test('a request is of use until its client gives up: whole seconds are rounded down by some clients', () => {
  assert.equal(after({ 'x-stainless-timeout': '600' }), 601_000);
  assert.equal(after({ 'x-stainless-read-timeout': '2.5' }), 3_000);
  assert.equal(after({ 'x-stainless-read-timeout': '0.05' }), 1_000);
  assert.equal(after({ 'x-stainless-timeout': '86400' }), 86_401_000);
});

test('the shorter of two timeouts counts', () => {
  assert.equal(after({ 'x-stainless-timeout': '60', 'x-stainless-read-timeout': '5.0' }), 6_000);
  assert.equal(after({ 'x-stainless-timeout': '0', 'x-stainless-read-timeout': '5' }), 6_000);
});

test('no timeout, none that is meant, and none that can be read: no deadline', () => {
  assert.equal(after({}), null);
  for (const value of ['0', '0.0', '', '-1', 'None', '1e3', 'Infinity', '5s', '5, 6', '0x10', '86401', '9'.repeat(400)])
    assert.equal(after({ 'x-stainless-timeout': value }), null, value);
});

test('whatever the header says, a deadline lies within a day after the request', () => {
  const value = fc.oneof(fc.double().map(String), fc.integer().map(String), fc.string({ unit: 'binary-ascii' }));
  fc.assert(
    fc.property(value, (text) => {
      // The value is checked as the platform hands it over: what no header may hold never arrives.
      const headers = { get: (name: string) => (name === 'x-stainless-timeout' ? text : null) } as Headers;
      const deadline = deadlineOf(headers, ARRIVED);
      assert.ok(deadline === null || (Number.isInteger(deadline) && deadline > ARRIVED && deadline <= ARRIVED + 86_401_000));
    }),
  );
});
