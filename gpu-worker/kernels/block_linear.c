/*
 * BlockLinear: y = x · W for weights of 4 or 8 bits in blocks of 32 inputs, each with a scale and a least value:
 *
 *   w = d · u + m,   u = 0…15 or 0…255,   d and m half floats        (models/int4.ts)
 *
 * Activations become 8 bits wide in the same blocks, x = s · q, so a block's share is
 *
 *   y += d · s · Σ u q  +  m · s · Σ q
 *
 * with exact integers inside and blocks added one after the other: a token's sums have one order of operations
 * whatever is computed beside it. Decoding waits for weights, so all that belongs to 16 outputs streams by in one piece.
 *
 *   weight [outputs / 16][inputs / 32] { u, 16 outputs × 32 inputs;  d of 16 outputs;  m of 16 outputs }
 *
 * u lies in groups of four inputs, output after output, as integer dot products read it; of 4 bits, byte i of group 2j
 * holds in its upper half byte i of group 2j + 1.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "operator.h"
#include "simd.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { BLOCK = 32, WORDS = BLOCK / 4, SCALES = 2 * LANES * sizeof(_Float16) };

typedef uint8_t u8x64 __attribute__((vector_size(64)));

/* sum + Σ of four products u8 · i8, for each of 16 lanes; `q` holds the four activations that all lanes share. */
INLINE i32x16 dot4(i32x16 sum, u8x64 u, int32_t q) {
#if defined(__AVX512VNNI__)
  return (i32x16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)u, _mm512_set1_epi32(q));
#elif defined(__AVX2__)
  /* Products of the even and of the odd bytes, as 16-bit numbers: none is cut off. */
  const __m256i shared = _mm256_set1_epi32(q), even = _mm256_srai_epi16(_mm256_slli_epi16(shared, 8), 8), odd = _mm256_srai_epi16(shared, 8);
  __m256i half[2], sums[2];
  memcpy(half, &u, sizeof half);
  memcpy(sums, &sum, sizeof sums);
  for (int i = 0; i < 2; i++) {
    const __m256i low = _mm256_madd_epi16(_mm256_and_si256(half[i], _mm256_set1_epi16(255)), even);
    sums[i] = _mm256_add_epi32(sums[i], _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_srli_epi16(half[i], 8), odd)));
  }
  memcpy(&sum, sums, sizeof sum);
  return sum;
#else
  const i32x16 words = (i32x16)u;
  for (int byte = 0; byte < 4; byte++) sum += (words >> (8 * byte) & 255) * ((int32_t)((uint32_t)q << (24 - 8 * byte)) >> 24);
  return sum;
#endif
}

typedef struct {
  int64_t outputs, bits;
} State;

static OrtStatus *prepare(const Attributes *attributes, void *pointer) {
  State *state = pointer;
  TRY(attribute_int(attributes, "outputs", &state->outputs));
  TRY(attribute_int(attributes, "bits", &state->bits));
  if (state->outputs <= 0 || (state->bits != 4 && state->bits != 8))
    return refuse(attributes->api, "BlockLinear", "%lld outputs of %lld bits", (long long)state->outputs, (long long)state->bits);
  return NULL;
}

/* Scale of a block of activations, and scale · Σ q. */
typedef struct {
  float scale, sum;
} Scale;

typedef struct {
  const float *x;
  const uint8_t *weight;
  float *y;
  /* [tokens][blocks][WORDS] and [tokens][blocks] */
  int32_t *q;
  Scale *scale;
  size_t tokens, in, outputs, blocks, groups;
  size_t groups_per_job, token_jobs;
  bool four;
} Plan;

/* activations */

enum { TOKENS_PER_JOB = 8 };

static void quantize_block(const float *x, size_t n, int32_t *q, Scale *scale) {
  float values[BLOCK] = {0};
  memcpy(values, x, n * sizeof *x);
  const f32x16 a = load(values), b = load(values + LANES);
  const i32x16 magnitude = __builtin_elementwise_max((i32x16)a & 0x7fffffff, (i32x16)b & 0x7fffffff);
  const int32_t bits = __builtin_reduce_max(magnitude);
  float largest;
  memcpy(&largest, &bits, sizeof largest);
  const f32x16 factor = splat(largest > 0 ? 127 / largest : 0), rounder = splat(12582912.0f);
  const i32x16 levels[2] = {(i32x16)fma16(a, factor, rounder) - (i32x16)rounder, (i32x16)fma16(b, factor, rounder) - (i32x16)rounder};
  int8_t narrow[BLOCK];
  for (size_t i = 0; i < BLOCK; i++) narrow[i] = (int8_t)levels[i / LANES][i % LANES];
  memcpy(q, narrow, sizeof narrow);
  scale->scale = largest / 127;
  scale->sum = scale->scale * (float)__builtin_reduce_add(levels[0] + levels[1]);
}

static void quantize_body(void *user, size_t job) {
  const Plan *plan = user;
  const size_t end = (job + 1) * TOKENS_PER_JOB;
  for (size_t t = job * TOKENS_PER_JOB; t < end && t < plan->tokens; t++)
    for (size_t b = 0; b < plan->blocks; b++) {
      const size_t at = t * plan->blocks + b, rest = plan->in - b * BLOCK;
      quantize_block(plan->x + t * plan->in + b * BLOCK, rest < BLOCK ? rest : BLOCK, plan->q + at * WORDS, plan->scale + at);
    }
}

/* products */

#ifdef __AVX512F__
enum { TOKENS = 8 };
#else
enum { TOKENS = 2 };
#endif
enum { AHEAD = 2048 };
#define UNROLL _Pragma("clang loop unroll(full)")

/* 16 outputs of `tokens` tokens. */
INLINE void product(const Plan *plan, size_t token, size_t group, int tokens, bool four) {
  const size_t level_bytes = four ? BLOCK * LANES / 2 : BLOCK * LANES, stride = level_bytes + SCALES;
  const uint8_t *at = plan->weight + group * plan->blocks * stride;
  f32x16 sum[TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) sum[t] = splat(0);
  for (size_t b = 0; b < plan->blocks; b++, at += stride) {
    i32x16 dot[TOKENS];
    UNROLL for (int t = 0; t < tokens; t++) dot[t] = (i32x16){0};
    const int32_t *q[TOKENS];
    UNROLL for (int t = 0; t < tokens; t++) q[t] = plan->q + ((token + (size_t)t) * plan->blocks + b) * WORDS;
    UNROLL for (int j = 0; j < WORDS; j += 2) {
      u8x64 first, second;
      if (four) {
        memcpy(&second, at + j * 32, sizeof second);
        first = second & 15;
        second = (u8x64)((i32x16)second >> 4) & 15;
      } else {
        memcpy(&first, at + j * 64, sizeof first);
        memcpy(&second, at + j * 64 + 64, sizeof second);
      }
      UNROLL for (int t = 0; t < tokens; t++) dot[t] = dot4(dot4(dot[t], first, q[t][j]), second, q[t][j + 1]);
    }
    if (tokens == 1)
      UNROLL for (size_t line = 0; line < stride; line += 64) __builtin_prefetch(at + AHEAD + line);
    const _Float16 *scales = (const _Float16 *)(const void *)(at + level_bytes);
    const f32x16 d = load_f16(scales), m = load_f16(scales + LANES);
    UNROLL for (int t = 0; t < tokens; t++) {
      const Scale s = plan->scale[(token + (size_t)t) * plan->blocks + b];
      sum[t] = fma16(__builtin_convertvector(dot[t], f32x16) * splat(s.scale), d, sum[t]);
      sum[t] = fma16(m, splat(s.sum), sum[t]);
    }
  }
  const size_t column = group * LANES, rest = plan->outputs - column;
  UNROLL for (int t = 0; t < tokens; t++) {
    float *y = plan->y + (token + (size_t)t) * plan->outputs + column;
    if (rest >= LANES) store(y, sum[t]);
    else store_some(y, sum[t], rest);
  }
}

INLINE void product_of(const Plan *plan, size_t from, size_t to, size_t group, bool four) {
  size_t t = from;
  for (; t + TOKENS <= to; t += TOKENS) product(plan, t, group, TOKENS, four);
  for (; t < to; t++) product(plan, t, group, 1, four);
}

enum { TOKEN_BLOCK = 64, JOB_BYTES = 1 << 15 };

static void product_body(void *user, size_t job) {
  const Plan *plan = user;
  const size_t from = job % plan->token_jobs * TOKEN_BLOCK, to = from + TOKEN_BLOCK < plan->tokens ? from + TOKEN_BLOCK : plan->tokens;
  const size_t first = job / plan->token_jobs * plan->groups_per_job;
  for (size_t g = first; g < first + plan->groups_per_job && g < plan->groups; g++) {
    if (plan->four) product_of(plan, from, to, g, true);
    else product_of(plan, from, to, g, false);
  }
}

static size_t ceiling(size_t a, size_t b) { return (a + b - 1) / b; }

static OrtStatus *compute(const Run *run, const void *pointer) {
  const State *state = pointer;
  Tensor x, weight;
  TRY(input_of_rank(run, 0, 2, &x));
  TRY(input_of_rank(run, 1, 3, &weight));
  const int64_t tokens = x.dims[0], in = x.dims[1], outputs = state->outputs;
  const int64_t blocks = (in + BLOCK - 1) / BLOCK, groups = (outputs + LANES - 1) / LANES;
  const int64_t stride = BLOCK * LANES * state->bits / 8 + (int64_t)SCALES;
  CHECK(run, weight.dims[0] == groups && weight.dims[1] == blocks && weight.dims[2] == stride,
        "weight [%lld, %lld, %lld] for %lld inputs and %lld outputs of %lld bits", (long long)weight.dims[0],
        (long long)weight.dims[1], (long long)weight.dims[2], (long long)in, (long long)outputs, (long long)state->bits);
  void *y;
  TRY(output(run, 0, (int64_t[]){tokens, outputs}, 2, &y));
  if (tokens == 0) return NULL;

  Plan plan = {.x = x.data, .weight = weight.data, .y = y, .tokens = (size_t)tokens, .in = (size_t)in, .outputs = (size_t)outputs,
               .blocks = (size_t)blocks, .groups = (size_t)groups, .four = state->bits == 4};
  plan.q = malloc(plan.tokens * plan.blocks * (BLOCK + sizeof(Scale)));
  CHECK(run, plan.q, "out of memory for %lld tokens", (long long)tokens);
  plan.scale = (Scale *)(void *)(plan.q + plan.tokens * plan.blocks * WORDS);
  plan.token_jobs = ceiling(plan.tokens, TOKEN_BLOCK);
  plan.groups_per_job = ceiling(JOB_BYTES, plan.blocks * (size_t)stride);
  OrtStatus *status = NULL;
  if (plan.tokens > TOKENS_PER_JOB) status = parallel_for(run, ceiling(plan.tokens, TOKENS_PER_JOB), quantize_body, &plan);
  else quantize_body(&plan, 0);
  if (!status) status = parallel_for(run, plan.token_jobs * ceiling(plan.groups, plan.groups_per_job), product_body, &plan);
  free(plan.q);
  return status;
}

static const Port inputs[] = {{"x", ORT_F32, ORT_REQUIRED}, {"weight", ORT_U8, ORT_REQUIRED}};
static const Port outputs[] = {{"y", ORT_F32, ORT_REQUIRED}};

const Operator VARIANT_NAME(block_linear) = {
    .ort = {OPERATOR_CALLBACKS},
    .name = "BlockLinear",
    .inputs = sizeof inputs / sizeof *inputs,
    .input = inputs,
    .outputs = sizeof outputs / sizeof *outputs,
    .output = outputs,
    .state_bytes = sizeof(State),
    .prepare = prepare,
    .compute = compute,
};
