/*
 * Vectors of 16 floats on every instruction set. A lane's arithmetic is written out operation by operation, and the
 * compiler may neither contract nor reorder it, so a result has the same bits whether a register holds 4, 8 or 16 lanes.
 */
#ifndef SWITCHYARD_SIMD_H
#define SWITCHYARD_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef _Float16 f16x16 __attribute__((vector_size(32)));
typedef f32x16 f32x16_unaligned __attribute__((aligned(4), may_alias));
typedef f16x16 f16x16_unaligned __attribute__((aligned(2), may_alias));

INLINE f32x16 splat(float x) { return (f32x16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE f32x16 load(const float *from) { return *(const f32x16_unaligned *)from; }
INLINE void store(float *to, f32x16 x) { *(f32x16_unaligned *)to = x; }

/* Lanes of `a` where `mask` is all ones, of `b` where it is zero. */
INLINE f32x16 choose(i32x16 mask, f32x16 a, f32x16 b) { return (f32x16)((mask & (i32x16)a) | (~mask & (i32x16)b)); }

/* The first `count` of 16 lanes; the others are zero and their memory is not touched. */
INLINE f32x16 load_some(const float *from, size_t count) {
  f32x16 x = splat(0);
  memcpy(&x, from, count * sizeof(float));
  return x;
}
INLINE void store_some(float *to, f32x16 x, size_t count) { memcpy(to, &x, count * sizeof(float)); }


/* As load and store, for the last vector of an array as well: `left` elements remain. */
INLINE f32x16 load_up_to(const float *from, size_t left) {
  return left >= LANES ? load(from) : left == LANES / 2 ? load_some(from, LANES / 2) : load_some(from, left);
}
INLINE void store_up_to(float *to, f32x16 x, size_t left) {
  if (left >= LANES) store(to, x);
  else if (left == LANES / 2) store_some(to, x, LANES / 2);
  else store_some(to, x, left);
}

INLINE f32x16 load_f16(const _Float16 *from) { return __builtin_convertvector(*(const f16x16_unaligned *)from, f32x16); }
INLINE f32x16 load_some_f16(const _Float16 *from, size_t count) {
  f16x16 x = {0};
  memcpy(&x, from, count * sizeof(_Float16));
  return __builtin_convertvector(x, f32x16);
}

/* Halves whose absolute value is at most the largest finite one: an infinity would poison what is summed beside it. */
INLINE void store_f16_bounded(_Float16 *to, f32x16 x, size_t left) {
  const f32x16 most = splat(65504.0f);
  const f16x16 y = __builtin_convertvector(choose(x > most, most, choose(x < -most, -most, x)), f16x16);
  memcpy(to, &y, (left < LANES ? left : LANES) * sizeof(_Float16));
}

/* a·b + c, rounded once. */
INLINE f32x16 fma16(f32x16 a, f32x16 b, f32x16 c) { return __builtin_elementwise_fma(a, b, c); }

/* The larger one; `b` where `a` is not a number. */
INLINE f32x16 max16(f32x16 a, f32x16 b) { return choose(a > b, a, b); }

/* Sum and maximum over the lanes, always in the same tree. */
INLINE float sum_lanes(f32x16 x) {
  float part[LANES];
  store(part, x);
  for (size_t half = LANES / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; i++) part[i] += part[i + half];
  return part[0];
}
INLINE float max_lanes(f32x16 x) {
  float part[LANES];
  store(part, x);
  for (size_t half = LANES / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; i++) part[i] = part[i] > part[i + half] ? part[i] : part[i + half];
  return part[0];
}

/*
 * e^x within 1.5 units in the last place (Cephes' expf): x = n·ln 2 + r, e^r by a polynomial, times 2^n.
 * Below the smallest normal number the result is 0, above the largest it is infinite; exp16(0) is exactly 1.
 */
INLINE f32x16 exp16(f32x16 x) {
  const f32x16 rounder = splat(12582912.0f); /* 1.5·2^23: adding it leaves the rounded value in the low bits */
  const f32x16 shifted = fma16(x, splat(1.44269504088896341f), rounder);
  const f32x16 n = shifted - rounder;
  const f32x16 r = fma16(n, splat(2.12194440e-4f), fma16(n, splat(-0.693359375f), x));
  f32x16 p = splat(1.9875691500e-4f);
  p = fma16(p, r, splat(1.3981999507e-3f));
  p = fma16(p, r, splat(8.3334519073e-3f));
  p = fma16(p, r, splat(4.1665795894e-2f));
  p = fma16(p, r, splat(1.6666665459e-1f));
  p = fma16(p, r, splat(5.0000001201e-1f));
  p = fma16(p, r * r, r) + splat(1.0f);
  const f32x16 y = (f32x16)((i32x16)p + ((i32x16)shifted << 23));
  const f32x16 small = choose(x < splat(-87.3365447f), splat(0), y);
  return choose(x > splat(88.3762626f), splat(__builtin_inff()), small);
}

/* tanh x within 2 units in the last place (Cephes' tanhf). */
INLINE f32x16 tanh16(f32x16 x) {
  const i32x16 sign = (i32x16)x & (i32x16)splat(-0.0f);
  const f32x16 size = (f32x16)((i32x16)x ^ sign);
  const f32x16 square = x * x;
  f32x16 p = splat(-5.70498872745e-3f);
  p = fma16(p, square, splat(2.06390887954e-2f));
  p = fma16(p, square, splat(-5.37397155531e-2f));
  p = fma16(p, square, splat(1.33314422036e-1f));
  p = fma16(p, square, splat(-3.33332819422e-1f));
  const f32x16 near = fma16(p * square, x, x);
  const f32x16 far = splat(1.0f) - splat(2.0f) / (exp16(size + size) + splat(1.0f));
  return choose(size < splat(0.625f), near, (f32x16)((i32x16)far | sign));
}

#endif
