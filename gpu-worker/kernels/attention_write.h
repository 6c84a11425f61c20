/* First half of attention: queries, keys and values of new tokens, normalised and rotated, to where they are read from. */
#ifndef SWITCHYARD_ATTENTION_WRITE_H
#define SWITCHYARD_ATTENTION_WRITE_H

#include "attention.h"

/* y = gain ∘ x / √(mean(x²) + ε) over one head. */
static void normalise(const Call *call, const float *gain, const float *x, float *y) {
  const size_t dim = call->dim;
  f32x16 squares = splat(0);
  for (size_t i = 0; i < dim; i += LANES) {
    const f32x16 v = load_up_to(x + i, dim - i);
    squares = fma16(v, v, squares);
  }
  const f32x16 factor = splat(1.0f / __builtin_sqrtf(sum_lanes(squares) / (float)dim + call->options->epsilon));
  for (size_t i = 0; i < dim; i += LANES)
    store_up_to(y + i, load_up_to(x + i, dim - i) * factor * load_up_to(gain + i, dim - i), dim - i);
}

/* y = x with its first `rotary` dimensions rotated in pairs (i, i + rotary/2), as position `at` asks. */
static void rotate(const Call *call, size_t at, float *y) {
  const size_t half = (size_t)call->options->rotary / 2;
  const float *cos = call->cos + at * half, *sin = call->sin + at * half;
  for (size_t i = 0; i < half; i += LANES) {
    const size_t left = half - i;
    const f32x16 a = load_up_to(y + i, left), b = load_up_to(y + half + i, left);
    const f32x16 c = load_up_to(cos + i, left), s = load_up_to(sin + i, left);
    store_up_to(y + i, a * c - b * s, left);
    store_up_to(y + half + i, b * c + a * s, left);
  }
}

/* One head's vector as attention uses it. */
static void prepare_head(const Call *call, const float *gain, size_t at, const float *x, float *y) {
  if (gain) normalise(call, gain, x, y);
  else memcpy(y, x, call->dim * sizeof(float));
  if (call->options->rotary) rotate(call, at, y);
}

static void to_half(const float *x, _Float16 *y, size_t count) {
  for (size_t i = 0; i < count; i += LANES) store_f16_bounded(y + i, load_up_to(x + i, count - i), count - i);
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

/* Tokens `from` … `to` − 1 of a row, of kv heads `head` … `end` − 1: keys and values into the pool, scaled queries into `out`. */
static void write_tokens(const Call *call, size_t row, size_t from, size_t to, size_t head, size_t end) {
  const size_t heads = (size_t)call->options->heads, kv_heads = (size_t)call->options->kv_heads, dim = call->dim;
  const f32x16 scale = splat(call->options->scale);
  for (size_t i = from; i < to; i++) {
    const size_t token = (size_t)call->rows[row].first + i, at = (size_t)call->rows[row].past + i;
    const float *x = call->qkv + token * (heads + 2 * kv_heads) * dim;
    for (size_t h = head * call->group; h < end * call->group; h++) {
      float *q = call->out + (token * heads + h) * dim;
      prepare_head(call, call->q_gain, at, x + h * dim, q);
      for (size_t j = 0; j < dim; j += LANES) store_up_to(q + j, load_up_to(q + j, dim - j) * scale, dim - j);
    }
    for (size_t h = head; h < end; h++) {
      float key[MAX_HEAD_DIM];
      prepare_head(call, call->k_gain, at, x + (heads + h) * dim, key);
      write_head(call, row, at, h, key, x + (heads + kv_heads + h) * dim);
    }
  }
}

#endif
