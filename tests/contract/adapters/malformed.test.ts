/** 97 broken or hostile packages: verdict and code as expected, fast, without allocating what they claim. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { readSealed } from '../../../shared/adapters/sealed.ts';
import { findingsOf, fixture, packageFiles, tinyLlama } from './support.ts';

interface Expectation {
  verdict: 'accept' | 'reject' | 'either';
  code: string;
  reason: string;
}

const base = tinyLlama();
const MAX_MILLISECONDS = 1_000;
/** Above the 50 MB that the bombs would unpack to, the runtime's own noise is far below. */
const MAX_GROWTH_BYTES = 40 << 20;

describe('malformed packages', () => {
  const names = readdirSync(fixture('malformed')).filter((name) => name !== 'upload-names');
  assert.equal(names.length, 96);
  for (const name of names) {
    const expected = JSON.parse(readFileSync(fixture(`malformed/${name}/expect.json`), 'utf8')) as Expectation;
    test(`${name}: ${expected.verdict} (${expected.reason})`, () => {
      const files = packageFiles(`malformed/${name}`, ['expect.json']);
      const memory = process.memoryUsage();
      const start = performance.now();
      const findings = findingsOf(() => sealPackage(files, base));
      const elapsed = performance.now() - start;
      const after = process.memoryUsage();
      assert.ok(elapsed < MAX_MILLISECONDS, `took ${elapsed} ms`);
      const growth = after.heapUsed + after.arrayBuffers - memory.heapUsed - memory.arrayBuffers;
      assert.ok(growth < MAX_GROWTH_BYTES, `memory grew by ${growth} bytes`);
      if (expected.verdict === 'accept') assert.equal(findings, undefined);
      if (expected.verdict === 'reject') assert.ok(findings, 'was accepted');
      if (findings) assert.equal(findings[0]?.code, expected.code, JSON.stringify(findings));
      assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
    });
  }
});

test('upload names that could escape, hide or confuse are refused', () => {
  const names = JSON.parse(readFileSync(fixture('malformed/upload-names/names.json'), 'utf8')) as string[];
  const good = packageFiles('malformed/valid-control', ['expect.json']);
  for (const name of names) {
    const findings = findingsOf(() => sealPackage([...good, { name, bytes: new Uint8Array(1) }], base));
    assert.equal(findings?.[0]?.code, 'files', JSON.stringify(name));
  }
});

test('the valid control seals to factors of the right shape', () => {
  const { bytes, digest, card } = sealPackage(packageFiles('malformed/valid-control', ['expect.json']), base);
  assert.match(digest, /^[0-9a-f]{64}$/);
  const sealed = readSealed(bytes);
  assert.equal(sealed.baseRevision, base.revision);
  assert.equal(sealed.rank, 4);
  assert.deepEqual(
    [...sealed.targets].map(([module, { A, B }]) => [module, A.length, B.length]),
    [
      ['model.layers.0.self_attn.q_proj', 4 * 64, 64 * 4],
      ['model.layers.0.self_attn.v_proj', 4 * 64, 32 * 4],
    ],
  );
  assert.equal(card.targets[0]?.scale, 2);
});
