/**
 * Real PEFT packages: what is honoured must give PEFT's own weight deltas, what is not must be
 * refused by a message that names the feature.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { sealPackage } from '../../../gpu-worker/peft/seal.ts';
import { decodeFloats } from '../../../shared/adapters/floats.ts';
import { readSafetensors, writeSafetensors } from '../../../shared/adapters/safetensors.ts';
import { readSealed, type SealedAdapter } from '../../../shared/adapters/sealed.ts';
import { findingsOf, fixture, packageFiles, tinyLlama } from './support.ts';

const base = tinyLlama();
const TOLERANCE = 2e-5;
const has = (folder: string, file: string) => readdirSync(fixture(folder)).includes(file);
const seal = (row: string): SealedAdapter => readSealed(sealPackage(packageFiles(`adapters/${row}`, ['delta.safetensors']), base).bytes);

/** B·A in float64, row-major [out, in]. */
function product({ A, B, rank }: { A: Float32Array; B: Float32Array; rank: number }): Float64Array {
  const width = A.length / rank;
  const out = new Float64Array((B.length / rank) * width);
  for (let i = 0; i < out.length; i++) {
    const row = Math.floor(i / width);
    for (let k = 0; k < rank; k++) out[i]! += B[row * rank + k]! * A[k * width + (i % width)]!;
  }
  return out;
}

/** Rows without a delta file: α/r and the adapted modules as their configs say, worked out by hand. */
const BY_HAND: Record<string, { scale: number; modules: RegExp }> = {
  'lora-regex-target': { scale: 2, modules: /\.(q_proj|v_proj|up_proj|down_proj)$/ },
  'lora-legacy-config': { scale: 2, modules: /\.(q_proj|v_proj)$/ },
  'lora-init-gaussian': { scale: 2, modules: /\.(q_proj|v_proj)$/ },
  'lora-init-orthogonal': { scale: 2, modules: /\.(q_proj|v_proj)$/ },
};

const rows = readdirSync(fixture('adapters'));
const honoured = rows.filter((row) => has(`adapters/${row}`, 'adapter_model.safetensors'));

describe('honoured LoRA packages', () => {
  assert.equal(honoured.length, 15);
  for (const row of honoured) {
    if (row in BY_HAND) continue;
    test(`${row}: B·A is PEFT's delta on every module, and no other module is touched`, () => {
      const sealed = seal(row);
      const { tensors } = readSafetensors(new Uint8Array(readFileSync(fixture(`adapters/${row}/delta.safetensors`))), 'delta');
      assert.deepEqual([...sealed.targets.keys()].map((module) => `${module}.weight`).sort(), [...tensors.keys()].sort());
      for (const [module, target] of sealed.targets) {
        const expected = decodeFloats('F32', tensors.get(`${module}.weight`)!.data);
        const got = product(target);
        assert.equal(got.length, expected.length);
        const worst = got.reduce((max, value, i) => Math.max(max, Math.abs(value - expected[i]!)), 0);
        assert.ok(worst <= TOLERANCE, `${module}: off by ${worst}`);
      }
    });
  }

  for (const [row, { scale, modules }] of Object.entries(BY_HAND)) {
    test(`${row}: the factors of the file, scaled by ${scale}, on the modules of its config`, () => {
      const sealed = seal(row);
      assert.deepEqual([...sealed.targets.keys()].sort(), [...base.linears.keys()].filter((module) => modules.test(module)).sort());
      const { tensors } = readSafetensors(new Uint8Array(readFileSync(fixture(`adapters/${row}/adapter_model.safetensors`))), row);
      for (const [module, { A, B }] of sealed.targets) {
        const raw = (factor: string) => decodeFloats('F32', tensors.get(`base_model.model.${module}.lora_${factor}.weight`)!.data);
        assert.deepEqual(A, raw('A'));
        assert.deepEqual(
          B,
          raw('B').map((value) => value * scale),
        );
      }
    });
  }

  test('half-precision packages stay as small when they are sealed', () => {
    for (const row of ['lora-fp16', 'lora-bf16']) {
      const files = packageFiles(`adapters/${row}`, ['delta.safetensors']);
      const { bytes } = sealPackage(files, base);
      const source = files.find((file) => file.name === 'adapter_model.safetensors')!;
      assert.ok(bytes.byteLength <= source.bytes.byteLength, `${row}: ${bytes.byteLength} > ${source.bytes.byteLength}`);
    }
  });

  test('the card says rank and scale per module', () => {
    const { card } = sealPackage(packageFiles('adapters/lora-rank-alpha-pattern', ['delta.safetensors']), base);
    const of = (module: string) => card.targets.find((target) => target.module === module);
    assert.deepEqual(
      ['0.mlp.up_proj', '1.mlp.down_proj', '0.self_attn.q_proj', '0.self_attn.v_proj', '1.mlp.up_proj'].map((name) => {
        const target = of(`model.layers.${name}`)!;
        return [target.rank, target.scale];
      }),
      [
        [3, 8 / 3],
        [6, 5 / 6],
        [2, 16],
        [4, 1 / 4],
        [4, 2],
      ],
    );
    assert.equal(card.rank, 6);
    assert.equal(card.base_model_name_or_path, 'tiny-llama');
  });
});

/** Which words must name the feature. The other kinds are named by their peft_type. */
const REFUSED: Record<string, RegExp> = {
  'lora-alora': /alora_invocation_tokens.*activated LoRA/,
  'lora-bdlora': /use_bdlora.*block-diagonal/,
  'lora-bias-all': /bias "all"/,
  'lora-bias-lora_only': /bias "lora_only"/,
  'lora-dora': /use_dora.*DoRA/,
  'lora-dora-rslora-embed': /use_dora.*DoRA/,
  'lora-embed-lm_head': /target_modules.*"model\.embed_tokens"|target_modules.*"lm_head"/,
  'lora-embed-lm_head-lean': /target_modules.*"model\.embed_tokens"|target_modules.*"lm_head"/,
  'lora-embed-lm_head-tied': /target_modules.*"model\.embed_tokens"|target_modules.*"lm_head"/,
  'lora-init-olora': /init_lora_weights "olora" rewrites the base/,
  'lora-init-pissa': /init_lora_weights "pissa" rewrites the base/,
  'lora-kasa': /kasa_config.*KaSA/,
  'lora-layer-replication': /layer_replication/,
  'lora-lora_bias': /lora_bias/,
  'lora-mixtral-experts': /target_parameters/,
  'lora-modules-to-save-lm_head': /modules_to_save/,
  'lora-modules-to-save-lm_head-tied': /modules_to_save/,
  'lora-olmoe-experts': /target_parameters/,
  'lora-qwen2_moe-experts': /target_parameters/,
  'lora-qwen3_moe-experts': /target_parameters/,
  'lora-trainable-token-indices': /trainable_token_indices/,
  'lora-trainable-token-indices-tied': /trainable_token_indices/,
};

describe('packages that are not honoured are refused by name', () => {
  const weights = writeSafetensors(
    new Map([['base_model.model.x', { dtype: 'F32' as const, shape: [1], data: new Uint8Array(4) }]]),
    new Map(),
  );
  for (const row of rows) {
    if (honoured.includes(row)) continue;
    test(row, () => {
      const config = new Uint8Array(readFileSync(fixture(`adapters/${row}/adapter_config.json`)));
      const type = (JSON.parse(new TextDecoder().decode(config)) as { peft_type: string }).peft_type;
      const feature = type === 'LORA' ? REFUSED[row] : new RegExp(`peft_type "${type}" is not supported yet`);
      assert.ok(feature, 'the row has no expectation');
      const findings = findingsOf(() =>
        sealPackage(
          [
            { name: 'adapter_config.json', bytes: config },
            { name: 'adapter_model.safetensors', bytes: weights },
          ],
          base,
        ),
      );
      assert.match(findings?.map((finding) => finding.message).join('\n') ?? 'accepted', feature);
    });
  }
});
