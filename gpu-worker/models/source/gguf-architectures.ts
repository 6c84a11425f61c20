/**
 * llama.cpp's architectures: which metadata they have, how their tensors are called in Hugging Face, and what their
 * graphs in llama.cpp take for granted.
 */
import { z } from 'zod';

const count = z.union([z.number(), z.bigint()], 'expected a number').transform(Number);
const optional = count.optional();

/** Metadata of every architecture, without the prefix. */
const common = {
  block_count: count,
  context_length: count,
  embedding_length: count,
  feed_forward_length: count,
  vocab_size: optional,
  'attention.head_count': count,
  'attention.head_count_kv': optional,
  'attention.key_length': optional,
  'attention.value_length': optional,
  'attention.layer_norm_rms_epsilon': z.number(),
  'rope.dimension_count': optional,
  'rope.freq_base': z.number().optional(),
  'rope.scaling.type': z.enum(['none', 'linear', 'yarn']).optional(),
  'rope.scaling.factor': z.number().optional(),
  'rope.scaling.original_context_length': optional,
  'rope.scaling.finetuned': z.boolean().optional(),
};
const experts = { expert_count: count, expert_used_count: count };
const scale = z.number().optional();

const ATTENTION = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
};
const MLP = { ffn_gate: 'mlp.gate_proj', ffn_up: 'mlp.up_proj', ffn_down: 'mlp.down_proj' };
const HEAD_NORMS = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' };
/** Tensors that hold all experts; `*` is the expert's number. */
const EXPERTS = {
  ffn_gate_inp: 'mlp.gate',
  ffn_gate_exps: 'mlp.experts.*.gate_proj',
  ffn_up_exps: 'mlp.experts.*.up_proj',
  ffn_down_exps: 'mlp.experts.*.down_proj',
};

type CommonKeys = z.infer<z.ZodObject<typeof common>>;
type Keys = Record<string, unknown>;
type Has = (tensor: string) => boolean;

export interface GgufArchitecture {
  modelType: string;
  /** Any other key changes the arithmetic in a way that is not honoured, and is refused. */
  keys: z.ZodType<CommonKeys>;
  /** Modules below "model.layers.<i>" by the middle part of "blk.<i>.<name>.weight". */
  modules: Readonly<Record<string, string>>;
  /**
   * Whether the converter interleaved the halves of each head's query and key: llama.cpp then turns neighbouring rows
   * 2i and 2i + 1, Hugging Face rows i and i + head_dim / 2.
   */
  interleaved: boolean;
  /** The fields that only this family has. */
  own(keys: Keys, has: Has): Record<string, unknown>;
}

const architecture = (keys: Record<string, z.ZodType>, rest: Omit<GgufArchitecture, 'keys'>): GgufArchitecture => ({
  keys: z.strictObject({ ...keys, ...common }),
  ...rest,
});

const layers = (type: string) => (keys: Keys) => Array.from({ length: Number(keys['block_count']) }, () => type);
const unwindowed = (keys: Keys) => ({ sliding_window: null, layer_types: layers('full_attention')(keys) });
const mixture = (keys: Keys, renormalised: boolean) => ({
  num_experts: keys['expert_count'],
  num_experts_per_tok: keys['expert_used_count'],
  norm_topk_prob: renormalised,
});
const sparse = (keys: Keys) => ({ moe_intermediate_size: keys['expert_feed_forward_length'], decoder_sparse_step: 1, mlp_only_layers: [] });
const biases = (has: Has) => ({ attention_bias: has('attn_q.bias'), mlp_bias: has('ffn_up.bias') });
const none = count.pipe(z.literal(0)).optional();

const llama = architecture(
  { expert_count: none, expert_used_count: none },
  { modelType: 'llama', modules: { ...ATTENTION, ...MLP }, interleaved: true, own: (_, has) => biases(has) },
);

const mixtral = architecture(experts, {
  modelType: 'mixtral',
  modules: {
    ...ATTENTION,
    ffn_gate_inp: 'block_sparse_moe.gate',
    ffn_gate_exps: 'block_sparse_moe.experts.*.w1',
    ffn_up_exps: 'block_sparse_moe.experts.*.w3',
    ffn_down_exps: 'block_sparse_moe.experts.*.w2',
  },
  interleaved: true,
  own: (keys) => ({ num_experts: keys['expert_count'], num_experts_per_tok: keys['expert_used_count'], sliding_window: null }),
});

const OTHERS: ReadonlyMap<string, GgufArchitecture> = new Map([
  ['qwen2', architecture({}, { modelType: 'qwen2', modules: { ...ATTENTION, ...MLP }, interleaved: false, own: unwindowed })],
  [
    'qwen3',
    architecture(
      {},
      {
        modelType: 'qwen3',
        modules: { ...ATTENTION, ...HEAD_NORMS, ...MLP },
        interleaved: false,
        own: (keys, has) => ({ ...unwindowed(keys), attention_bias: has('attn_q.bias') }),
      },
    ),
  ],
  [
    'granite',
    architecture(
      { 'attention.scale': scale, embedding_scale: scale, residual_scale: scale, logit_scale: scale },
      {
        modelType: 'granite',
        modules: { ...ATTENTION, ...MLP },
        interleaved: true,
        own: (keys, has) => ({
          ...biases(has),
          attention_multiplier: keys['attention.scale'],
          embedding_multiplier: keys['embedding_scale'],
          residual_multiplier: keys['residual_scale'],
          logits_scaling: keys['logit_scale'],
        }),
      },
    ),
  ],
  [
    'qwen2moe',
    architecture(
      { ...experts, expert_feed_forward_length: count, expert_shared_feed_forward_length: count },
      {
        modelType: 'qwen2_moe',
        modules: {
          ...ATTENTION,
          ...EXPERTS,
          ffn_gate_inp_shexp: 'mlp.shared_expert_gate',
          ffn_gate_shexp: 'mlp.shared_expert.gate_proj',
          ffn_up_shexp: 'mlp.shared_expert.up_proj',
          ffn_down_shexp: 'mlp.shared_expert.down_proj',
        },
        interleaved: false,
        own: (keys, has) => ({
          ...unwindowed(keys),
          ...mixture(keys, false),
          ...sparse(keys),
          shared_expert_intermediate_size: keys['expert_shared_feed_forward_length'],
          qkv_bias: has('attn_q.bias'),
        }),
      },
    ),
  ],
  [
    'qwen3moe',
    architecture(
      { ...experts, expert_feed_forward_length: count },
      {
        modelType: 'qwen3_moe',
        modules: { ...ATTENTION, ...HEAD_NORMS, ...EXPERTS },
        interleaved: false,
        own: (keys, has) => ({ ...mixture(keys, true), ...sparse(keys), attention_bias: has('attn_q.bias') }),
      },
    ),
  ],
  [
    'olmoe',
    architecture(experts, {
      modelType: 'olmoe',
      modules: { ...ATTENTION, ...HEAD_NORMS, ...EXPERTS },
      interleaved: false,
      own: (keys, has) => ({ ...mixture(keys, false), attention_bias: has('attn_q.bias') }),
    }),
  ],
]);

export const ARCHITECTURES = ['llama', ...OTHERS.keys()];

/** Mixtral is llama with experts. */
export const architectureOf = (name: unknown, has: Has): GgufArchitecture | undefined =>
  name === 'llama' ? (has('ffn_gate_inp.weight') ? mixtral : llama) : OTHERS.get(String(name));
