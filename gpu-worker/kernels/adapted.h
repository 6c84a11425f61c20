/*
 * What the adapters of each token's row add to linears that stand side by side:
 *
 *   out = y · row_scale + bias + Σ_k w_k · scale_k · (x · A_kᵀ) · B_k
 *
 * A [rank, in] and B [rank, out of the linear] are memory that an adapter's table points to; nothing of it is copied.
 * Tokens that share adapters are computed over one reading of the factors (low_rank.h). Every token's sum over
 * adapters begins at zero and runs in one order, k ascending, before it is added: whoever shares the run, however its
 * work is cut.
 */
#ifndef SWITCHYARD_ADAPTED_H
#define SWITCHYARD_ADAPTED_H

#include <stdlib.h>

#include "low_rank.h"
#include "operator.h"

enum { MAX_LINEARS = 4, MAX_ADAPTERS = 64, MAX_ADAPTER_RANK = 4096 };
enum { ABSENT = 0, FLOAT32 = 1, FLOAT16 = 2 };

/* One linear's entry of an adapter's table, by module number. */
typedef struct {
  uint64_t a, b;
  float scale;
  int32_t rank;
  int32_t kind;
  int32_t reserved;
} Entry;

typedef struct {
  size_t count;
  int64_t module[MAX_LINEARS];
  int64_t width[MAX_LINEARS];
} Linears;

INLINE OrtStatus *linears_of(const Attributes *attributes, const char *op, Linears *linears) {
  linears->count = MAX_LINEARS;
  TRY(attribute_ints(attributes, "modules", linears->module, &linears->count));
  size_t widths = MAX_LINEARS;
  TRY(attribute_ints(attributes, "widths", linears->width, &widths));
  if (widths != linears->count) return refuse(attributes->api, op, "%zu modules, %zu widths", linears->count, widths);
  return NULL;
}

INLINE int64_t width_of(const Linears *linears) {
  int64_t width = 0;
  for (size_t l = 0; l < linears->count; l++) width += linears->width[l];
  return width;
}

/* Factors of one adapter on one linear, for the tokens of a group. */
typedef struct {
  const Entry *entry;
  /* Which of the row's adapters it is: where to find its weight. */
  size_t slot;
  /* Offset of its rank products among a token's. */
  size_t at;
  /* Outputs of its linear. */
  size_t columns;
} Part;

/* Tokens of rows that name the same adapters in the same order. */
typedef struct {
  /* In Plan.token. */
  size_t first, tokens;
  /* In Plan.part, by linear and then by slot; linear l has parts[l]…parts[l + 1]. */
  size_t parts[MAX_LINEARS + 1];
  /* Rank products of a token, and where the group's begin. */
  size_t products, at;
} Group;

/* Work of one thread on some tokens of a group: ranks from…to of a part, or columns from…to of a linear. */
typedef struct {
  uint32_t group, index;
  uint32_t token, tokens;
  uint32_t from, to;
} Job;

typedef struct {
  const Linears *linears;
  const float *y, *x, *row_scale, *bias;
  const int64_t *adapters;
  float *out;
  /* Where sums over adapters wait for y, in the order of `token`; NULL: they are added at once. */
  float *delta;
  size_t tokens, in, width, slots, groups;
  Group *group;
  Part *part;
  /* Token numbers group by group, and the row of each. */
  uint32_t *token, *row;
  float *product;
  Job *job;
} Plan;

static float weight_of(const Plan *plan, size_t row, size_t slot) {
  const uint32_t bits = (uint32_t)plan->adapters[(row * plan->slots + slot) * 2 + 1];
  float weight;
  memcpy(&weight, &bits, sizeof weight);
  return weight;
}

/* Ranks from…to of one part, weighted, for some tokens of its group. */
static void run_down(const Plan *plan, const Job *job) {
  enum { BLOCK = 16 };
  const Group *group = &plan->group[job->group];
  const Part *part = &plan->part[job->index];
  const bool half = part->entry->kind == FLOAT16;
  const size_t ranks = job->to - job->from;
  const void *a = (const char *)(uintptr_t)part->entry->a + job->from * plan->in * element(half);
  for (size_t done = 0; done < job->tokens; done += BLOCK) {
    const size_t n = job->tokens - done < BLOCK ? job->tokens - done : BLOCK;
    const float *x[BLOCK];
    float *out[BLOCK];
    for (size_t k = 0; k < n; k++) {
      const size_t member = job->token + done + k;
      x[k] = plan->x + plan->token[group->first + member] * plan->in;
      out[k] = plan->product + group->at + member * group->products + part->at + job->from;
    }
    if (half) down(x, n, a, true, plan->in, ranks, out);
    else down(x, n, a, false, plan->in, ranks, out);
    for (size_t k = 0; k < n; k++) {
      const float weight = part->entry->scale * weight_of(plan, plan->row[plan->token[group->first + job->token + done + k]], part->slot);
      for (size_t r = 0; r < ranks; r++) out[k][r] *= weight;
    }
  }
}

/* Columns that one job computes at most. */
enum { MOST_COLUMNS = 1536 };

/* out = y · row_scale + bias + delta over columns from…to; no delta: zero. */
INLINE void finish_columns(const Plan *plan, size_t token, size_t from, size_t to, const float *delta) {
  const float *y = plan->y + token * plan->width;
  float *out = plan->out + token * plan->width;
  if (y == out && !plan->row_scale && !plan->bias && !delta) return;
  const f32x16 scale = splat(plan->row_scale ? plan->row_scale[token] : 1);
  size_t c = from;
  for (; c + LANES <= to; c += LANES) {
    f32x16 sum = fma16(load(y + c), scale, plan->bias ? load(plan->bias + c) : splat(0));
    if (delta) sum += load(delta + (c - from));
    store(out + c, sum);
  }
  if (c == to) return;
  const size_t n = to - c;
  f32x16 sum = fma16(load_some(y + c, n), scale, plan->bias ? load_some(plan->bias + c, n) : splat(0));
  if (delta) sum += load_some(delta + (c - from), n);
  store_some(out + c, sum, n);
}

/* Columns from…to of one linear, for some tokens of a group. */
static void run_up(const Plan *plan, const Job *job) {
  enum { BLOCK = 16 };
  float sums[BLOCK][MOST_COLUMNS];
  const Group *group = &plan->group[job->group];
  const size_t linear = job->index, columns = job->to - job->from;
  const bool none = group->parts[linear] == group->parts[linear + 1];
  size_t offset = job->from;
  for (size_t l = 0; l < linear; l++) offset += (size_t)plan->linears->width[l];
  const size_t width = (size_t)plan->linears->width[linear];
  for (size_t done = 0; done < job->tokens; done += BLOCK) {
    const size_t n = job->tokens - done < BLOCK ? job->tokens - done : BLOCK, first = group->first + job->token + done;
    float *y[BLOCK];
    for (size_t k = 0; k < n; k++) {
      y[k] = plan->delta ? plan->delta + (first + k) * plan->width + offset : sums[k];
      if (!none || plan->delta) memset(y[k], 0, columns * sizeof(float));
    }
    for (size_t p = group->parts[linear]; p < group->parts[linear + 1]; p++) {
      const Part *part = &plan->part[p];
      const bool half = part->entry->kind == FLOAT16;
      const void *b = (const char *)(uintptr_t)part->entry->b + job->from * element(half);
      const float *t[BLOCK];
      for (size_t k = 0; k < n; k++) t[k] = plan->product + group->at + (job->token + done + k) * group->products + part->at;
      const size_t rank = (size_t)part->entry->rank;
      if (half) up(y, t, n, b, width, true, rank, columns);
      else up(y, t, n, b, width, false, rank, columns);
    }
    if (plan->delta) continue;
    for (size_t k = 0; k < n; k++) finish_columns(plan, plan->token[first + k], offset, offset + columns, none ? NULL : sums[k]);
  }
}

/* A whole group on one thread: no other waits for its products. */
static void run_group(const Plan *plan, const Job *job) {
  const Group *group = &plan->group[job->group];
  for (size_t p = group->parts[0]; p < group->parts[plan->linears->count]; p++) {
    const uint32_t rank = (uint32_t)plan->part[p].entry->rank;
    run_down(plan, &(Job){job->group, (uint32_t)p, job->token, job->tokens, 0, rank});
  }
  for (size_t l = 0; l < plan->linears->count; l++) {
    const uint32_t width = (uint32_t)plan->linears->width[l];
    for (uint32_t c = 0; c < width; c += MOST_COLUMNS)
      run_up(plan, &(Job){job->group, (uint32_t)l, job->token, job->tokens, c, width - c < MOST_COLUMNS ? width : c + MOST_COLUMNS});
  }
}

#endif
