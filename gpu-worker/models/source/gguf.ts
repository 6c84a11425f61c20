/**
 * A GGUF file as a checkpoint: llama.cpp's names, layout and metadata translated to Hugging Face's.
 */
import { basename } from 'node:path';
import { z } from 'zod';
import { Failure } from '../../../shared/errors.ts';
import { tokenizerFromGguf } from '../../tokenizer/gguf.ts';
import { CATALOGUE } from './catalogue.ts';
import type { ModelConfig } from './config.ts';
import { SourceFile } from './file.ts';
import { type GgufHeader, type GgufTensor, readGgufHeader } from './gguf-header.ts';
import type { Checkpoint } from './interface.ts';
import { checkParameters, parameter } from './parameters.ts';
import { checkConfig } from './read-config.ts';

const count = z.union([z.number(), z.bigint()], 'expected a number').transform(Number);

/** The `llama.*` keys that are honoured; any other changes the arithmetic in a way that is not, and is refused. */
const LlamaKeys = z.strictObject({
  block_count: count,
  context_length: count,
  embedding_length: count,
  feed_forward_length: count,
  vocab_size: count.optional(),
  'attention.head_count': count,
  'attention.head_count_kv': count.optional(),
  'attention.key_length': count.optional(),
  'attention.value_length': count.optional(),
  'attention.layer_norm_rms_epsilon': z.number(),
  'rope.dimension_count': count.optional(),
  'rope.freq_base': z.number().optional(),
  'rope.scaling.type': z.enum(['none', 'linear']).optional(),
  'rope.scaling.factor': z.number().optional(),
  expert_count: count.pipe(z.literal(0)).optional(),
  expert_used_count: count.pipe(z.literal(0)).optional(),
});

function readConfig(path: string, { metadata, tensors }: GgufHeader): ModelConfig {
  const architecture = metadata['general.architecture'];
  if (architecture !== 'llama') {
    const message = `open base ${path}: architecture ${JSON.stringify(architecture)} is not supported in GGUF (supported: llama)`;
    throw new Failure({ kind: 'unsupported', message });
  }
  const keys = Object.entries(metadata).flatMap(([key, value]) => (key.startsWith('llama.') ? [[key.slice(6), value]] : []));
  const parsed = LlamaKeys.safeParse(Object.fromEntries(keys));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const where = ['llama', ...issue.path].join('.');
    const kind = issue.code === 'unrecognized_keys' || issue.code === 'invalid_value' ? 'unsupported' : 'invalid_request';
    const got = issue.path.length > 0 ? `, got ${String(metadata[where])}` : '';
    throw new Failure({ kind, message: `open base ${path}: metadata ${where}: ${issue.message}${got}` });
  }
  const k = parsed.data;
  const heads = k['attention.head_count'];
  const headDim = k['attention.key_length'] ?? k.embedding_length / heads;
  for (const key of ['attention.value_length', 'rope.dimension_count'] as const) {
    if (k[key] !== undefined && k[key] !== headDim) {
      const message = `open base ${path}: metadata llama.${key}: expected the head size ${headDim}, got ${k[key]}`;
      throw new Failure({ kind: 'unsupported', message });
    }
  }
  const id = (key: string) => {
    const value = metadata[`tokenizer.ggml.${key}_token_id`];
    return typeof value === 'number' ? [value] : [];
  };
  return checkConfig(path, {
    model_type: 'llama',
    hidden_size: k.embedding_length,
    num_hidden_layers: k.block_count,
    num_attention_heads: heads,
    num_key_value_heads: k['attention.head_count_kv'] ?? heads,
    head_dim: headDim,
    intermediate_size: k.feed_forward_length,
    vocab_size: k.vocab_size ?? tensors.get('token_embd.weight')?.shape[0],
    max_position_embeddings: k.context_length,
    hidden_act: 'silu',
    rms_norm_eps: k['attention.layer_norm_rms_epsilon'],
    rope_theta: k['rope.freq_base'] ?? 10000,
    rope_scaling: k['rope.scaling.type'] === 'linear' ? { rope_type: 'linear', factor: k['rope.scaling.factor'] } : null,
    tie_word_embeddings: !tensors.has('output.weight'),
    attention_bias: tensors.has('blk.0.attn_q.bias'),
    mlp_bias: tensors.has('blk.0.ffn_up.bias'),
    bos_token_id: id('bos'),
    eos_token_id: [...new Set([...id('eos'), ...id('eot')])],
  });
}

const OUTER: Record<string, string> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};
const IN_LAYER: Record<string, string> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

/** Hugging Face's name of a tensor, or null when llama has no such parameter. */
function huggingFaceName(name: string): string | null {
  const layer = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name);
  if (!layer) return OUTER[name] ?? null;
  const module = IN_LAYER[layer[2]!];
  return module ? `model.layers.${layer[1]}.${module}.${layer[3]}` : null;
}

function translateNames(path: string, tensors: Map<string, GgufTensor>): Map<string, GgufTensor> {
  const translated = new Map<string, GgufTensor>();
  for (const [name, tensor] of tensors) {
    const to = huggingFaceName(name);
    if (to === null) {
      const message = `open base ${path}: tensor ${name} is not supported in a llama GGUF`;
      throw new Failure({ kind: 'unsupported', message });
    }
    translated.set(to, tensor);
  }
  return translated;
}

/**
 * llama.cpp turns neighbouring rows 2i, 2i+1 of a head's query and key, Hugging Face rows i and
 * i + head_dim/2; its converter therefore interleaves the two halves of each head. This undoes it.
 */
function uninterleaveRows(values: Float32Array, headDim: number, rowLength: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  const half = headDim / 2;
  const rows = values.length / rowLength;
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    const from = row - inHead + (inHead % half) * 2 + (inHead < half ? 0 : 1);
    out.set(values.subarray(from * rowLength, (from + 1) * rowLength), row * rowLength);
  }
  return out;
}

export async function openGguf(path: string): Promise<Checkpoint> {
  const file = await SourceFile.open(path);
  const header = await readGgufHeader(file);
  const config = readConfig(path, header);
  const tensors = translateNames(path, header.tensors);
  const shapes = checkParameters(path, config, tensors);
  const tokenizer = tokenizerFromGguf(path, header.metadata, config.vocab_size);
  const revision = await file.sha256();
  return {
    id: CATALOGUE.find((entry) => entry.sha256 === revision)?.id ?? basename(path),
    revision,
    config,
    tokenizer,
    tensorNames: () => [...shapes.keys()],
    shape: (name) => [...parameter(shapes, path, name)],
    tensor(name) {
      const shape = parameter(shapes, path, name);
      const { format, offset, bytes } = tensors.get(name)!;
      const values = format.decode(file.read(offset, bytes));
      return /\.self_attn\.[qk]_proj\./.test(name) ? uninterleaveRows(values, config.head_dim, shape[1] ?? 1) : values;
    },
  };
}
