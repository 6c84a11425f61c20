/** The tiny llama of the fixtures as a BaseModules, and readers for golden packages. */
import { readdirSync, readFileSync } from 'node:fs';
import type { BaseModules } from '../../../shared/adapters/base.ts';
import type { PackageFile } from '../../../shared/adapters/package-files.ts';
import { type AdapterFinding, Failure } from '../../../shared/errors.ts';

const FIXTURES = new URL('../../fixtures/', import.meta.url);
export const fixture = (path: string): URL => new URL(path, FIXTURES);

interface LlamaConfig {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
}

/** Module shapes of families/llama, from its config. */
export function tinyLlama(): BaseModules {
  const c = JSON.parse(readFileSync(fixture('families/llama/config.json'), 'utf8')) as LlamaConfig;
  const linears = new Map<string, { in: number; out: number }>();
  const others = new Set(['lm_head', 'model.embed_tokens', 'model.norm']);
  const q = c.num_attention_heads * c.head_dim;
  const kv = c.num_key_value_heads * c.head_dim;
  for (let i = 0; i < c.num_hidden_layers; i++) {
    const layer = `model.layers.${i}`;
    linears.set(`${layer}.self_attn.q_proj`, { in: c.hidden_size, out: q });
    linears.set(`${layer}.self_attn.k_proj`, { in: c.hidden_size, out: kv });
    linears.set(`${layer}.self_attn.v_proj`, { in: c.hidden_size, out: kv });
    linears.set(`${layer}.self_attn.o_proj`, { in: q, out: c.hidden_size });
    linears.set(`${layer}.mlp.gate_proj`, { in: c.hidden_size, out: c.intermediate_size });
    linears.set(`${layer}.mlp.up_proj`, { in: c.hidden_size, out: c.intermediate_size });
    linears.set(`${layer}.mlp.down_proj`, { in: c.intermediate_size, out: c.hidden_size });
    others.add(`${layer}.input_layernorm`).add(`${layer}.post_attention_layernorm`);
  }
  return { id: 'tiny-llama', revision: 'ab'.repeat(32), family: 'llama', layers: c.num_hidden_layers, linears, others };
}

/** Every file of a fixture folder that an upload would carry. */
export function packageFiles(folder: string, except: readonly string[] = []): PackageFile[] {
  return readdirSync(fixture(folder))
    .filter((name) => !except.includes(name))
    .map((name) => ({ name, bytes: new Uint8Array(readFileSync(fixture(`${folder}/${name}`))) }));
}

/** The findings of a refusal; undefined when `step` succeeds. Any other exception passes through. */
export function findingsOf(step: () => unknown): AdapterFinding[] | undefined {
  try {
    step();
    return undefined;
  } catch (error) {
    if (error instanceof Failure && error.value.kind === 'adapter_rejected') return error.value.details;
    throw error;
  }
}
