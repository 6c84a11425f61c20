/* What the parts of paged attention share: sizes, the cache's layout, and one call's tensors. */
#ifndef SWITCHYARD_ATTENTION_H
#define SWITCHYARD_ATTENTION_H

#include "operator.h"
#include "simd.h"

/* Tokens of a page: positions of one key vector fill whole registers. */
#define PAGE 32
/* Positions whose softmax is summed as one unit; units are then merged in order, whoever computed them. */
#define SEGMENT 256
#define MAX_HEAD_DIM 512

typedef struct {
  int64_t heads, kv_heads, window, rotary, causal;
  float scale, softcap, epsilon;
} Options;

typedef struct {
  int32_t first, tokens, past;
} Row;

typedef struct {
  const Options *options;
  size_t group, dim, page_columns;
  const float *qkv, *cos, *sin, *q_gain, *k_gain;
  /* [pages][kv head]{keys [dim][PAGE], values [PAGE][dim]} */
  void *pool;
  bool half;
  const Row *rows;
  const int32_t *pages;
  /* [tokens, heads · dim]; holds the queries until their results replace them. */
  float *out;
} Call;

/* Keys of one page and head in the pool, as an element index; the values follow. */
INLINE size_t page_keys(const Call *call, size_t row, size_t page, size_t kv_head) {
  const size_t number = (size_t)call->pages[row * call->page_columns + page];
  return (number * (size_t)call->options->kv_heads + kv_head) * 2 * PAGE * call->dim;
}

INLINE size_t page_values(const Call *call, size_t row, size_t page, size_t kv_head) {
  return page_keys(call, row, page, kv_head) + PAGE * call->dim;
}

INLINE const void *pool_at(const Call *call, size_t element) {
  return (const char *)call->pool + element * (call->half ? sizeof(_Float16) : sizeof(float));
}

#endif
