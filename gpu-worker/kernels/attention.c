/*
 * PagedAttention: attention of many sequences at once over a pool of pages, which it also fills. Causal, or of all positions
 * of a row to each other, as encoders have it; the pages then are of use in this run only.
 *
 *   [q | k | v] ── norm, rotate ──▶ k, v into the pool's pages
 *                              └──▶ q ──▶ softmax(scale · q Kᵀ) V ──▶ out
 *
 * Row r has the tokens first … first + tokens − 1 of the run, at positions past … past + tokens − 1; position p lies in
 * page pages[r][p / 32]. Rows may share pages that none of them writes in this run.
 */
#include <stdlib.h>

#include "attention_read.h"
#include "attention_write.h"

/* Floats of the queries that one item of work holds: bounded by the stacks of other people's threads. */
#define ITEM_FLOATS 8192
/* Fewer items than this leave threads idle: blocks are then cut finer, and long contexts into segments. */
#define ENOUGH_ITEMS 32

enum { QKV, POOL, ROWS, PAGES, COS, SIN, Q_GAIN, K_GAIN, INPUTS };

static const Port inputs[INPUTS] = {
  [QKV] = {"qkv", ORT_F32, ORT_REQUIRED},      [POOL] = {"pool", ORT_ANY, ORT_REQUIRED},
  [ROWS] = {"rows", ORT_I32, ORT_REQUIRED},    [PAGES] = {"pages", ORT_I32, ORT_REQUIRED},
  [COS] = {"cos", ORT_F32, ORT_OPTIONAL},      [SIN] = {"sin", ORT_F32, ORT_OPTIONAL},
  [Q_GAIN] = {"q_gain", ORT_F32, ORT_OPTIONAL}, [K_GAIN] = {"k_gain", ORT_F32, ORT_OPTIONAL},
};
static const Port outputs[] = {{"out", ORT_F32, ORT_REQUIRED}};

/* Some consecutive queries of one row and kv head, over some of the segments that they see. */
typedef struct {
  int32_t row, kv_head, from, tokens, segment, segments;
  /* The row's keys and values are not in the pool yet: nobody else needs them. */
  bool writes;
  /* Where each segment's part goes when another item must merge them; NULL: this one merges, into `out`. */
  float *parts;
} Item;

typedef struct {
  const Call *call;
  const Item *items;
} Work;

static OrtStatus *prepare(const Attributes *attributes, void *state) {
  Options *o = state;
  TRY(attribute_int(attributes, "heads", &o->heads));
  TRY(attribute_int(attributes, "kv_heads", &o->kv_heads));
  TRY(attribute_int(attributes, "window", &o->window));
  TRY(attribute_int(attributes, "rotary", &o->rotary));
  TRY(attribute_int(attributes, "causal", &o->causal));
  TRY(attribute_float(attributes, "scale", &o->scale));
  TRY(attribute_float(attributes, "softcap", &o->softcap));
  TRY(attribute_float(attributes, "epsilon", &o->epsilon));
  if (o->kv_heads < 1 || o->heads < o->kv_heads || o->heads % o->kv_heads || o->heads > 4096)
    return refuse(attributes->api, "PagedAttention", "%lld heads over %lld kv heads", (long long)o->heads, (long long)o->kv_heads);
  if (o->window < 0 || o->rotary < 0 || o->rotary % 2 || !(o->softcap >= 0))
    return refuse(attributes->api, "PagedAttention", "window and softcap must not be negative, rotary must be even");
  if (!o->causal && o->window) return refuse(attributes->api, "PagedAttention", "a window needs causal attention");
  return NULL;
}

static OrtStatus *check_tables(const Run *run, const Options *o, size_t dim, const Tensor in[INPUTS], int64_t positions) {
  CHECK(run, o->rotary <= (int64_t)dim, "rotary %lld is more than the head's %zu", (long long)o->rotary, dim);
  if (o->rotary) {
    CHECK(run, in[COS].data && in[SIN].data, "rotary positions need cos and sin");
    for (size_t i = COS; i <= SIN; i++)
      CHECK(run, in[i].rank == 2 && in[i].dims[0] >= positions && in[i].dims[1] == o->rotary / 2,
            "%s must be [≥ %lld positions, %lld]", inputs[i].name, (long long)positions, (long long)o->rotary / 2);
  }
  for (size_t i = Q_GAIN; i <= K_GAIN; i++)
    CHECK(run, !in[i].data || (in[i].rank == 1 && in[i].dims[0] == (int64_t)dim), "%s must be [%zu]", inputs[i].name, dim);
  return NULL;
}

/* Rows follow one another over all tokens, and every page that one reads or writes is in the pool. */
static OrtStatus *check_rows(const Run *run, const Options *o, const Tensor in[INPUTS], int64_t *positions) {
  const int64_t tokens = in[QKV].dims[0], pool = in[POOL].dims[0], columns = in[PAGES].dims[1];
  const int32_t *pages = in[PAGES].data;
  const Row *rows = in[ROWS].data;
  int64_t next = 0;
  *positions = 0;
  for (int64_t r = 0; r < in[ROWS].dims[0]; r++) {
    const int64_t past = rows[r].past, end = past + rows[r].tokens;
    CHECK(run, rows[r].first == next && rows[r].tokens >= 1 && past >= 0 && end <= INT32_MAX - SEGMENT,
          "row %lld (first %d, tokens %d, past %d): expected first %lld and at least one token", (long long)r, rows[r].first,
          rows[r].tokens, rows[r].past, (long long)next);
    next += rows[r].tokens;
    *positions = end > *positions ? end : *positions;
    CHECK(run, (end + PAGE - 1) / PAGE <= columns, "row %lld: %lld positions, pages for %lld", (long long)r, (long long)end,
          (long long)columns * PAGE);
    const int64_t low = o->window > 0 && past >= o->window ? past - o->window + 1 : 0;
    for (int64_t p = low / PAGE; p <= (end - 1) / PAGE; p++) {
      const int32_t page = pages[r * columns + p];
      CHECK(run, page >= 0 && page < pool, "row %lld: page %d at position %lld, the pool has %lld", (long long)r, page,
            (long long)p * PAGE, (long long)pool);
    }
  }
  CHECK(run, next == tokens, "rows cover %lld of %lld tokens", (long long)next, (long long)tokens);
  return NULL;
}

static OrtStatus *check(const Run *run, const Options *o, const Tensor in[INPUTS], Call *call) {
  const int64_t heads = o->heads + 2 * o->kv_heads, dim = in[QKV].dims[1] / heads, group = o->heads / o->kv_heads;
  CHECK(run, dim >= 8 && dim <= MAX_HEAD_DIM && dim % 8 == 0 && in[QKV].dims[1] == dim * heads,
        "qkv is %lld wide: %lld heads of a multiple of 8 up to %d expected", (long long)in[QKV].dims[1], (long long)heads, MAX_HEAD_DIM);
  CHECK(run, group <= MAX_QUERIES && group * dim <= ITEM_FLOATS, "%lld heads of %lld for one kv head", (long long)group, (long long)dim);
  CHECK(run, in[POOL].type == ORT_F32 || in[POOL].type == ORT_F16, "pool must be float or float16");
  CHECK(run, in[POOL].dims[1] == 2 * o->kv_heads * PAGE * dim, "pool must be [pages, %lld]", (long long)(2 * o->kv_heads * PAGE * dim));
  CHECK(run, in[ROWS].dims[1] == 3, "rows must be [rows, 3]");
  CHECK(run, in[PAGES].dims[0] == in[ROWS].dims[0], "pages for %lld rows, expected %lld", (long long)in[PAGES].dims[0],
        (long long)in[ROWS].dims[0]);
  int64_t positions;
  TRY(check_rows(run, o, in, &positions));
  TRY(check_tables(run, o, (size_t)dim, in, positions));
  *call = (Call){
    .options = o, .group = (size_t)group, .dim = (size_t)dim, .page_columns = (size_t)in[PAGES].dims[1], .qkv = in[QKV].data,
    .cos = in[COS].data, .sin = in[SIN].data, .q_gain = in[Q_GAIN].data, .k_gain = in[K_GAIN].data, .pool = in[POOL].data,
    .half = in[POOL].type == ORT_F16, .rows = in[ROWS].data, .pages = in[PAGES].data,
  };
  return NULL;
}

static void write_item(void *user, size_t index) {
  const Work *work = user;
  const Item *item = &work->items[index];
  const size_t from = (size_t)item->from, to = from + (size_t)item->tokens;
  write_tokens(work->call, (size_t)item->row, from, to, 0, (size_t)work->call->options->kv_heads);
}

INLINE float *out_at(const Call *call, const Item *item, size_t query) {
  const size_t token = (size_t)(call->rows[item->row].first + item->from) + query / call->group;
  const size_t head = (size_t)item->kv_head * call->group + query % call->group;
  return call->out + (token * (size_t)call->options->heads + head) * call->dim;
}

static void attend_item(void *user, size_t index) {
  const Work *work = user;
  const Call *call = work->call;
  const Item *item = &work->items[index];
  const size_t dim = call->dim, queries = (size_t)item->tokens * call->group, row = (size_t)item->row, head = (size_t)item->kv_head;
  _Alignas(64) float q[ITEM_FLOATS], sums[ITEM_FLOATS];
  Part merged[MAX_QUERIES], parts[MAX_QUERIES];
  Visible seen[MAX_QUERIES];
  Scratch scratch;
  if (item->writes) write_tokens(call, row, (size_t)item->from, (size_t)(item->from + item->tokens), head, head + 1);
  for (size_t i = 0; i < queries; i++) {
    memcpy(q + i * dim, out_at(call, item, i), dim * sizeof(float));
    seen[i] = visible(call, row, call->rows[row].past + item->from + (int32_t)(i / call->group));
    merged[i] = (Part){-__builtin_inff(), 0};
  }
  for (int32_t s = 0; s < item->segments; s++) {
    attend_segment(call, row, head, (size_t)(item->segment + s), queries, q, seen, &scratch, parts, sums);
    for (size_t i = 0; i < queries; i++) {
      if (!item->parts) {
        merge(&merged[i], out_at(call, item, i), parts[i], sums + i * dim, dim);
        continue;
      }
      float *slot = item->parts + ((size_t)s * queries + i) * (dim + 2);
      memcpy(slot, &parts[i], sizeof(Part));
      memcpy(slot + 2, sums + i * dim, dim * sizeof(float));
    }
  }
  if (!item->parts)
    for (size_t i = 0; i < queries; i++) finish(out_at(call, item, i), merged[i].total, dim);
}

/* Merges what several items made of one row and kv head: `items` are its cuts, in order. */
static void merge_items(const Call *call, const Item *items, size_t count) {
  const size_t dim = call->dim, queries = (size_t)items->tokens * call->group;
  for (size_t i = 0; i < queries; i++) {
    Part merged = {-__builtin_inff(), 0};
    float *out = out_at(call, items, i);
    for (const Item *item = items; item < items + count; item++) {
      for (int32_t s = 0; s < item->segments; s++) {
        const float *slot = item->parts + ((size_t)s * queries + i) * (dim + 2);
        Part part;
        memcpy(&part, slot, sizeof part);
        merge(&merged, out, part, slot + 2, dim);
      }
    }
    finish(out, merged.total, dim);
  }
}

/* How a run is cut into items: tokens of one, and whether rows that fit into one are cut into segments. */
typedef struct {
  int32_t block, segments_of_item;
  size_t items, part_floats;
} Plan;

INLINE int32_t first_segment(const Call *call, size_t row, int32_t at) { return visible(call, row, at).low / SEGMENT; }
/* Segments that the queries at positions `from` … `to` see. */
INLINE int32_t segments_seen(const Call *call, size_t row, int32_t from, int32_t to) {
  return visible(call, row, to).high / SEGMENT - first_segment(call, row, from) + 1;
}
INLINE int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }
INLINE int32_t at_least(int32_t a, int32_t b) { return a > b ? a : b; }
INLINE int32_t at_most(int32_t a, int32_t b) { return a < b ? a : b; }

/* A row that is one item for each kv head may be cut into segments, to be merged afterwards … */
INLINE bool is_split(const Call *call, const Plan *p, size_t r) {
  const Row row = call->rows[r];
  return row.tokens <= p->block && segments_seen(call, r, row.past, row.past + row.tokens - 1) > p->segments_of_item;
}
/* … and if it is not, the item writes the keys and values that it alone reads. */
INLINE bool is_written_by_item(const Call *call, const Plan *p, size_t r) {
  return call->rows[r].tokens <= p->block && !is_split(call, p, r);
}

static Plan plan(const Call *call, size_t rows) {
  const int32_t kv_heads = (int32_t)call->options->kv_heads;
  const int32_t fit = (int32_t)(ITEM_FLOATS / (call->group * call->dim)), most = MAX_QUERIES / (int32_t)call->group;
  /* Few tokens are cut finer, for the sake of threads, though not below two tiles. */
  const int32_t tokens = call->rows[rows - 1].first + call->rows[rows - 1].tokens;
  const int32_t fine = at_least(ceil_div(tokens * kv_heads, ENOUGH_ITEMS), ceil_div(2 * TILE_ROWS, (int32_t)call->group));
  Plan p = {.block = at_least(at_most(fine, at_most(fit, most)), 1), .segments_of_item = INT32_MAX};
  size_t segments = 0;
  for (size_t r = 0; r < rows; r++) {
    const Row row = call->rows[r];
    p.items += (size_t)(ceil_div(row.tokens, p.block) * kv_heads);
    segments += (size_t)(segments_seen(call, r, row.past, row.past + row.tokens - 1) * kv_heads);
  }
  if (p.items >= ENOUGH_ITEMS) return p;
  p.segments_of_item = (int32_t)(segments / ENOUGH_ITEMS) + 1;
  for (size_t r = 0; r < rows; r++) {
    const Row row = call->rows[r];
    const int32_t seen = segments_seen(call, r, row.past, row.past + row.tokens - 1);
    if (!is_split(call, &p, r)) continue;
    p.items += (size_t)((ceil_div(seen, p.segments_of_item) - 1) * kv_heads);
    p.part_floats += (size_t)seen * (size_t)(kv_heads * row.tokens) * call->group * (call->dim + 2);
  }
  return p;
}

static void cut(const Call *call, size_t rows, const Plan *p, Item *items, float *parts) {
  for (size_t r = 0; r < rows; r++) {
    const Row row = call->rows[r];
    for (int32_t from = 0; from < row.tokens; from += p->block) {
      const int32_t tokens = row.tokens - from < p->block ? row.tokens - from : p->block;
      const int32_t begin = first_segment(call, r, row.past + from);
      const int32_t seen = segments_seen(call, r, row.past + from, row.past + from + tokens - 1);
      const bool split = is_split(call, p, r);
      for (int32_t h = 0; h < (int32_t)call->options->kv_heads; h++) {
        for (int32_t s = 0; s < seen; s += split ? p->segments_of_item : seen) {
          const int32_t segments = split ? (seen - s < p->segments_of_item ? seen - s : p->segments_of_item) : seen;
          *items++ = (Item){(int32_t)r, h, from, tokens, begin + s, segments, is_written_by_item(call, p, r), split ? parts : NULL};
          if (split) parts += (size_t)(segments * tokens) * call->group * (call->dim + 2);
        }
      }
    }
  }
}

/* Writes what attending items do not write themselves, whole pages each, so that no two threads share a cache line of the pool. */
static OrtStatus *write_rows(const Run *run, const Call *call, const Plan *p, size_t rows) {
  size_t most = 0, count = 0;
  for (size_t r = 0; r < rows; r++) most += (size_t)call->rows[r].tokens / PAGE + 2;
  Item *items = malloc(most * sizeof *items);
  CHECK(run, items, "out of memory for %zu rows", rows);
  for (size_t r = 0; r < rows; r++) {
    if (is_written_by_item(call, p, r)) continue;
    const int32_t past = call->rows[r].past, end = past + call->rows[r].tokens;
    for (int32_t at = past, next; at < end; at = next) {
      next = (at / PAGE + 1) * PAGE < end ? (at / PAGE + 1) * PAGE : end;
      items[count++] = (Item){.row = (int32_t)r, .from = at - past, .tokens = next - at};
    }
  }
  Work work = {call, items};
  OrtStatus *status = count > 0 ? parallel_for(run, count, write_item, &work) : NULL;
  free(items);
  return status;
}

static OrtStatus *attend_rows(const Run *run, const Call *call, const Plan *p, size_t rows) {
  Item *items = malloc(p->items * sizeof *items + p->part_floats * sizeof(float));
  CHECK(run, items, "out of memory for %zu items of work", p->items);
  cut(call, rows, p, items, (float *)(items + p->items));
  Work work = {call, items};
  OrtStatus *status = parallel_for(run, p->items, attend_item, &work);
  for (size_t i = 0, next; !status && i < p->items; i = next) {
    for (next = i + 1; next < p->items && items[next].row == items[i].row && items[next].kv_head == items[i].kv_head; next++) {
    }
    if (items[i].parts) merge_items(call, items + i, next - i);
  }
  free(items);
  return status;
}

static OrtStatus *compute(const Run *run, const void *state) {
  const Options *options = state;
  static const size_t ranks[INPUTS] = {2, 2, 2, 2, 2, 2, 1, 1};
  Tensor in[INPUTS];
  for (size_t i = 0; i < INPUTS; i++) TRY(input_of_rank(run, i, ranks[i], &in[i]));
  Call call;
  TRY(check(run, options, in, &call));
  const int64_t shape[] = {in[QKV].dims[0], options->heads * (int64_t)call.dim};
  TRY(output(run, 0, shape, 2, (void **)&call.out));
  const size_t rows = (size_t)in[ROWS].dims[0];
  if (rows == 0) return NULL;
  const Plan p = plan(&call, rows);
  TRY(write_rows(run, &call, &p, rows));
  return attend_rows(run, &call, &p, rows);
}

const Operator VARIANT_NAME(paged_attention) = {
  .ort = {OPERATOR_CALLBACKS},
  .name = "PagedAttention",
  .inputs = INPUTS,
  .input = inputs,
  .outputs = 1,
  .output = outputs,
  .state_bytes = sizeof(Options),
  .prepare = prepare,
  .compute = compute,
};
