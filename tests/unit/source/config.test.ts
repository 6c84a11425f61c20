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

const refused: [string, Record<string, unknown>, RegExp][] = [
  ['family', { model_type: 'gpt2' }, /model_type: expected one of llama, mistral, .*, got "gpt2"/],
  ['head', { architectures: ['LlamaForSequenceClassification'] }, /architectures: expected LlamaForCausalLM/],
  ['activation', { hidden_act: 'gelu' }, /hidden_act: .*got "gelu"/],
  ['rotary kind', { rope_scaling: { rope_type: 'ntk', factor: 4 } }, /rope_type: expected one of default, linear, .*, got "ntk"/],
  ['partial rotary', { partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
  ['partial rotary, new form', { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } }, /partial_rotary_factor/],
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
  ['infinite base', { rope_theta: Number.POSITIVE_INFINITY }, /rope_theta/],
];
for (const [what, extra, message] of invalid) {
  test(`refuses as invalid: ${what}`, () => {
    assert.throws(() => parse(extra), failure('invalid_request', message));
  });
}
