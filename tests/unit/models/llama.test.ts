/** What the llama family refuses before anything is computed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fp32 } from '../../../gpu-worker/models/fp32.ts';
import { llama } from '../../../gpu-worker/models/llama.ts';
import type { ModelConfig } from '../../../gpu-worker/models/source/config.ts';

const CONFIG: ModelConfig = {
  model_type: 'llama',
  hidden_size: 64,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  intermediate_size: 128,
  vocab_size: 320,
  max_position_embeddings: 256,
  hidden_act: 'silu',
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: null,
  tie_word_embeddings: true,
  attention_bias: false,
  mlp_bias: false,
  bos_token_id: [1],
  eos_token_id: [2],
};
const NO_WEIGHTS = {
  tensor: (name: string): never => {
    throw new Error(`${name} was read`);
  },
};

test('a head size that the attention operator cannot take is refused by name', () => {
  assert.equal(llama.linears(CONFIG, fp32(), NO_WEIGHTS).length, 7);
  assert.throws(() => llama.linears({ ...CONFIG, head_dim: 24 }, fp32(), NO_WEIGHTS), /head_dim: expected a multiple of 16, got 24/);
});
