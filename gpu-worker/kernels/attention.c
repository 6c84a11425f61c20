/* trial */
#include "operator.h"
static const Port inputs[] = {{"qkv", ORT_F32, 0}, {"pool", ORT_ANY, 0}};
static const Port outputs[] = {{"out", ORT_F32, 0}};
typedef struct { int64_t heads; } State;
static OrtStatus *prepare(const Attributes *a, void *s) { return attribute_int(a, "heads", &((State *)s)->heads); }
typedef struct { const float *in; float *out; } Job;
static void body(void *u, size_t i) { Job *j = u; j->out[i] = j->in[i] * 2; }
static OrtStatus *compute(const Run *run, const void *state) {
  (void)state; Tensor x, pool; void *out;
  TRY(input_of_rank(run, 0, 2, &x));
  TRY(input(run, 1, &pool));
  CHECK(run, pool.type == ORT_F32 || pool.type == ORT_F16, "pool has type %d", pool.type);
  TRY(output(run, 0, x.dims, 2, &out));
  Job j = {x.data, out};
  return parallel_for(run, x.dims[0] * x.dims[1], body, &j);
}
const Operator VARIANT_NAME(paged_attention) = {
  .ort = {OPERATOR_CALLBACKS}, .name = "PagedAttention", .inputs = 2, .input = inputs, .outputs = 1, .output = outputs,
  .state_bytes = sizeof(State), .prepare = prepare, .compute = compute };
