/*
 * Products with a low-rank pair, A [rank, in] and B [rank, out], in float32 or half floats, for a few tokens:
 *
 *   down  t_r   = x · A_r        16 partial sums over `in`, added by a fixed tree
 *   up    y_j  += t_r · B_rj     one after the other, r ascending
 *
 * A token's sums run in this order whether it is computed alone or beside others over one reading of the factors.
 */
#ifndef SWITCHYARD_LOW_RANK_H
#define SWITCHYARD_LOW_RANK_H

#include <stdbool.h>

#include "simd.h"

#ifdef __AVX512F__
enum { TOKENS = 4 };
#else
enum { TOKENS = 2 };
#endif
enum { RANKS = 4, AHEAD = 8 };

INLINE f32x16 factor(const void *p, size_t at, bool half) {
  return half ? load_f16((const _Float16 *)p + at) : load((const float *)p + at);
}

INLINE f32x16 factor_some(const void *p, size_t at, size_t n, bool half) {
  return half ? load_some_f16((const _Float16 *)p + at, n) : load_some((const float *)p + at, n);
}

INLINE size_t element(bool half) { return half ? sizeof(_Float16) : sizeof(float); }

/* Loops over a block of registers: unrolled, or the block would live in memory. */
#define UNROLL _Pragma("clang loop unroll(full)")

typedef float f32x4 __attribute__((vector_size(16)));

/* Sums of the lanes of four vectors, each by the same tree: lanes 8 apart, then 4, 2, 1. */
INLINE f32x4 sum4(f32x16 a, f32x16 b, f32x16 c, f32x16 d) {
  const f32x16 ab = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const f32x16 cd = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    __builtin_shufflevector(c, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  f32x16 all = __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               __builtin_shufflevector(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  all += __builtin_shufflevector(all, all, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  all += __builtin_shufflevector(all, all, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  return __builtin_shufflevector(all, all, 0, 4, 8, 12);
}

/* out[token][rank] = x · A_rank for `tokens` tokens and RANKS ranks, of which the first `ranks` are wanted. */
INLINE void dots(const float *const *x, int tokens, const void *a, bool half, size_t in, float *const *out, int ranks) {
  f32x16 partial[TOKENS][RANKS];
  UNROLL for (int t = 0; t < tokens; t++) UNROLL for (int r = 0; r < RANKS; r++) partial[t][r] = splat(0);
  size_t row[RANKS];
  UNROLL for (int r = 0; r < RANKS; r++) row[r] = (size_t)(r < ranks ? r : 0) * in;
  size_t i = 0;
  for (; i + LANES <= in; i += LANES) {
    f32x16 f[RANKS];
    UNROLL for (int r = 0; r < RANKS; r++) f[r] = factor(a, row[r] + i, half);
    /* A lone token waits for memory: the next rows of A, and after the last B, come early. */
    if (tokens == 1)
      UNROLL for (int r = 0; r < RANKS; r++) __builtin_prefetch((const char *)a + (((size_t)r + AHEAD) * in + i) * element(half));
    UNROLL for (int t = 0; t < tokens; t++) {
      const f32x16 v = load(x[t] + i);
      UNROLL for (int r = 0; r < RANKS; r++) partial[t][r] = fma16(v, f[r], partial[t][r]);
    }
  }
  if (i < in) {
    UNROLL for (int t = 0; t < tokens; t++) {
      const f32x16 v = load_some(x[t] + i, in - i);
      UNROLL for (int r = 0; r < RANKS; r++) partial[t][r] = fma16(v, factor_some(a, row[r] + i, in - i, half), partial[t][r]);
    }
  }
  UNROLL for (int t = 0; t < tokens; t++) {
    const f32x4 dot = sum4(partial[t][0], partial[t][1], partial[t][2], partial[t][3]);
    memcpy(out[t], &dot, (size_t)ranks * sizeof(float));
  }
}

INLINE void down(const float *const *x, size_t tokens, const void *a, bool half, size_t in, size_t ranks, float *const *out) {
  for (size_t t = 0, n; t < tokens; t += n) {
    n = t + TOKENS <= tokens ? TOKENS : 1;
    for (size_t r = 0; r < ranks; r += RANKS) {
      float *to[TOKENS];
      for (size_t k = 0; k < n; k++) to[k] = out[t + k] + r;
      const void *at = (const char *)a + r * in * element(half);
      const int wanted = ranks - r < RANKS ? (int)(ranks - r) : RANKS;
      if (n == 1) dots(x + t, 1, at, half, in, to, wanted);
      else dots(x + t, TOKENS, at, half, in, to, wanted);
    }
  }
}

enum { TILE = 4 };

/* One token: rows of B stream by, eight at a time. */
INLINE void up_row(float *y, const float *t, const void *b, size_t stride, bool half, size_t rank, size_t columns) {
  for (size_t r0 = 0; r0 < rank; r0 += AHEAD) {
    const size_t n = rank - r0 < AHEAD ? rank - r0 : AHEAD;
    const void *base = (const char *)b + r0 * stride * element(half);
    f32x16 w[AHEAD];
    for (size_t r = 0; r < n; r++) w[r] = splat(t[r0 + r]);
    size_t c = 0;
    for (; c + LANES <= columns; c += LANES) {
      f32x16 sum = load(y + c);
      if (n == AHEAD) {
        UNROLL for (size_t r = 0; r < AHEAD; r++) sum = fma16(w[r], factor(base, r * stride + c, half), sum);
        UNROLL for (size_t r = 0; r < AHEAD; r++) __builtin_prefetch((const char *)base + ((r + AHEAD) * stride + c) * element(half));
      } else {
        for (size_t r = 0; r < n; r++) sum = fma16(w[r], factor(base, r * stride + c, half), sum);
      }
      store(y + c, sum);
    }
    if (c < columns) {
      f32x16 sum = load_some(y + c, columns - c);
      for (size_t r = 0; r < n; r++) sum = fma16(w[r], factor_some(base, r * stride + c, columns - c, half), sum);
      store_some(y + c, sum, columns - c);
    }
  }
}

/* Several tokens: sums stay in registers while r runs. */
INLINE void up_tile(float *const *y, const float *const *t, const void *b, size_t stride, bool half, size_t rank, size_t c) {
  f32x16 sum[TOKENS][TILE];
  UNROLL for (int k = 0; k < TOKENS; k++) UNROLL for (int v = 0; v < TILE; v++) sum[k][v] = load(y[k] + c + v * LANES);
  for (size_t r = 0; r < rank; r++) {
    f32x16 f[TILE];
    UNROLL for (int v = 0; v < TILE; v++) f[v] = factor(b, r * stride + c + (size_t)v * LANES, half);
    UNROLL for (int k = 0; k < TOKENS; k++) {
      const f32x16 w = splat(t[k][r]);
      UNROLL for (int v = 0; v < TILE; v++) sum[k][v] = fma16(w, f[v], sum[k][v]);
    }
  }
  UNROLL for (int k = 0; k < TOKENS; k++) UNROLL for (int v = 0; v < TILE; v++) store(y[k] + c + v * LANES, sum[k][v]);
}

INLINE void up(float *const *y, const float *const *t, size_t tokens, const void *b, size_t stride, bool half, size_t rank, size_t columns) {
  size_t k = 0;
  for (; k + TOKENS <= tokens; k += TOKENS) {
    size_t c = 0;
    for (; c + TILE * LANES <= columns; c += TILE * LANES) up_tile(y + k, t + k, b, stride, half, rank, c);
    const void *rest = (const char *)b + c * element(half);
    if (c < columns)
      for (size_t i = k; i < k + TOKENS; i++) up_row(y[i] + c, t[i], rest, stride, half, rank, columns - c);
  }
  for (; k < tokens; k++) up_row(y[k], t[k], b, stride, half, rank, columns);
}

#endif
