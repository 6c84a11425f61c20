/*
 * FinishLinear: from the raw product of linears that stand side by side to their output,
 *
 *   out = y · row_scale + bias + Σ_k w_k · scale_k · (x · A_kᵀ) · B_k
 *
 * the sum over the adapters of the token's row, A [rank, in] and B [rank, out of the linear] being memory that the
 * adapter's table points to. Nothing of an adapter is copied: tokens that share adapters are computed over one
 * reading of the factors, and every token's sums run in one order, k ascending, whoever shares them (low_rank.h).
 */
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
  size_t linears;
  int64_t module[MAX_LINEARS];
  int64_t width[MAX_LINEARS];
} State;

static OrtStatus *prepare(const Attributes *attributes, void *pointer) {
  State *state = pointer;
  state->linears = MAX_LINEARS;
  TRY(attribute_ints(attributes, "modules", state->module, &state->linears));
  size_t widths = MAX_LINEARS;
  TRY(attribute_ints(attributes, "widths", state->width, &widths));
  if (widths != state->linears) return refuse(attributes->api, "FinishLinear", "%zu modules, %zu widths", state->linears, widths);
  return NULL;
}

/* Factors of one adapter on one linear, for the tokens of a group. */
typedef struct {
  const Entry *entry;
  /* Which of the row's adapters it is: where to find its weight. */
  size_t slot;
  /* Offset of its rank products among a token's. */
  size_t at;
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
  const State *state;
  const float *y, *x, *row_scale, *bias;
  const int64_t *adapters;
  float *out;
  size_t in, width, slots;
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

/* y · row_scale + bias over columns from…to of all linears. */
static void run_base(const Plan *plan, size_t token, size_t from, size_t to) {
  const float *y = plan->y + token * plan->width;
  float *out = plan->out + token * plan->width;
  const float scale = plan->row_scale ? plan->row_scale[token] : 1;
  if (y == out && !plan->row_scale && !plan->bias) return;
  const f32x16 scales = splat(scale);
  size_t c = from;
  if (plan->bias) {
    for (; c + LANES <= to; c += LANES) store(out + c, fma16(load(y + c), scales, load(plan->bias + c)));
    for (; c < to; c++) out[c] = __builtin_fmaf(y[c], scale, plan->bias[c]);
  } else {
    for (; c + LANES <= to; c += LANES) store(out + c, load(y + c) * scales);
    for (; c < to; c++) out[c] = y[c] * scale;
  }
}

/* Columns from…to of one linear, for some tokens of a group. */
static void run_up(const Plan *plan, const Job *job) {
  enum { BLOCK = 16 };
  const Group *group = &plan->group[job->group];
  const size_t linear = job->index;
  size_t offset = 0;
  for (size_t l = 0; l < linear; l++) offset += (size_t)plan->state->width[l];
  const size_t width = (size_t)plan->state->width[linear];
  for (size_t done = 0; done < job->tokens; done += BLOCK) {
    const size_t n = job->tokens - done < BLOCK ? job->tokens - done : BLOCK;
    float *y[BLOCK];
    for (size_t k = 0; k < n; k++) {
      const size_t token = plan->token[group->first + job->token + done + k];
      run_base(plan, token, offset + job->from, offset + job->to);
      y[k] = plan->out + token * plan->width + offset + job->from;
    }
    for (size_t p = group->parts[linear]; p < group->parts[linear + 1]; p++) {
      const Part *part = &plan->part[p];
      const bool half = part->entry->kind == FLOAT16;
      const void *b = (const char *)(uintptr_t)part->entry->b + job->from * element(half);
      const float *t[BLOCK];
      for (size_t k = 0; k < n; k++) t[k] = plan->product + group->at + (job->token + done + k) * group->products + part->at;
      const size_t rank = (size_t)part->entry->rank;
      if (half) up(y, t, n, b, width, true, rank, job->to - job->from);
      else up(y, t, n, b, width, false, rank, job->to - job->from);
    }
  }
}

/* A whole group on one thread: no other waits for its products. */
static void run_group(const Plan *plan, const Job *job) {
  const Group *group = &plan->group[job->group];
  for (size_t p = group->parts[0]; p < group->parts[plan->state->linears]; p++) {
    const uint32_t rank = (uint32_t)plan->part[p].entry->rank;
    run_down(plan, &(Job){job->group, (uint32_t)p, job->token, job->tokens, 0, rank});
  }
  for (size_t l = 0; l < plan->state->linears; l++)
    run_up(plan, &(Job){job->group, (uint32_t)l, job->token, job->tokens, 0, (uint32_t)plan->state->width[l]});
}

static void down_body(void *plan, size_t i) { run_down(plan, &((const Plan *)plan)->job[i]); }
static void up_body(void *plan, size_t i) { run_up(plan, &((const Plan *)plan)->job[i]); }
static void group_body(void *plan, size_t i) { run_group(plan, &((const Plan *)plan)->job[i]); }

/* planning */

enum { TOKEN_BLOCK = 32, RANK_BLOCK = 8, COLUMN_BLOCK = 512 };
/* From so many groups of few tokens on, each is one thread's from start to end; below, threads share its parts. */
enum { WHOLE_GROUPS = 8, WHOLE_TOKENS = 16 };
/* Multiply-adds that are done sooner than another thread wakes up. */
enum { SMALL = 1 << 15 };

static const Entry *entry_of(const Plan *plan, size_t row, size_t slot, size_t linear) {
  const uint64_t table = (uint64_t)plan->adapters[(row * plan->slots + slot) * 2];
  if (table == 0) return NULL;
  const Entry *entry = (const Entry *)(uintptr_t)table + plan->state->module[linear];
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
  for (size_t l = 0; l < plan->state->linears; l++) {
    group->parts[l] = parts;
    for (size_t slot = 0; slot < plan->slots; slot++) {
      const Entry *entry = entry_of(plan, row, slot, l);
      if (!entry) continue;
      plan->part[parts++] = (Part){entry, slot, group->products};
      group->products += (size_t)entry->rank;
    }
  }
  group->parts[plan->state->linears] = parts;
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

static size_t ceiling(size_t a, size_t b) { return (a + b - 1) / b; }

/* Cuts from…to of `whole` into pieces of about `block`, for every block of the group's tokens. */
static size_t cut(Job *job, uint32_t group, size_t index, size_t tokens, size_t whole, size_t block, size_t unit) {
  size_t jobs = 0;
  const size_t piece = ceiling(ceiling(whole, ceiling(whole, block)), unit) * unit;
  for (size_t t = 0; t < tokens; t += TOKEN_BLOCK)
    for (size_t from = 0; from < whole; from += piece, jobs++) {
      if (!job) continue;
      const size_t to = from + piece < whole ? from + piece : whole;
      const size_t some = tokens - t < TOKEN_BLOCK ? tokens - t : TOKEN_BLOCK;
      job[jobs] = (Job){group, (uint32_t)index, (uint32_t)t, (uint32_t)some, (uint32_t)from, (uint32_t)to};
    }
  return jobs;
}

/* Writes the jobs of a phase to plan->job, or only counts them while that is NULL. */
static size_t cut_downs(const Plan *plan, size_t groups) {
  size_t jobs = 0;
  for (size_t g = 0; g < groups; g++)
    for (size_t p = plan->group[g].parts[0]; p < plan->group[g].parts[plan->state->linears]; p++)
      jobs += cut(plan->job ? plan->job + jobs : NULL, (uint32_t)g, p, plan->group[g].tokens, (size_t)plan->part[p].entry->rank,
                  RANK_BLOCK, RANKS);
  return jobs;
}

static size_t cut_ups(const Plan *plan, size_t groups) {
  size_t jobs = 0;
  for (size_t g = 0; g < groups; g++)
    for (size_t l = 0; l < plan->state->linears; l++)
      jobs += cut(plan->job ? plan->job + jobs : NULL, (uint32_t)g, l, plan->group[g].tokens, (size_t)plan->state->width[l],
                  COLUMN_BLOCK, TILE * LANES);
  return jobs;
}

/* Multiply-adds, with the factors' bytes read again for each block of tokens. */
static size_t cost_of(const Plan *plan, size_t groups, size_t tokens) {
  size_t cost = tokens * plan->width / 4;
  for (size_t g = 0; g < groups; g++)
    cost += plan->group[g].tokens * plan->group[g].products * (plan->in + plan->width / plan->state->linears);
  return cost;
}

static OrtStatus *run_all(const Run *run, void (*body)(void *, size_t), Plan *plan, size_t jobs, bool small) {
  if (!small) return parallel_for(run, jobs, body, plan);
  for (size_t i = 0; i < jobs; i++) body(plan, i);
  return NULL;
}

static OrtStatus *execute(const Run *run, Plan *plan, size_t groups, size_t tokens) {
  bool whole = true;
  size_t adapted = 0, products = 0;
  for (size_t g = 0; g < groups; g++) {
    const Group *group = &plan->group[g];
    products += group->tokens * group->products;
    if (group->products == 0) continue;
    adapted++;
    whole = whole && group->tokens <= WHOLE_TOKENS;
  }
  whole = whole && adapted >= WHOLE_GROUPS;
  const bool small = cost_of(plan, groups, tokens) < SMALL;
  const size_t downs = cut_downs(plan, groups), ups = cut_ups(plan, groups), most = downs > ups ? downs : ups;
  plan->product = malloc(products * sizeof *plan->product + most * sizeof *plan->job);
  CHECK(run, plan->product || products + most == 0, "out of memory for %zu products", products);
  plan->job = (Job *)(void *)(plan->product + products);
  OrtStatus *status = NULL;
  if (whole) {
    size_t jobs = 0;
    for (size_t g = 0; g < groups; g++)
      jobs += cut(plan->job + jobs, (uint32_t)g, 0, plan->group[g].tokens, 1, 1, 1);
    status = run_all(run, group_body, plan, jobs, small);
  } else {
    if (downs > 0) status = run_all(run, down_body, plan, cut_downs(plan, groups), small);
    if (!status) status = run_all(run, up_body, plan, cut_ups(plan, groups), small);
  }
  free(plan->product);
  return status;
}

enum { Y, X, ROWS, ADAPTERS, ROW_SCALE, BIAS };

static const Port inputs[] = {
    {"y", ORT_F32, ORT_REQUIRED},          {"x", ORT_F32, ORT_REQUIRED},         {"rows", ORT_I32, ORT_OPTIONAL},
    {"adapters", ORT_I64, ORT_OPTIONAL},   {"row_scale", ORT_F32, ORT_OPTIONAL}, {"bias", ORT_F32, ORT_OPTIONAL},
};
static const Port outputs[] = {{"out", ORT_F32, ORT_REQUIRED}};

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
      for (size_t l = 0; l < plan->state->linears; l++) {
        const Entry *entry = entry_of(plan, r, slot, l);
        if (!entry) continue;
        CHECK(run, entry->kind == FLOAT32 || entry->kind == FLOAT16, "row %zu, adapter %zu: factors of kind %d", r, slot, entry->kind);
        CHECK(run, entry->rank > 0 && entry->rank <= MAX_ADAPTER_RANK, "row %zu, adapter %zu: rank %d", r, slot, entry->rank);
      }
  return NULL;
}

static OrtStatus *compute(const Run *run, const void *pointer) {
  const State *state = pointer;
  Tensor y, x, rows, adapters, row_scale, bias;
  TRY(input_of_rank(run, Y, 2, &y));
  TRY(input_of_rank(run, X, 2, &x));
  TRY(input_of_rank(run, ROWS, 2, &rows));
  TRY(input_of_rank(run, ADAPTERS, 3, &adapters));
  TRY(input_of_rank(run, ROW_SCALE, 2, &row_scale));
  TRY(input_of_rank(run, BIAS, 1, &bias));
  const int64_t tokens = y.dims[0], width = y.dims[1];
  /* Without rows all tokens are one row without adapters. */
  const int32_t one_row[3] = {0, (int32_t)tokens, 0};
  const bool adapted = rows.rank > 0;
  const int64_t count = adapted ? rows.dims[0] : 1, slots = adapted ? adapters.dims[1] : 0;
  int64_t widths = 0;
  for (size_t l = 0; l < state->linears; l++) widths += state->width[l];
  CHECK(run, width == widths, "y is %lld wide, the linears %lld", (long long)width, (long long)widths);
  CHECK(run, x.dims[0] == tokens, "%lld rows of x for %lld of y", (long long)x.dims[0], (long long)tokens);
  CHECK(run, !adapted || (rows.dims[1] == 3 && adapters.dims[0] == count && adapters.dims[2] == 2 && slots <= MAX_ADAPTERS),
        "rows [%lld, %lld] with adapters [%lld, %lld, %lld]", (long long)count, (long long)rows.dims[1],
        (long long)adapters.dims[0], (long long)adapters.dims[1], (long long)adapters.dims[2]);
  CHECK(run, !row_scale.data || (row_scale.dims[0] == tokens && row_scale.dims[1] == 1), "row_scale [%lld, %lld] for %lld tokens",
        (long long)row_scale.dims[0], (long long)row_scale.dims[1], (long long)tokens);
  CHECK(run, !bias.data || bias.dims[0] == width, "bias of %lld for %lld columns", (long long)bias.dims[0], (long long)width);
  void *out;
  TRY(output(run, 0, y.dims, 2, &out));
  if (tokens == 0) return NULL;
  const int32_t *row = adapted ? rows.data : one_row;
  TRY(check_rows(run, row, count, tokens));

  Plan plan = {.state = state, .y = y.data, .x = x.data, .row_scale = row_scale.data, .bias = bias.data, .adapters = adapters.data,
               .out = out, .in = (size_t)x.dims[1], .width = (size_t)width, .slots = (size_t)slots};
  TRY(check_entries(run, &plan, (size_t)count));
  const size_t most_parts = (size_t)count * plan.slots * state->linears;
  const size_t bytes = (size_t)count * sizeof *plan.group + most_parts * sizeof *plan.part +
                       (2 * (size_t)tokens + 2 * (size_t)count) * sizeof(uint32_t);
  plan.group = malloc(bytes);
  CHECK(run, plan.group, "out of memory for %lld rows", (long long)count);
  plan.part = (Part *)(void *)(plan.group + count);
  plan.token = (uint32_t *)(void *)(plan.part + most_parts);
  plan.row = plan.token + tokens;
  uint32_t *group_of = plan.row + tokens;
  const size_t groups = make_groups(&plan, row, (size_t)count, group_of, group_of + count);
  OrtStatus *status = execute(run, &plan, groups, (size_t)tokens);
  free(plan.group);
  return status;
}

/* The output may take the memory of y. */
static size_t in_place(int **from, int **to) {
  static int y = Y, out = 0;
  *from = &y;
  *to = &out;
  return 1;
}
static void keep(int *from, int *to) { (void)from, (void)to; }

const Operator VARIANT_NAME(finish_linear) = {
    .ort = {OPERATOR_CALLBACKS, .GetMayInplace = in_place, .ReleaseMayInplace = keep},
    .name = "FinishLinear",
    .inputs = sizeof inputs / sizeof *inputs,
    .input = inputs,
    .outputs = 1,
    .output = outputs,
    .state_bytes = sizeof(State),
    .prepare = prepare,
    .compute = compute,
};
