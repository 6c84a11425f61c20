/**
 * A GGUF file as a checkpoint: llama.cpp's names, layout and metadata translated to Hugging Face's.
 */
import { basename } from 'node:path';
import { Failure } from '../../../shared/errors.ts';
import { tokenizerFromGguf } from '../../tokenizer/gguf.ts';
import { CATALOGUE } from './catalogue.ts';
import type { ModelConfig } from './config.ts';
import { SourceFile } from './file.ts';
import { ARCHITECTURES, architectureOf, type GgufArchitecture } from './gguf-architectures.ts';
import { type GgufHeader, type GgufTensor, readGgufHeader } from './gguf-header.ts';
import type { Checkpoint } from './interface.ts';
import { checkParameters, parameter } from './parameters.ts';
import { checkConfig } from './read-config.ts';
import { readRope } from './rope-config.ts';

/** Names of tensors outside the layers; `rope_freqs` becomes a part of the config. */
const OUTER: Record<string, string> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
};
const ROPE_FACTORS = 'rope_freqs.weight';

interface Opened {
  config: ModelConfig;
  architecture: GgufArchitecture;
}

function readConfig(path: string, { metadata, tensors }: GgufHeader, read: (tensor: GgufTensor) => Float32Array): Opened {
  const name = metadata['general.architecture'];
  const has = (tensor: string) => tensors.has(`blk.0.${tensor}`);
  const architecture = architectureOf(name, has);
  if (!architecture) {
    const supported = ARCHITECTURES.join(', ');
    const message = `open base ${path}: architecture ${JSON.stringify(name)} is not supported in GGUF (supported: ${supported})`;
    throw new Failure({ kind: 'unsupported', message });
  }
  const prefix = `${String(name)}.`;
  const keys = Object.entries(metadata).flatMap(([key, value]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), value]] : []));
  const parsed = architecture.keys.safeParse(Object.fromEntries(keys));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const where = [String(name), ...issue.path].join('.');
    const kind = issue.code === 'unrecognized_keys' || issue.code === 'invalid_value' ? 'unsupported' : 'invalid_request';
    const got = issue.path.length > 0 ? `, got ${String(metadata[where])}` : '';
    throw new Failure({ kind, message: `open base ${path}: metadata ${where}: ${issue.message}${got}` });
  }
  const k = parsed.data;
  const heads = k['attention.head_count'];
  const headDim = k['attention.key_length'] ?? k.embedding_length / heads;
  for (const key of ['attention.value_length', 'rope.dimension_count'] as const) {
    if (k[key] !== undefined && k[key] !== headDim) {
      const message = `open base ${path}: metadata ${prefix}${key}: expected the head size ${headDim}, got ${k[key]}`;
      throw new Failure({ kind: 'unsupported', message });
    }
  }
  const id = (key: string) => {
    const value = metadata[`tokenizer.ggml.${key}_token_id`];
    return typeof value === 'number' ? [value] : [];
  };
  const factors = tensors.get(ROPE_FACTORS);
  const rope = {
    max_position_embeddings: k.context_length,
    rope_scaling: {
      rope_type: k['rope.scaling.type'] === 'none' ? undefined : k['rope.scaling.type'],
      factor: k['rope.scaling.factor'],
      ...(k['rope.scaling.type'] === 'yarn' ? { original_max_position_embeddings: k['rope.scaling.original_context_length'] } : {}),
    },
  };
  const config = checkConfig(path, {
    model_type: architecture.modelType,
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
    // Frequencies divided one by one: how the converter writes Llama 3's scaling.
    rope_scaling: factors
      ? { rope_type: 'longrope', short_factor: [...read(factors)], attention_factor: 1 }
      : readRope(path, rope.rope_scaling, rope).rope_scaling,
    tie_word_embeddings: !tensors.has('output.weight'),
    ...architecture.own(k, has),
    bos_token_id: id('bos'),
    eos_token_id: [...new Set([...id('eos'), ...id('eot')])],
  });
  return { config, architecture };
}

/** Hugging Face's name of a tensor, or null when the architecture has no such parameter; `*` stands for each expert. */
function huggingFaceName(name: string, { modules }: GgufArchitecture): string | null {
  const layer = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name);
  if (!layer) return OUTER[name] ?? null;
  const module = Object.hasOwn(modules, layer[2]!) ? modules[layer[2]!] : undefined;
  return module ? `model.layers.${layer[1]}.${module}.${layer[3]}` : null;
}

function translateNames(path: string, tensors: Map<string, GgufTensor>, architecture: GgufArchitecture): Map<string, GgufTensor> {
  const translated = new Map<string, GgufTensor>();
  for (const [name, tensor] of tensors) {
    if (name === ROPE_FACTORS) continue;
    const to = huggingFaceName(name, architecture);
    if (to === null) {
      const message = `open base ${path}: tensor ${name} is not supported in a ${architecture.modelType} GGUF`;
      throw new Failure({ kind: 'unsupported', message });
    }
    if (!to.includes('*')) {
      translated.set(to, vectorOf(to, tensor));
      continue;
    }
    for (const [e, slice] of slices(tensor).entries()) translated.set(to.replace('*', String(e)), slice);
  }
  return translated;
}

/** The gate of a shared expert is a matrix of one row, which the converter may write as a vector. */
const vectorOf = (name: string, tensor: GgufTensor): GgufTensor =>
  name.endsWith('shared_expert_gate.weight') && tensor.shape.length === 1 ? { ...tensor, shape: [1, ...tensor.shape] } : tensor;

/** The matrices of a tensor [experts, out, in], which lie one after another; empty when it is no such tensor. */
function slices({ shape, elements, format, offset, bytes }: GgufTensor): GgufTensor[] {
  const [experts, ...matrix] = shape;
  if (experts === undefined || matrix.length !== 2) return [];
  return Array.from({ length: experts }, (_, e) => ({
    shape: matrix,
    elements: elements / experts,
    format,
    offset: offset + (e * bytes) / experts,
    bytes: bytes / experts,
  }));
}

/** Undoes the converter's interleaving of the halves of each head. */
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
  const decode = ({ format, offset, bytes }: GgufTensor) => format.decode(file.read(offset, bytes));
  const { config, architecture } = readConfig(path, header, decode);
  const tensors = translateNames(path, header.tensors, architecture);
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
      const values = decode(tensors.get(name)!);
      const interleaved = architecture.interleaved && /\.self_attn\.[qk]_proj\./.test(name);
      return interleaved ? uninterleaveRows(values, config.head_dim, shape[1] ?? 1) : values;
    },
  };
}
