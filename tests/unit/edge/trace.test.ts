/** W3C Trace Context: what is continued, and what begins a trace of its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSampled, traceOf } from '../../../shared/contract/trace.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const partsOf = (traceparent: string) => /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent)!.slice(1);

test('the trace goes on under another span with the same flags', () => {
  for (const flags of ['00', '01']) {
    const [trace, span, got] = partsOf(traceOf(`00-${TRACE}-${SPAN}-${flags}`));
    assert.deepEqual([trace, got], [TRACE, flags]);
    assert.notEqual(span, SPAN);
    assert.equal(isSampled(traceOf(`00-${TRACE}-${SPAN}-${flags}`)), flags === '01');
  }
});

test('a later version is read as far as this one is known', () => {
  assert.equal(partsOf(traceOf(`01-${TRACE}-${SPAN}-01-more`))[0], TRACE);
});

test('what is absent or malformed begins a new trace', () => {
  const bad = [null, undefined, '', 'x', `ff-${TRACE}-${SPAN}-01`, `00-${TRACE.toUpperCase()}-${SPAN}-01`, `00-${TRACE}-${SPAN}`];
  const zeros = [`00-${'0'.repeat(32)}-${SPAN}-01`, `00-${TRACE}-${'0'.repeat(16)}-01`];
  const traces = [...bad, ...zeros, `00-${TRACE}-${SPAN}-01x`].map((header) => partsOf(traceOf(header))[0]);
  assert.ok(!isSampled(traceOf(null)));
  assert.equal(new Set([...traces, TRACE]).size, traces.length + 1);
});
