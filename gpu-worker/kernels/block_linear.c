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
 * Biases and adapters are added at the end (adapted.h); while few tokens have them, their factors come from memory
 * beside the weights, one thread reading while another multiplies.
 *
 *   weight [outputs / 16][inputs / 32] { u, 16 outputs × 32 inputs;  d of 16 outputs;  m of 16 outputs }
 *
 * u lies in groups of four inputs, output after output, as integer dot products read it; of 4 bits, byte i of group 2j
 * holds in its upper half byte i of group 2j + 1.
 */
#include "adapted_plan.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { BLOCK = 32, WORDS = BLOCK / 4, SCALES = 2 * LANES * sizeof(_Float16) };

typedef int8_t i8x16 __attribute__((vector_size(16)));
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
  Linears linears;
  int64_t bits;
} State;

static OrtStatus *prepare(const Attributes *attributes, void *pointer) {
  State *state = pointer;
  TRY(linears_of(attributes, "BlockLinear", &state->linears));
  TRY(attribute_int(attributes, "bits", &state->bits));
  if (state->bits != 4 && state->bits != 8) return refuse(attributes->api, "BlockLinear", "weights of %lld bits", (long long)state->bits);
  return NULL;
}

/* Scale of a block of activations, and scale · Σ q. */
typedef struct {
  float scale, sum;
} Scale;

typedef struct {
  Plan adapted;
  const uint8_t *weight;
  /* [tokens][blocks][WORDS] and [tokens][blocks] */
  int32_t *q;
  Scale *scale;
  size_t blocks, column_groups, groups_per_job, token_jobs, jobs, items, pieces;
  bool four;
} Work;

/* activations */

/* Tokens of a job; elements that are done sooner than another thread wakes up. */
enum { QUANTIZED_TOKENS = 8, QUANTIZED_ALONE = 1 << 15 };

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
  const i8x16 narrow[2] = {__builtin_convertvector(levels[0], i8x16), __builtin_convertvector(levels[1], i8x16)};
  memcpy(q, narrow, sizeof narrow);
  scale->scale = largest / 127;
  scale->sum = scale->scale * (float)__builtin_reduce_add(levels[0] + levels[1]);
}

static void quantize_body(void *user, size_t job) {
  const Work *work = user;
  const size_t end = (job + 1) * QUANTIZED_TOKENS;
  for (size_t t = job * QUANTIZED_TOKENS; t < end && t < work->adapted.tokens; t++)
    for (size_t b = 0; b < work->blocks; b++) {
      const size_t at = t * work->blocks + b, rest = work->adapted.in - b * BLOCK;
      quantize_block(work->adapted.x + t * work->adapted.in + b * BLOCK, rest < BLOCK ? rest : BLOCK, work->q + at * WORDS, work->scale + at);
    }
}

/* products */

#ifdef __AVX512F__
enum { TOKEN_TILE = 8 };
#else
enum { TOKEN_TILE = 2 };
#endif
enum { BYTES_AHEAD = 2048 };

/* Factors that are on their way into the cache while something else is computed. */
typedef struct {
  const Part *part, *end;
  const Plan *plan;
  const char *at, *stop;
  bool second;
  /* Cache lines to ask for with each block of weights. */
  size_t lines;
} Ahead;

enum { CACHE_LINE = 64 };

INLINE size_t factor_bytes(const Plan *plan, const Part *part, bool second) {
  const size_t across = second ? part->columns : plan->in;
  return (size_t)part->entry->rank * across * element(part->entry->kind == FLOAT16);
}

INLINE void begin_factor(Ahead *ahead) {
  const Entry *entry = ahead->part->entry;
  ahead->at = (const char *)(uintptr_t)(ahead->second ? entry->b : entry->a);
  ahead->stop = ahead->at + factor_bytes(ahead->plan, ahead->part, ahead->second);
}

INLINE void fetch(Ahead *ahead) {
  for (size_t i = 0; i < ahead->lines && ahead->part < ahead->end; i++) {
    __builtin_prefetch(ahead->at, 0, 1);
    ahead->at += CACHE_LINE;
    if (ahead->at < ahead->stop) continue;
    if (ahead->second) ahead->part++;
    ahead->second = !ahead->second;
    if (ahead->part < ahead->end) begin_factor(ahead);
  }
}

/* 16 outputs of `tokens` tokens. */
INLINE void product(const Work *work, size_t token, size_t group, int tokens, bool four, Ahead *ahead) {
  const size_t level_bytes = four ? BLOCK * LANES / 2 : BLOCK * LANES, stride = level_bytes + SCALES;
  const uint8_t *at = work->weight + group * work->blocks * stride;
  f32x16 sum[TOKEN_TILE];
  UNROLL for (int t = 0; t < tokens; t++) sum[t] = splat(0);
  for (size_t b = 0; b < work->blocks; b++, at += stride) {
    i32x16 dot[TOKEN_TILE];
    UNROLL for (int t = 0; t < tokens; t++) dot[t] = (i32x16){0};
    const int32_t *q[TOKEN_TILE];
    UNROLL for (int t = 0; t < tokens; t++) q[t] = work->q + ((token + (size_t)t) * work->blocks + b) * WORDS;
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
    if (ahead) fetch(ahead);
    if (tokens == 1)
      UNROLL for (size_t line = 0; line < stride; line += 64) __builtin_prefetch(at + BYTES_AHEAD + line);
    const _Float16 *scales = (const _Float16 *)(const void *)(at + level_bytes);
    const f32x16 d = load_f16(scales), m = load_f16(scales + LANES);
    UNROLL for (int t = 0; t < tokens; t++) {
      const Scale s = work->scale[(token + (size_t)t) * work->blocks + b];
      sum[t] = fma16(__builtin_convertvector(dot[t], f32x16) * splat(s.scale), d, sum[t]);
      sum[t] = fma16(m, splat(s.sum), sum[t]);
    }
  }
  const size_t column = group * LANES, rest = work->adapted.width - column;
  UNROLL for (int t = 0; t < tokens; t++) {
    float *y = work->adapted.out + (token + (size_t)t) * work->adapted.width + column;
    if (rest >= LANES) store(y, sum[t]);
    else store_some(y, sum[t], rest);
  }
}

INLINE void product_of(const Work *work, size_t from, size_t to, size_t group, bool four, Ahead *ahead) {
  size_t t = from;
  for (; t + TOKEN_TILE <= to; t += TOKEN_TILE) product(work, t, group, TOKEN_TILE, four, ahead);
  for (; t < to; t++) product(work, t, group, 1, four, ahead);
}

enum { TOKEN_BLOCK = 64, JOB_BYTES = 1 << 15 };

static void product_body(void *user, size_t job) {
  const Work *work = user;
  const size_t from = job % work->token_jobs * TOKEN_BLOCK, to = from + TOKEN_BLOCK < work->adapted.tokens ? from + TOKEN_BLOCK : work->adapted.tokens;
  const size_t first = job / work->token_jobs * work->groups_per_job;
  for (size_t g = first; g < first + work->groups_per_job && g < work->column_groups; g++) {
    if (work->four) product_of(work, from, to, g, true, NULL);
    else product_of(work, from, to, g, false, NULL);
  }
}

/*
 * Few tokens: each item is some columns of the product and some tokens of a group of rows with adapters. The factors
 * are asked for while the columns are computed, so memory and arithmetic work at the same time; what the adapters add
 * waits in `delta`, since a token's other columns are other items'.
 */
static void mixed_body(void *user, size_t item) {
  const Work *work = user;
  const Plan *plan = &work->adapted;
  const size_t from = item * work->column_groups / work->items, to = (item + 1) * work->column_groups / work->items;
  /* Jobs are spread over the items, so that neighbours do not all have one. */
  const size_t next = item * work->pieces / work->items;
  const Job *job = next < work->pieces && item == ceiling(next * work->items, work->pieces) ? &plan->job[next] : NULL;
  Ahead ahead = {.plan = plan};
  if (job) {
    const Group *group = &plan->group[job->group];
    ahead.part = plan->part + group->parts[0];
    ahead.end = plan->part + group->parts[plan->linears->count];
    begin_factor(&ahead);
    size_t bytes = 0;
    for (const Part *part = ahead.part; part < ahead.end; part++) bytes += factor_bytes(plan, part, false) + factor_bytes(plan, part, true);
    const size_t tiles = plan->tokens / TOKEN_TILE + plan->tokens % TOKEN_TILE;
    ahead.lines = to > from ? ceiling(bytes / CACHE_LINE, (to - from) * work->blocks * tiles) : 0;
  }
  for (size_t g = from; g < to; g++) {
    if (work->four) product_of(work, 0, plan->tokens, g, true, &ahead);
    else product_of(work, 0, plan->tokens, g, false, &ahead);
  }
  if (job) run_group(plan, job);
}

/* Of one token, in the order of plan->token. */
static void add_delta(void *user, size_t member) {
  const Plan *plan = &((const Work *)user)->adapted;
  const Group *group = plan->group;
  while (member >= group->first + group->tokens) group++;
  finish_columns(plan, plan->token[member], 0, plan->width, group->products > 0 ? plan->delta + member * plan->width : NULL);
}

/* Fewer items than this leave threads idle at the end. */
enum { ITEMS = 16, ADDED_ALONE = 1 << 13 };

enum { MIXED_TOKENS = 64 };

static OrtStatus *mixed(const Run *run, Work *work, const Extent *extent) {
  Plan *plan = &work->adapted;
  plan->product = malloc((extent->products + plan->tokens * plan->width) * sizeof(float) + plan->tokens * sizeof *plan->job);
  CHECK(run, plan->product, "out of memory for %zu products", extent->products);
  plan->delta = plan->product + extent->products;
  plan->job = (Job *)(void *)(plan->delta + plan->tokens * plan->width);
  for (size_t g = 0; g < plan->groups; g++) {
    const size_t tokens = plan->group[g].products > 0 ? plan->group[g].tokens : 0;
    for (size_t t = 0; t < tokens; t += TOKENS)
      plan->job[work->pieces++] = (Job){(uint32_t)g, 0, (uint32_t)t, (uint32_t)(tokens - t < TOKENS ? tokens - t : TOKENS), 0, 0};
  }
  work->items = work->pieces > ITEMS ? work->pieces : ITEMS;
  OrtStatus *status = parallel_for(run, work->items, mixed_body, work);
  if (!status && plan->tokens * plan->width > ADDED_ALONE) status = parallel_for(run, plan->tokens, add_delta, work);
  else
    for (size_t member = 0; member < plan->tokens && !status; member++) add_delta(work, member);
  free(plan->product);
  return status;
}

static OrtStatus *execute(const Run *run, Work *work) {
  Plan *plan = &work->adapted;
  const size_t quantized = ceiling(plan->tokens, QUANTIZED_TOKENS);
  if (plan->tokens * plan->in > QUANTIZED_ALONE) TRY(parallel_for(run, quantized, quantize_body, work));
  else
    for (size_t job = 0; job < quantized; job++) quantize_body(work, job);
  const Extent extent = extent_of(plan);
  if (extent.adapted > 0 && extent.small && plan->tokens <= MIXED_TOKENS) return mixed(run, work, &extent);
  TRY(parallel_for(run, work->jobs, product_body, work));
  return extent.adapted > 0 || plan->bias ? finish_all(run, plan) : NULL;
}

enum { X, WEIGHT, ROWS, ADAPTERS, BIAS };

static const Port inputs[] = {
    {"x", ORT_F32, ORT_REQUIRED},        {"weight", ORT_U8, ORT_REQUIRED}, {"rows", ORT_I32, ORT_OPTIONAL},
    {"adapters", ORT_I64, ORT_OPTIONAL}, {"bias", ORT_F32, ORT_OPTIONAL},
};
static const Port outputs[] = {{"y", ORT_F32, ORT_REQUIRED}};

static OrtStatus *compute(const Run *run, const void *pointer) {
  const State *state = pointer;
  Tensor x, weight, rows, adapters, bias;
  TRY(input_of_rank(run, X, 2, &x));
  TRY(input_of_rank(run, WEIGHT, 3, &weight));
  TRY(input_of_rank(run, ROWS, 2, &rows));
  TRY(input_of_rank(run, ADAPTERS, 3, &adapters));
  TRY(input_of_rank(run, BIAS, 1, &bias));
  const int64_t tokens = x.dims[0], in = x.dims[1], width = width_of(&state->linears);
  const int64_t blocks = (in + BLOCK - 1) / BLOCK, groups = (width + LANES - 1) / LANES;
  const int64_t stride = BLOCK * LANES * state->bits / 8 + (int64_t)SCALES;
  CHECK(run, weight.dims[0] == groups && weight.dims[1] == blocks && weight.dims[2] == stride,
        "weight [%lld, %lld, %lld] for %lld inputs and %lld outputs of %lld bits", (long long)weight.dims[0],
        (long long)weight.dims[1], (long long)weight.dims[2], (long long)in, (long long)width, (long long)state->bits);
  CHECK(run, !bias.data || bias.dims[0] == width, "bias of %lld for %lld outputs", (long long)bias.dims[0], (long long)width);
  void *y;
  TRY(output(run, 0, (int64_t[]){tokens, width}, 2, &y));
  if (tokens == 0) return NULL;

  Work work = {.adapted = {.linears = &state->linears, .y = y, .x = x.data, .bias = bias.data, .out = y, .tokens = (size_t)tokens,
                           .in = (size_t)in, .width = (size_t)width},
               .weight = weight.data, .blocks = (size_t)blocks, .column_groups = (size_t)groups, .four = state->bits == 4};
  TRY(plan_groups(run, &work.adapted, &rows, &adapters));
  work.token_jobs = ceiling(work.adapted.tokens, TOKEN_BLOCK);
  work.groups_per_job = ceiling(JOB_BYTES, work.blocks * (size_t)stride);
  work.jobs = work.token_jobs * ceiling(work.column_groups, work.groups_per_job);
  work.q = malloc(work.adapted.tokens * work.blocks * (BLOCK + sizeof(Scale)));
  OrtStatus *status = work.q ? NULL : refuse(run->api, run->op->name, "out of memory for %lld tokens", (long long)tokens);
  work.scale = (Scale *)(void *)(work.q + work.adapted.tokens * work.blocks * WORDS);
  if (!status) status = execute(run, &work);
  free(work.q);
  free(work.adapted.group);
  return status;
}

const Operator VARIANT_NAME(block_linear) = {
    .ort = {OPERATOR_CALLBACKS},
    .name = "BlockLinear",
    .inputs = sizeof inputs / sizeof *inputs,
    .input = inputs,
    .outputs = 1,
    .output = outputs,
    .state_bytes = sizeof(State),
    .prepare = prepare,
    .compute = compute,
};
