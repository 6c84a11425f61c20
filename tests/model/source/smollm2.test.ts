/** The real base from its GGUF, against llama.cpp's Python package (rows put back as transformers does). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { openCheckpoint } from '../../../gpu-worker/models/source/checkpoint.ts';
import { basePath } from './base-path.ts';

const base = await openCheckpoint(basePath());

test('it is known by its content', () => {
  assert.equal(base.id, 'SmolLM2-135M-Instruct');
  assert.equal(base.revision, 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53');
});

test('its config', () => {
  const { rms_norm_eps, ...rest } = base.config;
  assert.equal(Math.fround(rms_norm_eps!), Math.fround(1e-5));
  assert.deepEqual(rest, {
    model_type: 'llama',
    hidden_size: 576,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    head_dim: 64,
    intermediate_size: 1536,
    vocab_size: 49152,
    max_position_embeddings: 8192,
    hidden_act: 'silu',
    rope_theta: 100000,
    rope_scaling: null,
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: [1],
    eos_token_id: [2],
  });
});

test('single weights, by row and column', () => {
  const expected: [string, number, number, number][] = [
    ['model.embed_tokens.weight', 0, 1, 0.032978057861328125],
    ['model.embed_tokens.weight', 30000, 17, 0.4651336669921875],
    ['model.layers.0.self_attn.q_proj.weight', 1, 0, -0.1591796875],
    ['model.layers.0.self_attn.q_proj.weight', 33, 5, -0.06280517578125],
    ['model.layers.29.self_attn.k_proj.weight', 1, 0, 0.05859375],
    ['model.layers.29.self_attn.k_proj.weight', 32, 3, -0.113525390625],
    ['model.layers.29.self_attn.k_proj.weight', 191, 0, 0.2447509765625],
    ['model.layers.5.mlp.down_proj.weight', 100, 7, -0.0491943359375],
  ];
  for (const [name, row, column, value] of expected) {
    assert.equal(base.tensor(name)[row * base.shape(name)[1]! + column], value, `${name}[${row}, ${column}]`);
  }
});

test('all 272 tensors bit for bit', () => {
  const names = base.tensorNames().sort();
  assert.equal(names.length, 272);
  const hash = createHash('sha256');
  for (const name of names) hash.update(new Uint8Array(base.tensor(name).buffer));
  assert.equal(hash.digest('hex'), '1e7c8a1c726e693f3ef812fec44c0efdf79020fe1e36d5cd8a07e0341da3e3aa');
});
