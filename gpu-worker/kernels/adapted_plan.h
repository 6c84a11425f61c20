/*
 * How the work of adapted.h is shared out: rows with the same adapters form a group. Small groups, as in decoding, are
 * one thread's from start to end; the products of large ones are cut into jobs, in two phases.
 */
#ifndef SWITCHYARD_ADAPTED_PLAN_H
#define SWITCHYARD_ADAPTED_PLAN_H

#include "adapted.h"

enum { ROW_TOKENS = 32, RANK_BLOCK = 8, COLUMN_BLOCK = 512 };
/* From so many groups of few tokens on, each is one thread's from start to end; below, threads share its parts. */
enum { WHOLE_GROUPS = 8, WHOLE_TOKENS = 16 };
/* Multiply-adds, or elements, that are done sooner than two phases on several threads begin and end. */
enum { SMALL = 1 << 17 };

static const Entry *entry_of(const Plan *plan, size_t row, size_t slot, size_t linear) {
  const uint64_t table = (uint64_t)plan->adapters[(row * plan->slots + slot) * 2];
  if (table == 0) return NULL;
  const Entry *entry = (const Entry *)(uintptr_t)table + plan->linears->module[linear];
  return entry->kind == ABSENT ? NULL : entry;
}

static bool same_adapters(const Plan *plan, size_t a, size_t b) {
  for (size_t slot = 0; slot < plan->slots; slot++)
    if (plan->adapters[(a * plan->slots + slot) * 2] != plan->adapters[(b * plan->slots + slot) * 2]) return false;
  return true;
}

/* The parts of a group whose rows have the adapters of `row`; returns how many there are by now. */
static size_t add_parts(const Plan *plan, Group *group, size_t row, size_t parts) {
  group->products = 0;
  for (size_t l = 0; l < plan->linears->count; l++) {
    group->parts[l] = parts;
    for (size_t slot = 0; slot < plan->slots; slot++) {
      const Entry *entry = entry_of(plan, row, slot, l);
      if (!entry) continue;
      plan->part[parts++] = (Part){entry, slot, group->products, (size_t)plan->linears->width[l]};
      group->products += (size_t)entry->rank;
    }
  }
  group->parts[plan->linears->count] = parts;
  return parts;
}

/* Sorts the rows into groups, and their tokens behind each other; returns how many groups there are. */
static size_t make_groups(Plan *plan, const int32_t *rows, size_t count, uint32_t *group_of, uint32_t *leader) {
  size_t groups = 0, parts = 0, products = 0, at = 0;
  for (size_t r = 0; r < count; r++) {
    for (int32_t t = 0; t < rows[r * 3 + 1]; t++) plan->row[rows[r * 3] + t] = (uint32_t)r;
    size_t g = 0;
    while (g < groups && !same_adapters(plan, leader[g], r)) g++;
    group_of[r] = (uint32_t)g;
    if (g < groups) continue;
    leader[g] = (uint32_t)r;
    parts = add_parts(plan, &plan->group[groups++], r, parts);
  }
  for (size_t g = 0; g < groups; g++) {
    Group *group = &plan->group[g];
    group->first = at;
    for (size_t r = leader[g]; r < count; r++) {
      if (group_of[r] != g) continue;
      for (int32_t t = 0; t < rows[r * 3 + 1]; t++) plan->token[at++] = (uint32_t)(rows[r * 3] + t);
    }
    group->tokens = at - group->first;
    group->at = products;
    products += group->tokens * group->products;
  }
  return groups;
}

INLINE size_t ceiling(size_t a, size_t b) { return (a + b - 1) / b; }

/* Cuts from…to of `whole` into pieces of about `block`, for every block of the group's tokens. */
static size_t cut(Job *job, uint32_t group, size_t index, size_t tokens, size_t whole, size_t block, size_t unit) {
  size_t jobs = 0;
  const size_t piece = ceiling(ceiling(whole, ceiling(whole, block)), unit) * unit;
  for (size_t t = 0; t < tokens; t += ROW_TOKENS)
    for (size_t from = 0; from < whole; from += piece, jobs++) {
      if (!job) continue;
      const size_t to = from + piece < whole ? from + piece : whole;
      const size_t some = tokens - t < ROW_TOKENS ? tokens - t : ROW_TOKENS;
      job[jobs] = (Job){group, (uint32_t)index, (uint32_t)t, (uint32_t)some, (uint32_t)from, (uint32_t)to};
    }
  return jobs;
}

/* Writes the jobs of a phase to plan->job, or only counts them while that is NULL. */
static size_t cut_downs(const Plan *plan) {
  size_t jobs = 0;
  for (size_t g = 0; g < plan->groups; g++)
    for (size_t p = plan->group[g].parts[0]; p < plan->group[g].parts[plan->linears->count]; p++)
      jobs += cut(plan->job ? plan->job + jobs : NULL, (uint32_t)g, p, plan->group[g].tokens, (size_t)plan->part[p].entry->rank,
                  RANK_BLOCK, RANKS);
  return jobs;
}

static size_t cut_ups(const Plan *plan) {
  size_t jobs = 0;
  for (size_t g = 0; g < plan->groups; g++)
    for (size_t l = 0; l < plan->linears->count; l++)
      jobs += cut(plan->job ? plan->job + jobs : NULL, (uint32_t)g, l, plan->group[g].tokens, (size_t)plan->linears->width[l],
                  COLUMN_BLOCK, TILE * LANES);
  return jobs;
}

/* Elements of y, and multiply-adds with factors. */
static size_t cost_of(const Plan *plan) {
  size_t cost = plan->tokens * plan->width;
  for (size_t g = 0; g < plan->groups; g++)
    cost += plan->group[g].tokens * plan->group[g].products * (plan->in + plan->width / plan->linears->count);
  return cost;
}

/* Rows lie behind each other in the run's tokens. */
static OrtStatus *check_rows(const Run *run, const int32_t *rows, int64_t count, int64_t tokens) {
  int64_t end = 0;
  for (int64_t r = 0; r < count; r++) {
    const int64_t first = rows[r * 3], some = rows[r * 3 + 1];
    CHECK(run, first == end && some >= 0, "row %lld has %lld tokens from %lld on, expected them from %lld on", (long long)r,
          (long long)some, (long long)first, (long long)end);
    end = first + some;
  }
  CHECK(run, end == tokens, "the rows have %lld tokens, y has %lld", (long long)end, (long long)tokens);
  return NULL;
}

static OrtStatus *check_entries(const Run *run, const Plan *plan, size_t rows) {
  for (size_t r = 0; r < rows; r++)
    for (size_t slot = 0; slot < plan->slots; slot++)
      for (size_t l = 0; l < plan->linears->count; l++) {
        const Entry *entry = entry_of(plan, r, slot, l);
        if (!entry) continue;
        CHECK(run, entry->kind == FLOAT32 || entry->kind == FLOAT16, "row %zu, adapter %zu: factors of kind %d", r, slot, entry->kind);
        CHECK(run, entry->rank > 0 && entry->rank <= MAX_ADAPTER_RANK, "row %zu, adapter %zu: rank %d", r, slot, entry->rank);
      }
  return NULL;
}

/*
 * Sorts the rows of a run into groups; with neither rows nor adapters all tokens are one group that has none. What it
 * allocates is plan->group, for the caller to free whatever comes back.
 */
static OrtStatus *plan_groups(const Run *run, Plan *plan, const Tensor *rows, const Tensor *adapters) {
  const int64_t tokens = (int64_t)plan->tokens;
  const int32_t one_row[3] = {0, (int32_t)tokens, 0};
  const bool adapted = rows->rank > 0;
  const int64_t count = adapted ? rows->dims[0] : 1, slots = adapted ? adapters->dims[1] : 0;
  CHECK(run, !adapted || (rows->dims[1] == 3 && adapters->dims[0] == count && adapters->dims[2] == 2 && slots <= MAX_ADAPTERS),
        "rows [%lld, %lld] with adapters [%lld, %lld, %lld]", (long long)count, (long long)rows->dims[1],
        (long long)adapters->dims[0], (long long)adapters->dims[1], (long long)adapters->dims[2]);
  const int32_t *row = adapted ? rows->data : one_row;
  TRY(check_rows(run, row, count, tokens));
  plan->adapters = adapters->data;
  plan->slots = (size_t)slots;
  TRY(check_entries(run, plan, (size_t)count));
  const size_t most_parts = (size_t)(count * slots) * plan->linears->count;
  plan->group = malloc((size_t)count * sizeof *plan->group + most_parts * sizeof *plan->part +
                       2 * (size_t)(tokens + count) * sizeof(uint32_t));
  CHECK(run, plan->group, "out of memory for %lld rows", (long long)count);
  plan->part = (Part *)(void *)(plan->group + count);
  plan->token = (uint32_t *)(void *)(plan->part + most_parts);
  plan->row = plan->token + tokens;
  uint32_t *group_of = plan->row + tokens;
  plan->groups = make_groups(plan, row, (size_t)count, group_of, group_of + count);
  return NULL;
}

/* Rank products of all tokens, and of how many groups; `small`: no group with adapters has many tokens. */
typedef struct {
  size_t products, adapted;
  bool small;
} Extent;

static Extent extent_of(const Plan *plan) {
  Extent extent = {.small = true};
  for (size_t g = 0; g < plan->groups; g++) {
    const Group *group = &plan->group[g];
    if (group->products == 0) continue;
    extent.products += group->tokens * group->products;
    extent.adapted++;
    extent.small = extent.small && group->tokens <= WHOLE_TOKENS;
  }
  return extent;
}

static void down_body(void *plan, size_t i) { run_down(plan, &((const Plan *)plan)->job[i]); }
static void up_body(void *plan, size_t i) { run_up(plan, &((const Plan *)plan)->job[i]); }
static void group_body(void *plan, size_t i) { run_group(plan, &((const Plan *)plan)->job[i]); }

static OrtStatus *run_jobs(const Run *run, void (*body)(void *, size_t), Plan *plan, size_t jobs, bool little) {
  if (!little) return parallel_for(run, jobs, body, plan);
  for (size_t i = 0; i < jobs; i++) body(plan, i);
  return NULL;
}

/* Finishes y, which is complete. */
static OrtStatus *finish_all(const Run *run, Plan *plan) {
  const Extent extent = extent_of(plan);
  const bool little = cost_of(plan) < SMALL;
  const size_t downs = cut_downs(plan), ups = cut_ups(plan), most = downs > ups ? downs : ups;
  plan->product = malloc(extent.products * sizeof *plan->product + most * sizeof *plan->job);
  CHECK(run, plan->product || extent.products + most == 0, "out of memory for %zu products", extent.products);
  plan->job = (Job *)(void *)(plan->product + extent.products);
  OrtStatus *status = NULL;
  if (extent.small && extent.adapted >= WHOLE_GROUPS) {
    size_t jobs = 0;
    for (size_t g = 0; g < plan->groups; g++)
      jobs += cut(plan->job + jobs, (uint32_t)g, 0, plan->group[g].tokens, 1, 1, 1);
    status = run_jobs(run, group_body, plan, jobs, little);
  } else {
    if (downs > 0) status = run_jobs(run, down_body, plan, cut_downs(plan), little);
    if (!status) status = run_jobs(run, up_body, plan, cut_ups(plan), little);
  }
  free(plan->product);
  return status;
}

#endif
