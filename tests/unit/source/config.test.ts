/** config.json in its old and new forms, and the features that are refused by name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHfConfig } from '../../../gpu-worker/models/source/read-config.ts';
import { failure } from './fixtures.ts';

const minimal = {
  model_type: 'llama',
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 128,
  vocab_size: 320,
};
const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 };
const parse = (extra: Record<string, unknown>, generation: Record<string, unknown> | null = null) =>
  parseHfConfig('config.json', { ...minimal, ...extra }, generation);

test("absent fields take LlamaConfig's defaults", () => {
  assert.deepEqual(parse({}), {
    ...minimal,
    num_key_value_heads: 4,
    head_dim: 16,
    max_position_embeddings: 2048,
    hidden_act: 'silu',
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: null,
    tie_word_embeddings: false,
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: [],
    eos_token_id: [],
  });
});

test('both forms of rotary parameters mean the same', () => {
  const expected = { rope_type: 'llama3', ...llama3 };
  for (const form of [
    { rope_parameters: { rope_type: 'llama3', rope_theta: 500000, ...llama3 } },
    { rope_theta: 500000, rope_scaling: { rope_type: 'llama3', ...llama3 } },
    { rope_theta: 500000, rope_scaling: { type: 'llama3', ...llama3 } },
  ]) {
    const { rope_theta, rope_scaling } = parse(form);
    assert.deepEqual({ rope_theta, rope_scaling }, { rope_theta: 500000, rope_scaling: expected });
  }
  assert.deepEqual(parse({ rope_scaling: { type: 'linear', factor: 2 } }).rope_scaling, { rope_type: 'linear', factor: 2 });
  for (const none of [{ rope_scaling: null }, { rope_parameters: { rope_type: 'default', rope_theta: 10000 } }]) {
    assert.equal(parse(none).rope_scaling, null);
  }
});

test("end-of-text ids are the model's and the generation config's together", () => {
  assert.deepEqual(parse({ eos_token_id: 2 }).eos_token_id, [2]);
  assert.deepEqual(parse({ eos_token_id: 2, bos_token_id: 1 }, { eos_token_id: [2, 7, 9] }).eos_token_id, [2, 7, 9]);
  assert.deepEqual(parse({ eos_token_id: null }).eos_token_id, []);
});

test('yarn: what the config leaves out is derived as transformers does', () => {
  const factors = { factor: 4, original_max_position_embeddings: 512 };
  const expected = { rope_type: 'yarn', ...factors, beta_fast: 32, beta_slow: 1, truncate: true };
  const given = (more: object) => parse({ rope_scaling: { rope_type: 'yarn', ...factors, ...more } }).rope_scaling;
  assert.deepEqual(given({}), { ...expected, attention_factor: 0.1 * Math.log(4) + 1 });
  assert.deepEqual(given({ attention_factor: 1.5, beta_fast: 16 }), { ...expected, beta_fast: 16, attention_factor: 1.5 });
  const ratio = (0.1 * 2 * Math.log(4) + 1) / (0.1 * 0.5 * Math.log(4) + 1);
  assert.deepEqual(given({ mscale: 2, mscale_all_dim: 0.5 }), { ...expected, attention_factor: ratio });
});

test('longrope: served within the original context, where the short factors hold', () => {
  const config = parse({
    model_type: 'phi3',
    max_position_embeddings: 131072,
    original_max_position_embeddings: 4096,
    rope_scaling: { type: 'longrope', short_factor: [1, 2, 3, 4, 5, 6, 7, 8], long_factor: [9, 9, 9, 9, 9, 9, 9, 9] },
  });
  assert.equal(config.max_position_embeddings, 4096);
  assert.deepEqual(config.rope_scaling, {
    rope_type: 'longrope',
    short_factor: [1, 2, 3, 4, 5, 6, 7, 8],
    attention_factor: Math.sqrt(1 + Math.log(32) / Math.log(4096)),
  });
});

test('windows: by layer types, by rule of the family, or none', () => {
  const windows = (json: Record<string, unknown>) => {
    const { sliding_window, layer_types } = parse(json) as unknown as { sliding_window: number | null; layer_types?: string[] };
    return [sliding_window, layer_types?.map((type) => type[0]).join('')];
  };
  assert.deepEqual(windows({ model_type: 'qwen2', use_sliding_window: false, sliding_window: 16 }), [null, 'ff']);
  assert.deepEqual(windows({ model_type: 'qwen2', use_sliding_window: true, sliding_window: 16, max_window_layers: 1 }), [16, 'fs']);
  assert.deepEqual(windows({ model_type: 'gemma2', sliding_window: 16, num_hidden_layers: 3 }), [16, 'sfs']);
  assert.deepEqual(windows({ model_type: 'gemma3_text', sliding_window: 16, num_hidden_layers: 7 }), [16, 'sssssfs']);
  assert.deepEqual(windows({ model_type: 'mistral', sliding_window: null }), [null, undefined]);
});

test('gemma3: older configs and newer ones mean the same rotary positions', () => {
  const older = { rope_theta: 1e6, rope_local_base_freq: 20000, rope_scaling: { rope_type: 'linear', factor: 8 } };
  const newer = {
    rope_parameters: {
      full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
      sliding_attention: { rope_type: 'default', rope_theta: 20000 },
    },
  };
  assert.deepEqual(parse({ model_type: 'gemma3_text', ...older }), parse({ model_type: 'gemma3_text', ...newer }));
});

const refused: [string, Record<string, unknown>, RegExp][] = [
  ['family', { model_type: 'gpt2' }, /model_type: expected one of llama, mistral, .*, got "gpt2"/],
  ['head', { architectures: ['LlamaForSequenceClassification'] }, /architectures: expected LlamaForCausalLM/],
  ['activation', { hidden_act: 'gelu' }, /hidden_act: .*got "gelu"/],
  ['rotary kind', { rope_scaling: { rope_type: 'ntk', factor: 4 } }, /rope_type: expected one of default, linear, .*, got "ntk"/],
  ['partial rotary', { partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
  ['partial rotary, new form', { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } }, /partial_rotary_factor/],
  [
    'rotary positions of local layers that are stretched',
    {
      model_type: 'gemma3_text',
      rope_parameters: { full_attention: { rope_type: 'default' }, sliding_attention: { rope_type: 'linear', factor: 2 } },
    },
    /sliding_attention: expected rope_type default/,
  ],
  ['clipped projections', { model_type: 'olmoe', clip_qkv: 8 }, /clip_qkv/],
  ['attention in both directions', { model_type: 'gemma3_text', use_bidirectional_attention: true }, /use_bidirectional_attention/],
  ['quantised weights', { quantization_config: { quant_method: 'gptq' } }, /quantization_config/],
  ['sliding window', { sliding_window: 4096 }, /sliding_window/],
];
for (const [what, extra, message] of refused) {
  test(`refuses by name: ${what}`, () => {
    assert.throws(() => parse(extra), failure('unsupported', message));
  });
}

const invalid: [string, Record<string, unknown>, RegExp][] = [
  ['missing size', { vocab_size: undefined }, /vocab_size/],
  ['zero layers', { num_hidden_layers: 0 }, /num_hidden_layers.*got 0/],
  ['absurd size', { hidden_size: 1e9, head_dim: 16 }, /hidden_size/],
  ['head groups', { num_key_value_heads: 3 }, /multiple of num_key_value_heads/],
  ['odd heads', { head_dim: 15 }, /head_dim must be even/],
  ['heads that do not divide', { num_attention_heads: 5 }, /head_dim/],
  ['negative end-of-text id', { eos_token_id: 'x' }, /eos_token_id/],
  ['rotary parameters of another shape', { rope_scaling: 'llama3' }, /rope_parameters: expected an object/],
  ['unknown rotary field', { rope_scaling: { rope_type: 'linear', factor: 2, beta: 1 } }, /rope_scaling.*beta/],
  [
    'longrope factors of another number than pairs',
    { model_type: 'phi3', rope_scaling: { type: 'longrope', short_factor: [1, 1], long_factor: [1, 1] }, partial_rotary_factor: 0.75 },
    /short_factor: expected 6 numbers, got 2/,
  ],
  [
    'half a pair',
    { model_type: 'phi3', partial_rotary_factor: 0.82 },
    /partial_rotary_factor: expected an even number of channels, got 13/,
  ],
  ['infinite base', { rope_theta: Number.POSITIVE_INFINITY }, /rope_theta/],
];
for (const [what, extra, message] of invalid) {
  test(`refuses as invalid: ${what}`, () => {
    assert.throws(() => parse(extra), failure('invalid_request', message));
  });
}
