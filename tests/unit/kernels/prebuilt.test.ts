/** The committed libraries are those of the sources beside them, for every platform, and run on old systems. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { prebuilt, sourcesDigest, targets } from '../../../gpu-worker/kernels/sources.ts';

const OLDEST_GLIBC = [2, 17];

for (const target of Object.keys(targets)) {
  test(`${target}: built from the sources in the tree (else run gpu-worker/kernels/build.ts)`, () => {
    assert.ok(readFileSync(prebuilt(target)).includes(sourcesDigest()));
  });
}

for (const target of Object.keys(targets).filter((name) => name.startsWith('linux'))) {
  test(`${target}: asks for no newer C library than ${OLDEST_GLIBC.join('.')}`, () => {
    const versions = [...readFileSync(prebuilt(target), 'latin1').matchAll(/GLIBC_(\d+)\.(\d+)/g)].map(([, a, b]) => [
      Number(a),
      Number(b),
    ]);
    assert.ok(versions.length > 0);
    for (const version of versions) assert.ok(version[0] === OLDEST_GLIBC[0] && version[1]! <= OLDEST_GLIBC[1]!, version.join('.'));
  });
}
