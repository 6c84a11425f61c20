/** Whatever happens to a package on its way, sealing answers with a sealed adapter or with a refusal, and quickly. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { zipSync } from 'fflate';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import type { PackageFile } from '../../../shared/adapters/package-files.ts';
import { readSealed } from '../../../shared/adapters/sealed.ts';
import { findingsOf, packageFiles, tinyLlama } from './support.ts';

const base = tinyLlama();
const files = packageFiles('malformed/valid-control', ['expect.json']);
const [configFile, weightsFile] = ['adapter_config.json', 'adapter_model.safetensors'].map(
  (name) => files.find((file) => file.name === name)!,
);
const zip: PackageFile = { name: 'x.zip', bytes: zipSync(Object.fromEntries(files.map(({ name, bytes }) => [name, bytes]))) };

function assertAnswers(upload: readonly PackageFile[]): void {
  const start = performance.now();
  const findings = findingsOf(() => {
    const sealed = sealPackage(upload, base);
    const { targets } = readSealed(sealed.bytes);
    for (const { A, B } of targets.values()) assert.ok([...A, ...B].every(Number.isFinite));
  });
  assert.ok(findings === undefined || findings.length > 0);
  assert.ok(performance.now() - start < 1_000);
}

interface Mutation {
  at: number;
  drop: number;
  put: Uint8Array;
}
const mutation = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  drop: fc.nat(6),
  put: fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc
      .constantFrom(
        '"',
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '0',
        '9',
        '-1',
        '1e9',
        'null',
        'true',
        '.*',
        '(',
        ')*',
        '\\',
        '__proto__',
        'lora_A',
        '\u0000',
      )
      .map((text) => new TextEncoder().encode(text)),
  ),
});

function mutate(bytes: Uint8Array, mutations: readonly Mutation[], within: number): Uint8Array {
  return mutations.reduce((before, { at, drop, put }) => {
    const start = Math.floor(at * Math.min(within, before.length));
    return new Uint8Array(Buffer.concat([before.subarray(0, start), put, before.subarray(start + drop)]));
  }, bytes);
}

const some = fc.array(mutation, { minLength: 1, maxLength: 4 });

test('mutated configs', () => {
  fc.assert(
    fc.property(some, (mutations) =>
      assertAnswers([{ ...configFile!, bytes: mutate(configFile!.bytes, mutations, 1 << 20) }, weightsFile!]),
    ),
    { numRuns: 2000 },
  );
});

test('mutated weights: headers and values', () => {
  fc.assert(
    fc.property(some, fc.constantFrom(16, 600, 1 << 20), (mutations, within) =>
      assertAnswers([configFile!, { ...weightsFile!, bytes: mutate(weightsFile!.bytes, mutations, within) }]),
    ),
    { numRuns: 2000 },
  );
});

test('mutated archives', () => {
  fc.assert(
    fc.property(some, (mutations) => assertAnswers([{ ...zip, bytes: mutate(zip.bytes, mutations, 1 << 20) }])),
    { numRuns: 2000 },
  );
});

test('configs with any value in any field', () => {
  const config = JSON.parse(new TextDecoder().decode(configFile!.bytes)) as Record<string, unknown>;
  const pattern = fc.stringMatching(/^[a-z_.*+?()[\]{}|\\^$0-9,]{0,24}$/);
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    pattern,
    fc.dictionary(pattern, fc.oneof(fc.integer(), fc.double())),
    fc.array(pattern),
  );
  const field = fc.constantFrom(
    'r',
    'lora_alpha',
    'rank_pattern',
    'alpha_pattern',
    'target_modules',
    'exclude_modules',
    'layers_to_transform',
    'layers_pattern',
    'bias',
    'peft_type',
    'use_rslora',
    'x',
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(field, value), { minLength: 1, maxLength: 3 }), (changes) => {
      const changed = JSON.stringify({ ...config, ...Object.fromEntries(changes) });
      assertAnswers([{ ...configFile!, bytes: new TextEncoder().encode(changed) }, weightsFile!]);
    }),
    { numRuns: 2000 },
  );
});
