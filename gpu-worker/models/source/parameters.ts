/**
 * The parameters that a config implies, under Hugging Face's names, and the check of what a
 * container holds against them. Both loaders use it, so a base that opens is complete.
 */
import { Failure } from '../../../shared/errors.ts';
import type { ModelConfig } from './config.ts';

/** Name → shape of every parameter of a llama. */
function llamaParameters(c: ModelConfig): Map<string, number[]> {
  const all = new Map<string, number[]>();
  const q = c.num_attention_heads * c.head_dim;
  const kv = c.num_key_value_heads * c.head_dim;
  const linear = (path: string, out: number, inputs: number, bias: boolean) => {
    all.set(`${path}.weight`, [out, inputs]);
    if (bias) all.set(`${path}.bias`, [out]);
  };
  all.set('model.embed_tokens.weight', [c.vocab_size, c.hidden_size]);
  for (let i = 0; i < c.num_hidden_layers; i++) {
    const layer = `model.layers.${i}`;
    all.set(`${layer}.input_layernorm.weight`, [c.hidden_size]);
    linear(`${layer}.self_attn.q_proj`, q, c.hidden_size, c.attention_bias);
    linear(`${layer}.self_attn.k_proj`, kv, c.hidden_size, c.attention_bias);
    linear(`${layer}.self_attn.v_proj`, kv, c.hidden_size, c.attention_bias);
    linear(`${layer}.self_attn.o_proj`, c.hidden_size, q, c.attention_bias);
    all.set(`${layer}.post_attention_layernorm.weight`, [c.hidden_size]);
    linear(`${layer}.mlp.gate_proj`, c.intermediate_size, c.hidden_size, c.mlp_bias);
    linear(`${layer}.mlp.up_proj`, c.intermediate_size, c.hidden_size, c.mlp_bias);
    linear(`${layer}.mlp.down_proj`, c.hidden_size, c.intermediate_size, c.mlp_bias);
  }
  all.set('model.norm.weight', [c.hidden_size]);
  if (!c.tie_word_embeddings) all.set('lm_head.weight', [c.vocab_size, c.hidden_size]);
  return all;
}

/**
 * Not parameters, though files carry them: rotary tables of old checkpoints (recomputed from the
 * config) and the second copy of a tied embedding (transformers overwrites it with the embedding).
 */
function isDerived(name: string, config: ModelConfig): boolean {
  return name.endsWith('.self_attn.rotary_emb.inv_freq') || (config.tie_word_embeddings && name === 'lm_head.weight');
}

/** Throws unless `found` holds exactly the parameters of `config`, each in its shape. */
export function checkParameters(
  source: string,
  config: ModelConfig,
  found: ReadonlyMap<string, { shape: number[] }>,
): Map<string, number[]> {
  const expected = llamaParameters(config);
  const refuse = (message: string) => new Failure({ kind: 'invalid_request', message: `open base ${source}: ${message}` });
  for (const [name, shape] of expected) {
    const got = found.get(name)?.shape;
    if (!got) throw refuse(`tensor ${name}: expected shape [${shape.join(', ')}], got no such tensor`);
    if (got.length !== shape.length || got.some((n, i) => n !== shape[i])) {
      throw refuse(`tensor ${name}: expected shape [${shape.join(', ')}], got [${got.join(', ')}]`);
    }
  }
  for (const name of found.keys()) {
    if (!expected.has(name) && !isDerived(name, config)) throw refuse(`tensor ${name}: not a parameter of this ${config.model_type}`);
  }
  return expected;
}

/** Shape of a parameter that `checkParameters` found. */
export function parameter(shapes: ReadonlyMap<string, number[]>, source: string, name: string): number[] {
  const shape = shapes.get(name);
  if (!shape) throw new Failure({ kind: 'internal', message: `read base ${source}: no tensor ${name}` });
  return shape;
}
