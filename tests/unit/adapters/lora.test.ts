/** PEFT's LoRA config rules, one by one, on a small base. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BaseModules } from '../../../shared/adapters/base.ts';
import { isJsonObject, parseJson } from '../../../shared/adapters/json.ts';
import { readLoraConfig } from '../../../shared/adapters/lora-config.ts';
import { resolveTargets } from '../../../shared/adapters/lora-targets.ts';
import { findingsOf } from '../../contract/adapters/support.ts';

const SORTS = ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.up_proj'];
const base: BaseModules = {
  id: 'small',
  revision: 'ab'.repeat(32),
  family: 'llama',
  layers: 12,
  linears: new Map(
    Array.from({ length: 12 }, (_, i) => SORTS.map((sort) => [`model.layers.${i}.${sort}`, { in: 8, out: 4 }] as const)).flat(),
  ),
  others: new Set(['lm_head', 'model.embed_tokens', 'model.norm']),
};

function resolve(fields: object) {
  const bytes = new TextEncoder().encode(JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj'], ...fields }));
  const config = parseJson(bytes, { file: 'adapter_config.json', code: 'config', maxBytes: 1 << 20, maxDepth: 8 });
  assert.ok(isJsonObject(config));
  return resolveTargets(readLoraConfig(config), base, () => true);
}
const short = (fields: object) => [...resolve(fields).keys()].map((module) => module.replace('model.layers.', ''));
const refusal = (fields: object) =>
  findingsOf(() => resolve(fields))
    ?.map((finding) => `${finding.code}: ${finding.message}`)
    .join('\n');

describe('targets', () => {
  const layers = (indices: readonly number[], sorts = ['self_attn.q_proj']) => indices.flatMap((i) => sorts.map((sort) => `${i}.${sort}`));
  const all = Array.from({ length: 12 }, (_, i) => i);
  const cases: [string, object, string[]][] = [
    [
      'a list entry is the whole name or its last parts',
      { target_modules: ['proj', '1.self_attn.q_proj', 'model.layers.2.mlp.up_proj'] },
      ['1.self_attn.q_proj', '2.mlp.up_proj'],
    ],
    ['a string must match the whole name', { target_modules: '.*\\.1\\..*q_proj' }, ['1.self_attn.q_proj']],
    ['all-linear in any case, without head and embeddings', { target_modules: 'All-Linear' }, layers(all, SORTS)],
    ['excluded by list', { exclude_modules: [...all.slice(1).map((i) => `${i}.self_attn.q_proj`)] }, layers([0])],
    ['excluded by expression', { exclude_modules: '.*\\.\\d\\..*' }, layers([10, 11])],
    ['one layer', { layers_to_transform: 1 }, layers([1])],
    ['layers of a list', { layers_to_transform: [1, 10] }, layers([1, 10])],
    ['no layers listed is no filter', { layers_to_transform: [] }, layers(all)],
    ['layers under a pattern', { layers_to_transform: [3], layers_pattern: ['blocks', 'layers'] }, layers([3])],
    [
      'a full name goes past the layer filter',
      { target_modules: ['model.layers.5.mlp.up_proj', 'q_proj'], layers_to_transform: [0] },
      ['0.self_attn.q_proj', '5.mlp.up_proj'],
    ],
  ];
  for (const [name, fields, expected] of cases) test(name, () => assert.deepEqual(short(fields), expected));
});

describe('rank and scale', () => {
  const of = (fields: object, module = 'model.layers.1.self_attn.q_proj') => {
    const { rank, scale } = resolve(fields).get(module)!;
    return [rank, scale];
  };
  test('alpha / r', () => assert.deepEqual(of({}), [4, 2]));
  test('rsLoRA: alpha / √r', () => assert.deepEqual(of({ use_rslora: true, r: 16 }), [16, 2]));
  test("PEFT's defaults", () => assert.deepEqual(of({ r: undefined, lora_alpha: undefined }), [8, 1]));
  test('the first key that matches wins', () => {
    assert.deepEqual(of({ rank_pattern: { 'layers\\.1\\..*': 2, q_proj: 8 } }), [2, 4]);
    assert.deepEqual(of({ rank_pattern: { q_proj: 8, 'layers\\.1\\..*': 2 } }), [8, 1]);
  });
  test('a key matches whole parts at the end of the name', () => {
    assert.match(refusal({ rank_pattern: { proj: 2 } }) ?? '', /rank_pattern "proj" matches no target/);
    assert.match(refusal({ alpha_pattern: { self_attn: 2 } }) ?? '', /alpha_pattern "self_attn" matches no target/);
    assert.deepEqual(of({ alpha_pattern: { 'self_attn.q_proj': 2 } }), [4, 0.5]);
  });
  test('^ binds to the start of the name', () => {
    assert.deepEqual(of({ alpha_pattern: { '^model.layers.1.self_attn.q_proj': 2 } }), [4, 0.5]);
    assert.match(refusal({ alpha_pattern: { '^layers.1.self_attn.q_proj': 2 } }) ?? '', /matches no target/);
  });
});

describe('refusals', () => {
  const cases: [object, RegExp][] = [
    [{ target_modules: ['lm_head'] }, /modules: .*"lm_head"/],
    [{ target_modules: '.*' }, /"model\.norm"/],
    [{ target_modules: ['c_attn'] }, /config: .*matches no module of small/],
    [{ target_modules: null }, /"target_modules"/],
    [{ target_modules: 'q_proj', layers_to_transform: [1] }, /need target_modules to be a list/],
    [{ layers_pattern: 'layers' }, /layers_pattern needs layers_to_transform/],
    [{ layers_to_transform: [1], layers_pattern: '(a+)+' }, /not a plain name/],
    [{ bias: 'all' }, /bias "all"/],
    [{ task_type: 'SEQ_CLS' }, /task_type "SEQ_CLS"/],
    [{ init_lora_weights: 'pissa_niter_4' }, /"pissa_niter_4" rewrites the base/],
    [{ init_lora_weights: 'corda' }, /"corda"/],
    [{ fan_in_fan_out: true }, /fan_in_fan_out/],
    [{ use_qalora: true }, /QALoRA/],
    [{ some_future_switch: true }, /"some_future_switch" is not known/],
    [{ use_dora: true, lora_bias: true, r: 0 }, /"r".*\n.*DoRA.*\n.*lora_bias/],
  ];
  for (const [fields, message] of cases) test(JSON.stringify(fields), () => assert.match(refusal(fields) ?? 'accepted', message));
  test('switches that are off and notes about training are let pass', () => {
    const fields = {
      some_future_switch: null,
      other: false,
      list: [],
      map: {},
      use_dora: false,
      modules_to_save: null,
      eva_config: { rho: 2 },
      lora_dropout: 0.1,
    };
    assert.equal(
      refusal({ ...fields, auto_mapping: { base_model_class: 'X' }, bias: 'none', task_type: 'CAUSAL_LM', init_lora_weights: 'eva' }),
      undefined,
    );
  });
});
