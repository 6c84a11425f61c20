/*
 * Second half of attention: softmax(q·Kᵀ)·V over a row's pages.
 *
 *   positions   0 ───────── 255 │ 256 ──────── 511 │ 512 …         segments, at fixed positions
 *                m₀, l₀, a₀     │  m₁, l₁, a₁      │               largest score, sum of e^(s−m), sum of e^(s−m)·V
 *                     └──── merged in this order, one after the other ────┘
 *
 * What a query gets depends on its own values and on the keys and values it sees, in this order, and on nothing else:
 * queries that share a load of the pages only add terms that are exactly zero for each other.
 */
#ifndef SWITCHYARD_ATTENTION_READ_H
#define SWITCHYARD_ATTENTION_READ_H

#include "attention.h"
#include "tile.h"

/* Queries that meet a page while it is at hand. */
#define MAX_QUERIES 64
#define CACHE_LINE 64

/* Softmax over a part of the positions; `sum` holds `dim` floats. */
typedef struct {
  float largest, total;
} Part;

/* Positions that a query sees, both included: those up to its own, or without `causal` all of its row. */
typedef struct {
  int32_t low, high;
} Visible;

INLINE Visible visible(const Call *call, size_t row, int32_t at) {
  const int64_t window = call->options->window;
  if (!call->options->causal) return (Visible){0, call->rows[row].past + call->rows[row].tokens - 1};
  return (Visible){window > 0 && at >= window ? (int32_t)(at - window + 1) : 0, at};
}

static void mask_and_cap(const Call *call, Visible seen, int32_t start, size_t count, float *scores) {
  const f32x16 hidden = splat(-__builtin_inff());
  const i32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const float cap = call->options->softcap;
  for (size_t i = 0; i < count; i += LANES) {
    const i32x16 at = lane + (start + (int32_t)i);
    f32x16 s = load(scores + i);
    if (cap > 0) s = splat(cap) * tanh16(s / splat(cap));
    store(scores + i, choose((at >= seen.low) & (at <= seen.high), s, hidden));
  }
}

/* Turns scores into e^(score − largest); a query that sees nothing here gets zeros and a largest of −∞. */
static Part exponentials(float *scores, size_t count) {
  f32x16 largest = splat(-__builtin_inff());
  for (size_t i = 0; i < count; i += LANES) largest = max16(load(scores + i), largest);
  const float top = max_lanes(largest);
  f32x16 total = splat(0);
  const f32x16 shift = splat(top == -__builtin_inff() ? 0 : top);
  for (size_t i = 0; i < count; i += LANES) {
    const f32x16 e = exp16(load(scores + i) - shift);
    store(scores + i, e);
    total += e;
  }
  return (Part){top, sum_lanes(total)};
}

/* What one item needs beside its queries. */
typedef struct {
  _Alignas(64) float scores[MAX_QUERIES][SEGMENT];
  _Alignas(64) float page[PAGE * MAX_HEAD_DIM];
} Scratch;

/* Starts to bring a page's keys or values near, while the one before is worked on: pages lie anywhere in the pool. */
static void expect_page(const Call *call, size_t element) {
  const char *from = pool_at(call, element);
  const size_t bytes = PAGE * call->dim * (call->half ? sizeof(_Float16) : sizeof(float));
  for (size_t i = 0; i < bytes; i += CACHE_LINE) __builtin_prefetch(from + i, 0, 2);
}

/* A page's keys or values, brought to floats once when several tiles will read them. */
static Matrix page_matrix(const Call *call, size_t element, size_t stride, size_t queries, Scratch *scratch) {
  const Matrix stored = {pool_at(call, element), call->half, stride};
  if (!call->half || queries <= TILE_ROWS) return stored;
  const _Float16 *halves = stored.data;
  for (size_t i = 0; i < PAGE * call->dim; i += LANES) store(scratch->page + i, load_f16(halves + i));
  return (Matrix){scratch->page, false, stride};
}

/* One segment for queries of one kv head: q [queries, dim] → parts [queries], sums [queries, dim]. */
static void attend_segment(const Call *call, size_t row, size_t kv_head, size_t segment, size_t queries, const float *q, const Visible *seen,
                           Scratch *scratch, Part *parts, float *sums) {
  const size_t dim = call->dim;
  int32_t low = seen[0].low, high = seen[queries - 1].high;
  const int32_t begin = (int32_t)segment * SEGMENT, end = begin + SEGMENT - 1;
  low = low < begin ? begin : low;
  high = high > end ? end : high;
  const size_t first = (size_t)low / PAGE, last = (size_t)high / PAGE, count = (last - first + 1) * PAGE;
  for (size_t page = first; page <= last; page++) {
    expect_page(call, page_values(call, row, page, kv_head));
    if (page < last) expect_page(call, page_keys(call, row, page + 1, kv_head));
    const Matrix keys = page_matrix(call, page_keys(call, row, page, kv_head), PAGE, queries, scratch);
    for (size_t i = 0; i < queries; i += TILE_ROWS) {
      const size_t rows = queries - i < TILE_ROWS ? queries - i : TILE_ROWS;
      multiply(rows, PAGE, dim, q + i * dim, dim, keys, &scratch->scores[i][(page - first) * PAGE], SEGMENT, true);
    }
  }
  for (size_t i = 0; i < queries; i++) {
    mask_and_cap(call, seen[i], (int32_t)first * PAGE, count, scratch->scores[i]);
    parts[i] = exponentials(scratch->scores[i], count);
  }
  for (size_t page = first; page <= last; page++) {
    const Matrix values = page_matrix(call, page_values(call, row, page, kv_head), dim, queries, scratch);
    /* Beyond `high` the page holds nothing yet, or what another sequence left. */
    const size_t left = (size_t)high + 1 - page * PAGE, inner = left < PAGE ? left : PAGE;
    for (size_t i = 0; i < queries; i += TILE_ROWS) {
      const size_t rows = queries - i < TILE_ROWS ? queries - i : TILE_ROWS;
      multiply(rows, dim, inner, &scratch->scores[i][(page - first) * PAGE], SEGMENT, values, sums + i * dim, dim, page == first);
    }
  }
}

/* Adds a later part to what came before it. */
static void merge(Part *into, float *into_sum, Part part, const float *sum, size_t dim) {
  if (part.largest == -__builtin_inff()) return;
  if (into->largest == -__builtin_inff()) {
    *into = part;
    memcpy(into_sum, sum, dim * sizeof(float));
    return;
  }
  const float largest = into->largest > part.largest ? into->largest : part.largest;
  const f32x16 shrink = exp16(splat(into->largest - largest)), grow = exp16(splat(part.largest - largest));
  into->total = into->total * shrink[0] + part.total * grow[0];
  into->largest = largest;
  for (size_t i = 0; i < dim; i += 8)
    for (size_t j = i; j < i + 8; j++) into_sum[j] = into_sum[j] * shrink[0] + sum[j] * grow[0];
}

/* Divides by the sum of weights. Adding zero makes a −0 that only rounding far below made the +0 that it is elsewhere. */
static void finish(float *out, float total, size_t dim) {
  const float factor = 1.0f / total;
  for (size_t i = 0; i < dim; i++) out[i] = out[i] * factor + 0.0f;
}

#endif
