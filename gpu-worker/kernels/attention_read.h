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

/* Softmax over a part of the positions; `sum` holds `dim` floats. */
typedef struct {
  float largest, total;
} Part;

/* Positions that a query sees, both included. */
typedef struct {
  int32_t low, high;
} Visible;

INLINE Visible visible(const Call *call, int32_t at) {
  const int64_t window = call->options->window;
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

/* One segment for up to TILE_ROWS queries of one kv head: q [rows, dim] → parts [rows], sums [rows, dim]. */
static void attend_segment(const Call *call, size_t row, size_t kv_head, size_t segment, size_t rows, const float *q, const Visible *seen,
                           Part *parts, float *sums) {
  float scores[TILE_ROWS][SEGMENT];
  const size_t dim = call->dim;
  int32_t low = seen[0].low, high = seen[0].high;
  for (size_t i = 1; i < rows; i++) {
    low = seen[i].low < low ? seen[i].low : low;
    high = seen[i].high > high ? seen[i].high : high;
  }
  const int32_t begin = (int32_t)segment * SEGMENT, end = begin + SEGMENT - 1;
  low = low < begin ? begin : low;
  high = high > end ? end : high;
  if (low > high) {
    for (size_t i = 0; i < rows; i++) parts[i] = (Part){-__builtin_inff(), 0};
    return;
  }
  const size_t first = (size_t)low / PAGE, last = (size_t)high / PAGE;
  const int32_t start = (int32_t)first * PAGE;
  for (size_t page = first; page <= last; page++) {
    const Matrix keys = {pool_at(call, page_keys(call, row, page, kv_head)), call->half, PAGE};
    multiply(rows, PAGE, dim, q, dim, keys, &scores[0][(page - first) * PAGE], SEGMENT, true);
  }
  for (size_t i = 0; i < rows; i++) {
    mask_and_cap(call, seen[i], start, (last - first + 1) * PAGE, scores[i]);
    parts[i] = exponentials(scores[i], (last - first + 1) * PAGE);
  }
  for (size_t page = first; page <= last; page++) {
    /* Beyond `high` the page holds nothing yet, or what another sequence left. */
    const size_t left = (size_t)high + 1 - page * PAGE;
    const Matrix values = {pool_at(call, page_values(call, row, page, kv_head)), call->half, dim};
    multiply(rows, dim, left < PAGE ? left : PAGE, &scores[0][(page - first) * PAGE], SEGMENT, values, sums, dim, page == first);
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
