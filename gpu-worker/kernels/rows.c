/*
 * Operators on one token's row at a time: RMS norm, gated units, and the 8-bit rows that the integer products read.
 * Threads share out whole rows, so a row's bits depend on nothing but the row.
 *
 *   q = round(x · 127 / largest) + 128,   largest = max |x|        (models/int8.ts)
 *
 * Where nothing reads `q` and `largest` they are left out.
 */
#include <math.h>

#include "operator.h"
#include "simd.h"

/* Elements that are done sooner than another thread wakes up, and elements of a job. */
enum { SMALL = 1 << 14, PER_JOB = 1 << 12 };

typedef struct Rows Rows;
struct Rows {
  size_t rows, width;
  void (*row)(const Rows *, size_t);
  /* What is read, by operator. */
  const float *x, *delta, *gain, *signs;
  size_t block;
  float epsilon;
  int64_t activation;
  /* What is written; NULL where it is not wanted. */
  float *sum, *out, *largest;
  uint8_t *q;
};

static size_t rows_per_job(const Rows *work) { return work->width < PER_JOB ? PER_JOB / work->width : 1; }

static void rows_body(void *user, size_t job) {
  const Rows *work = user;
  const size_t some = rows_per_job(work), end = (job + 1) * some;
  for (size_t r = job * some; r < end && r < work->rows; r++) work->row(work, r);
}

static OrtStatus *run_rows(const Run *run, Rows *work) {
  if (work->rows == 0 || work->width == 0) return NULL;
  const size_t some = rows_per_job(work), jobs = (work->rows + some - 1) / some;
  if (work->rows * work->width >= SMALL) return parallel_for(run, jobs, rows_body, work);
  for (size_t job = 0; job < jobs; job++) rows_body(work, job);
  return NULL;
}

/* quantisation */

/* Magnitudes of floats are ordered as their bits are; what is not a number comes out largest. */
INLINE i32x16 magnitude(f32x16 x) { return (i32x16)x & 0x7fffffff; }

INLINE float largest_magnitude(const float *x, size_t n) {
  i32x16 largest = {0};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) largest = __builtin_elementwise_max(largest, magnitude(load(x + i)));
  if (i < n) largest = __builtin_elementwise_max(largest, magnitude(load_some(x + i, n - i)));
  const int32_t bits = __builtin_reduce_max(largest);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

typedef uint8_t u8x16 __attribute__((vector_size(16)));

/* round(x · scale) + 128 for |x · scale| ≤ 127: adding 1.5·2^23 rounds, half to even, into the low bits. */
INLINE u8x16 levels(f32x16 x, f32x16 scale) {
  const f32x16 rounder = splat(12582912.0f);
  return __builtin_convertvector((i32x16)fma16(x, scale, rounder) - (i32x16)rounder + 128, u8x16);
}

static void quantize(const Rows *work, size_t r, const float *x) {
  if (!work->q) return;
  const size_t n = work->width;
  uint8_t *q = work->q + r * n;
  const float largest = largest_magnitude(x, n);
  work->largest[r] = largest;
  const f32x16 scale = splat(largest > 0 ? 127 / largest : 0);
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const u8x16 level = levels(load(x + i), scale);
    memcpy(q + i, &level, sizeof level);
  }
  if (i < n) {
    const u8x16 level = levels(load_some(x + i, n - i), scale);
    memcpy(q + i, &level, n - i);
  }
}

static void quantize_row(const Rows *work, size_t r) { quantize(work, r, work->x + r * work->width); }

/* norm: out = gain ∘ s / √(mean(s²) + ε), s = x + delta */

static void norm_row(const Rows *work, size_t r) {
  const size_t n = work->width;
  const float *x = work->x + r * n;
  f32x16 squares[2] = {splat(0), splat(0)};
  size_t i = 0;
  if (work->delta) {
    const float *delta = work->delta + r * n;
    float *sum = work->sum + r * n;
    for (size_t c = 0; c < n / LANES * LANES; c += LANES) store(sum + c, load(x + c) + load(delta + c));
    for (size_t c = n / LANES * LANES; c < n; c++) sum[c] = x[c] + delta[c];
    x = sum;
  }
  for (; i + 2 * LANES <= n; i += 2 * LANES)
    for (size_t k = 0; k < 2; k++) squares[k] = fma16(load(x + i + k * LANES), load(x + i + k * LANES), squares[k]);
  for (; i < n; i += LANES) {
    const f32x16 rest = load_some(x + i, n - i < LANES ? n - i : LANES);
    squares[0] = fma16(rest, rest, squares[0]);
  }
  const f32x16 factor = splat(1 / sqrtf(sum_lanes(squares[0] + squares[1]) / (float)n + work->epsilon));
  float *out = work->out + r * n;
  i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, load(x + i) * factor * load(work->gain + i));
  if (i < n) store_some(out + i, load_some(x + i, n - i) * factor * load_some(work->gain + i, n - i), n - i);
  quantize(work, r, out);
}

/* gated units: out = act(gate) ∘ up, turned block by block by a signed Walsh–Hadamard matrix */

enum { SILU = 0, GELU_TANH = 1, GELU_ERF = 2 };

/* erf within 2e-7 (Abramowitz and Stegun 7.1.26). */
INLINE f32x16 erf16(f32x16 x) {
  const i32x16 sign = (i32x16)x & (i32x16)splat(-0.0f);
  const f32x16 size = (f32x16)((i32x16)x ^ sign);
  const f32x16 t = splat(1) / fma16(splat(0.3275911f), size, splat(1));
  f32x16 p = splat(1.061405429f);
  p = fma16(p, t, splat(-1.453152027f));
  p = fma16(p, t, splat(1.421413741f));
  p = fma16(p, t, splat(-0.284496736f));
  p = fma16(p, t, splat(0.254829592f));
  return (f32x16)((i32x16)(splat(1) - p * t * exp16(-(size * size))) | sign);
}

INLINE f32x16 activate(f32x16 x, int64_t activation) {
  if (activation == SILU) return x / (splat(1) + exp16(-x));
  const f32x16 half = splat(0.5f) * x;
  if (activation == GELU_ERF) return fma16(half, erf16(x * splat(0.70710678118654752f)), half);
  const f32x16 inner = splat(0.79788456080286536f) * fma16(x * x * x, splat(0.044715f), x);
  return fma16(half, tanh16(inner), half);
}

/* One level of butterflies between lanes i and i ^ distance: their sum goes to the lower, their difference to the higher. */
INLINE f32x16 butterflies(f32x16 v, size_t block) {
#define LEVEL(distance, ...)                                                                     \
  if (block > distance) {                                                                        \
    f32x16 sign;                                                                                 \
    for (size_t lane = 0; lane < LANES; lane++) sign[lane] = lane & distance ? -1.0f : 1.0f;     \
    v = fma16(v, sign, __builtin_shufflevector(v, v, __VA_ARGS__));                              \
  }
  LEVEL(1, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
  LEVEL(2, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
  LEVEL(4, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
  LEVEL(8, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
  return v;
#undef LEVEL
}

enum { MAX_BLOCK = 64 };

/* x [n] turned in blocks of at most a vector each; n may end inside a vector, never inside a block. */
static void turn_narrow(float *x, size_t n, const float *signs, size_t block) {
  f32x16 sign;
  for (size_t lane = 0; lane < LANES; lane++) sign[lane] = signs[lane % block];
  for (size_t i = 0; i < n; i += LANES) {
    const size_t some = n - i < LANES ? n - i : LANES;
    store_some(x + i, butterflies(load_some(x + i, some) * sign, block), some);
  }
}

/* Blocks of several vectors: butterflies inside each vector, then between them. */
static void turn_wide(float *x, size_t n, const float *signs, size_t block) {
  for (size_t i = 0; i < n; i += block) {
    for (size_t c = 0; c < block; c += LANES) store(x + i + c, butterflies(load(x + i + c) * load(signs + c), LANES));
    for (size_t distance = LANES; distance < block; distance *= 2)
      for (size_t c = 0; c < block; c += LANES) {
        if (c & distance) continue;
        const f32x16 a = load(x + i + c), b = load(x + i + c + distance);
        store(x + i + c, a + b);
        store(x + i + c + distance, a - b);
      }
  }
}

INLINE void gate_row(const float *gate, float *out, size_t n, int64_t activation) {
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) store(out + i, activate(load(gate + i), activation) * load(gate + n + i));
  if (i < n) store_some(out + i, activate(load_some(gate + i, n - i), activation) * load_some(gate + n + i, n - i), n - i);
}

static void units_row(const Rows *work, size_t r) {
  const size_t n = work->width;
  const float *gate = work->x + r * 2 * n;
  float *out = work->out + r * n;
  switch (work->activation) {
    case SILU: gate_row(gate, out, n, SILU); break;
    case GELU_TANH: gate_row(gate, out, n, GELU_TANH); break;
    default: gate_row(gate, out, n, GELU_ERF);
  }
  if (work->signs && work->block < LANES) turn_narrow(out, n, work->signs, work->block);
  else if (work->signs) turn_wide(out, n, work->signs, work->block);
  quantize(work, r, out);
}

/* the operators */

static OrtStatus *quantized_outputs(const Run *run, size_t index, int64_t rows, int64_t width, Rows *work) {
  TRY(output(run, index, (int64_t[]){rows, width}, 2, (void **)&work->q));
  TRY(output(run, index + 1, (int64_t[]){rows, 1}, 2, (void **)&work->largest));
  CHECK(run, !work->q == !work->largest, "levels and their scales are wanted together");
  return NULL;
}

static OrtStatus *prepare_nothing(const Attributes *attributes, void *state) {
  (void)attributes, (void)state;
  return NULL;
}

static OrtStatus *quantize_rows_compute(const Run *run, const void *state) {
  (void)state;
  Tensor x;
  TRY(input_of_rank(run, 0, 2, &x));
  Rows work = {.rows = (size_t)x.dims[0], .width = (size_t)x.dims[1], .row = quantize_row, .x = x.data};
  TRY(quantized_outputs(run, 0, x.dims[0], x.dims[1], &work));
  return run_rows(run, &work);
}

static const Port quantize_inputs[] = {{"x", ORT_F32, ORT_REQUIRED}};
static const Port quantize_outputs[] = {{"q", ORT_U8, ORT_REQUIRED}, {"largest", ORT_F32, ORT_REQUIRED}};

const Operator VARIANT_NAME(quantize_rows) = {
    .ort = {OPERATOR_CALLBACKS},
    .name = "QuantizeRows",
    .inputs = sizeof quantize_inputs / sizeof *quantize_inputs,
    .input = quantize_inputs,
    .outputs = sizeof quantize_outputs / sizeof *quantize_outputs,
    .output = quantize_outputs,
    .prepare = prepare_nothing,
    .compute = quantize_rows_compute,
};

static OrtStatus *norm_prepare(const Attributes *attributes, void *epsilon) { return attribute_float(attributes, "epsilon", epsilon); }

static OrtStatus *norm_compute(const Run *run, const void *epsilon) {
  Tensor x, delta, gain;
  TRY(input_of_rank(run, 0, 2, &x));
  TRY(input_of_rank(run, 1, 2, &delta));
  TRY(input_of_rank(run, 2, 1, &gain));
  const int64_t rows = x.dims[0], width = x.dims[1];
  CHECK(run, !delta.data || (delta.dims[0] == rows && delta.dims[1] == width), "delta [%lld, %lld] for a stream [%lld, %lld]",
        (long long)delta.dims[0], (long long)delta.dims[1], (long long)rows, (long long)width);
  CHECK(run, gain.dims[0] == width, "gain of %lld for a width of %lld", (long long)gain.dims[0], (long long)width);
  Rows work = {.rows = (size_t)rows, .width = (size_t)width, .row = norm_row, .x = x.data, .delta = delta.data, .gain = gain.data,
               .epsilon = *(const float *)epsilon};
  TRY(output(run, 0, x.dims, 2, (void **)&work.out));
  TRY(output(run, 1, x.dims, 2, (void **)&work.sum));
  CHECK(run, rows == 0 || !work.delta == !work.sum, "the sum is wanted exactly where there is a delta");
  TRY(quantized_outputs(run, 2, rows, width, &work));
  return run_rows(run, &work);
}

static const Port norm_inputs[] = {{"stream", ORT_F32, ORT_REQUIRED}, {"delta", ORT_F32, ORT_OPTIONAL}, {"gain", ORT_F32, ORT_REQUIRED}};
static const Port norm_outputs[] = {
    {"norm", ORT_F32, ORT_REQUIRED}, {"sum", ORT_F32, ORT_OPTIONAL}, {"q", ORT_U8, ORT_OPTIONAL}, {"largest", ORT_F32, ORT_OPTIONAL}};

const Operator VARIANT_NAME(add_norm_quantize) = {
    .ort = {OPERATOR_CALLBACKS},
    .name = "AddNormQuantize",
    .inputs = sizeof norm_inputs / sizeof *norm_inputs,
    .input = norm_inputs,
    .outputs = sizeof norm_outputs / sizeof *norm_outputs,
    .output = norm_outputs,
    .state_bytes = sizeof(float),
    .prepare = norm_prepare,
    .compute = norm_compute,
};

static OrtStatus *units_prepare(const Attributes *attributes, void *activation) {
  return attribute_int(attributes, "activation", activation);
}

static OrtStatus *units_compute(const Run *run, const void *activation) {
  Tensor x, signs;
  TRY(input_of_rank(run, 0, 2, &x));
  TRY(input_of_rank(run, 1, 1, &signs));
  const int64_t rows = x.dims[0], width = x.dims[1] / 2, block = signs.data ? signs.dims[0] : 1;
  CHECK(run, x.dims[1] % 2 == 0, "gate and up have %lld columns together", (long long)x.dims[1]);
  CHECK(run, block > 0 && block <= MAX_BLOCK && (block & (block - 1)) == 0 && width % block == 0, "blocks of %lld in %lld units",
        (long long)block, (long long)width);
  Rows work = {.rows = (size_t)rows, .width = (size_t)width, .row = units_row, .x = x.data, .signs = signs.data, .block = (size_t)block,
               .activation = *(const int64_t *)activation};
  TRY(output(run, 0, (int64_t[]){rows, width}, 2, (void **)&work.out));
  TRY(quantized_outputs(run, 1, rows, width, &work));
  return run_rows(run, &work);
}

static const Port units_inputs[] = {{"gate_up", ORT_F32, ORT_REQUIRED}, {"signs", ORT_F32, ORT_OPTIONAL}};
static const Port units_outputs[] = {{"units", ORT_F32, ORT_REQUIRED}, {"q", ORT_U8, ORT_OPTIONAL}, {"largest", ORT_F32, ORT_OPTIONAL}};

const Operator VARIANT_NAME(gated_units) = {
    .ort = {OPERATOR_CALLBACKS},
    .name = "GatedUnits",
    .inputs = sizeof units_inputs / sizeof *units_inputs,
    .input = units_inputs,
    .outputs = sizeof units_outputs / sizeof *units_outputs,
    .output = units_outputs,
    .state_bytes = sizeof(int64_t),
    .prepare = units_prepare,
    .compute = units_compute,
};
