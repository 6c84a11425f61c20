/*
 * FinishLinear: from the raw product y of linears that stand side by side to their output (adapted.h):
 *
 *   out = y · row_scale + bias + what the adapters of each token's row add
 */
#include "adapted_plan.h"

static OrtStatus *prepare(const Attributes *attributes, void *linears) { return linears_of(attributes, "FinishLinear", linears); }

enum { Y, X, ROWS, ADAPTERS, ROW_SCALE, BIAS };

static const Port inputs[] = {
    {"y", ORT_F32, ORT_REQUIRED},        {"x", ORT_F32, ORT_REQUIRED},         {"rows", ORT_I32, ORT_OPTIONAL},
    {"adapters", ORT_I64, ORT_OPTIONAL}, {"row_scale", ORT_F32, ORT_OPTIONAL}, {"bias", ORT_F32, ORT_OPTIONAL},
};
static const Port outputs[] = {{"out", ORT_F32, ORT_REQUIRED}};

static OrtStatus *compute(const Run *run, const void *pointer) {
  const Linears *linears = pointer;
  Tensor y, x, rows, adapters, row_scale, bias;
  TRY(input_of_rank(run, Y, 2, &y));
  TRY(input_of_rank(run, X, 2, &x));
  TRY(input_of_rank(run, ROWS, 2, &rows));
  TRY(input_of_rank(run, ADAPTERS, 3, &adapters));
  TRY(input_of_rank(run, ROW_SCALE, 2, &row_scale));
  TRY(input_of_rank(run, BIAS, 1, &bias));
  const int64_t tokens = y.dims[0], width = y.dims[1];
  CHECK(run, width == width_of(linears), "y is %lld wide, the linears %lld", (long long)width, (long long)width_of(linears));
  CHECK(run, x.dims[0] == tokens, "%lld rows of x for %lld of y", (long long)x.dims[0], (long long)tokens);
  CHECK(run, !row_scale.data || (row_scale.dims[0] == tokens && row_scale.dims[1] == 1), "row_scale [%lld, %lld] for %lld tokens",
        (long long)row_scale.dims[0], (long long)row_scale.dims[1], (long long)tokens);
  CHECK(run, !bias.data || bias.dims[0] == width, "bias of %lld for %lld columns", (long long)bias.dims[0], (long long)width);
  void *out;
  TRY(output(run, 0, y.dims, 2, &out));
  if (tokens == 0) return NULL;
  Plan plan = {.linears = linears, .y = y.data, .x = x.data, .row_scale = row_scale.data, .bias = bias.data, .out = out,
               .tokens = (size_t)tokens, .in = (size_t)x.dims[1], .width = (size_t)width};
  OrtStatus *status = plan_groups(run, &plan, &rows, &adapters);
  if (!status) status = finish_all(run, &plan);
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
    .state_bytes = sizeof(Linears),
    .prepare = prepare,
    .compute = compute,
};
