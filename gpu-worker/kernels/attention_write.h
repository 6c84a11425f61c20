/* First half of attention: queries, keys and values of new tokens, normalised and rotated, to where they are read from. */
#ifndef SWITCHYARD_ATTENTION_WRITE_H
#define SWITCHYARD_ATTENTION_WRITE_H

#include "attention.h"

INLINE f32x16 load_up_to(const float *from, size_t left) { return left >= LANES ? load(from) : load_some(from, left); }

/* y = gain ∘ x / √(mean(x²) + ε) over one head. */
static void normalise(const Call *call, const float *gain, const float *x, float *y) {
  const size_t dim = call->dim;
  f32x16 squares = splat(0);
  for (size_t i = 0; i < dim; i += LANES) {
    const f32x16 v = load_up_to(x + i, dim - i);
    squares = fma16(v, v, squares);
  }
  const float factor = 1.0f / __builtin_sqrtf(sum_lanes(squares) / (float)dim + call->options->epsilon);
  for (size_t i = 0; i < dim; i++) y[i] = x[i] * factor * gain[i];
}

/* y = x with its first `rotary` dimensions rotated in pairs (i, i + rotary/2), as position `at` asks. */
static void rotate(const Call *call, size_t at, float *y) {
  const size_t half = (size_t)call->options->rotary / 2;
  const float *cos = call->cos + at * half, *sin = call->sin + at * half;
  for (size_t i = 0; i < half; i++) {
    const float a = y[i], b = y[i + half];
    y[i] = a * cos[i] - b * sin[i];
    y[i + half] = b * cos[i] + a * sin[i];
  }
}

/* One head's vector as attention uses it. */
static void prepare_head(const Call *call, const float *gain, size_t at, const float *x, float *y) {
  if (gain) normalise(call, gain, x, y);
  else memcpy(y, x, call->dim * sizeof(float));
  if (call->options->rotary) rotate(call, at, y);
}

/* Rounds to the nearest half float; what is larger than the largest becomes it, since infinities would poison neighbours. */
static void to_half(const float *x, _Float16 *y, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const float bounded = x[i] > 65504.0f ? 65504.0f : x[i] < -65504.0f ? -65504.0f : x[i];
    y[i] = (_Float16)bounded;
  }
}

static void write_head(const Call *call, size_t row, size_t at, size_t kv_head, const float *key, const float *value) {
  const size_t dim = call->dim, slot = at % PAGE;
  const size_t keys = page_keys(call, row, at / PAGE, kv_head) + slot;
  const size_t values = page_values(call, row, at / PAGE, kv_head) + slot * dim;
  if (call->half) {
    _Float16 rounded[MAX_HEAD_DIM], *pool = call->pool;
    to_half(key, rounded, dim);
    for (size_t i = 0; i < dim; i++) pool[keys + i * PAGE] = rounded[i];
    to_half(value, pool + values, dim);
  } else {
    float *pool = call->pool;
    for (size_t i = 0; i < dim; i++) pool[keys + i * PAGE] = key[i];
    memcpy(pool + values, value, dim * sizeof(float));
  }
}

/* Tokens `from` … `to` − 1 of a row: keys and values into the pool, scaled queries into `out`. */
static void write_tokens(const Call *call, size_t row, size_t from, size_t to) {
  const Options *options = call->options;
  const size_t heads = (size_t)options->heads, kv_heads = (size_t)options->kv_heads, dim = call->dim;
  for (size_t i = from; i < to; i++) {
    const size_t token = (size_t)call->rows[row].first + i, at = (size_t)call->rows[row].past + i;
    const float *x = call->qkv + token * (heads + 2 * kv_heads) * dim;
    float *q = call->out + token * heads * dim;
    for (size_t h = 0; h < heads; h++) prepare_head(call, call->q_gain, at, x + h * dim, q + h * dim);
    for (size_t j = 0; j < heads * dim; j++) q[j] *= options->scale;
    for (size_t h = 0; h < kv_heads; h++) {
      float key[MAX_HEAD_DIM];
      prepare_head(call, call->k_gain, at, x + (heads + h) * dim, key);
      write_head(call, row, at, h, key, x + (heads + kv_heads + h) * dim);
    }
  }
}

#endif
