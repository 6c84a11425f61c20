/*
 * The product that attention consists of: a few rows times a matrix that is read once for all of them.
 * Each element is one chain of fused multiply-adds in ascending order of the inner index, however rows and columns are cut.
 */
#ifndef SWITCHYARD_TILE_H
#define SWITCHYARD_TILE_H

#include <stdbool.h>

#include "simd.h"

/* Rows and vectors of one tile: as many accumulators as there are registers for. */
#if defined(__AVX512F__)
#define TILE_ROWS 8
#define TILE_VECTORS 2
#else
#define TILE_ROWS 6
#define TILE_VECTORS 1
#endif

/* A row-major matrix in the element type of the cache. */
typedef struct {
  const void *data;
  bool half;
  size_t stride;
} Matrix;

INLINE f32x16 load_element(bool half, const void *data, size_t index, size_t lanes) {
  if (half) return lanes == LANES ? load_f16((const _Float16 *)data + index) : load_some_f16((const _Float16 *)data + index, lanes);
  return lanes == LANES ? load((const float *)data + index) : load_some((const float *)data + index, lanes);
}

INLINE void tile(const bool half, const size_t rows, const size_t vectors, const size_t lanes, size_t inner, const float *a,
                 size_t a_stride, const void *b, size_t b_stride, float *c, size_t c_stride, bool fresh) {
  f32x16 sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (size_t i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (size_t v = 0; v < vectors; v++)
      sum[i][v] = fresh ? splat(0) : load_some(c + i * c_stride + v * LANES, lanes);
  for (size_t k = 0; k < inner; k++) {
    f32x16 column[TILE_VECTORS];
#pragma clang loop unroll(full)
    for (size_t v = 0; v < vectors; v++) column[v] = load_element(half, b, k * b_stride + v * LANES, lanes);
#pragma clang loop unroll(full)
    for (size_t i = 0; i < rows; i++)
#pragma clang loop unroll(full)
      for (size_t v = 0; v < vectors; v++) sum[i][v] = fma16(splat(a[i * a_stride + k]), column[v], sum[i][v]);
  }
#pragma clang loop unroll(full)
  for (size_t i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (size_t v = 0; v < vectors; v++) store_some(c + i * c_stride + v * LANES, sum[i][v], lanes);
}

INLINE void tiles(const bool half, const size_t rows, size_t columns, size_t inner, const float *a, size_t a_stride, const void *b,
                  size_t b_stride, float *c, size_t c_stride, bool fresh) {
  const size_t element = half ? sizeof(_Float16) : sizeof(float);
  size_t j = 0;
  for (; j + TILE_VECTORS * LANES <= columns; j += TILE_VECTORS * LANES)
    tile(half, rows, TILE_VECTORS, LANES, inner, a, a_stride, (const char *)b + j * element, b_stride, c + j, c_stride, fresh);
  for (; j + LANES <= columns; j += LANES)
    tile(half, rows, 1, LANES, inner, a, a_stride, (const char *)b + j * element, b_stride, c + j, c_stride, fresh);
  if (j < columns) tile(half, rows, 1, LANES / 2, inner, a, a_stride, (const char *)b + j * element, b_stride, c + j, c_stride, fresh);
}

/* c [rows, columns] = a [rows, inner] · b [inner, columns], added to c unless `fresh`. rows ≤ TILE_ROWS; columns a multiple of 8. */
static void multiply(size_t rows, size_t columns, size_t inner, const float *a, size_t a_stride, Matrix b, float *c, size_t c_stride,
                     bool fresh) {
#define ROWS(n)                                                                                          \
  case n:                                                                                                \
    if (b.half) tiles(true, n, columns, inner, a, a_stride, b.data, b.stride, c, c_stride, fresh);       \
    else tiles(false, n, columns, inner, a, a_stride, b.data, b.stride, c, c_stride, fresh);             \
    break;
  switch (rows) {
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#if TILE_ROWS == 8
    ROWS(7) ROWS(8)
#endif
  }
#undef ROWS
}

#endif
