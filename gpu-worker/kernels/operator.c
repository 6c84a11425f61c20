/* ONNX Runtime's side of every operator: description, state, reading of attributes and tensors, errors, threads. */
#include "operator.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
  const OrtApi *api;
  const Operator *op;
  _Alignas(16) char state[];
} Kernel;

static const Operator *of(const OrtCustomOp *op) { return (const Operator *)op; }

const char *operator_name(const OrtCustomOp *op) { return of(op)->name; }
const char *operator_provider(const OrtCustomOp *op) { (void)op; return "CPUExecutionProvider"; }
int operator_input_type(const OrtCustomOp *op, size_t index) { return of(op)->input[index].type; }
size_t operator_input_count(const OrtCustomOp *op) { return of(op)->inputs; }
int operator_output_type(const OrtCustomOp *op, size_t index) { return of(op)->output[index].type; }
size_t operator_output_count(const OrtCustomOp *op) { return of(op)->outputs; }
int operator_input_presence(const OrtCustomOp *op, size_t index) { return of(op)->input[index].presence; }
int operator_output_presence(const OrtCustomOp *op, size_t index) { return of(op)->output[index].presence; }
int operator_memory(const OrtCustomOp *op, size_t index) { (void)op, (void)index; return 0; }
int operator_arity(const OrtCustomOp *op) { (void)op; return 1; }
int operator_version(const OrtCustomOp *op) { (void)op; return 1; }

OrtStatus *operator_create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
  Kernel *kernel = calloc(1, sizeof(Kernel) + of(op)->state_bytes);
  if (!kernel) return refuse(api, of(op)->name, "out of memory");
  *kernel = (Kernel){.api = api, .op = of(op)};
  const Attributes attributes = {api, info};
  OrtStatus *status = of(op)->prepare(&attributes, kernel->state);
  if (status) {
    free(kernel);
    return status;
  }
  *out = kernel;
  return NULL;
}

OrtStatus *operator_compute(void *pointer, OrtKernelContext *context) {
  const Kernel *kernel = pointer;
  const Run run = {kernel->api, context, kernel->op};
  return kernel->op->compute(&run, kernel->state);
}

void operator_destroy(void *kernel) { free(kernel); }

OrtStatus *refuse(const OrtApi *api, const char *name, const char *format, ...) {
  char message[400];
  const int prefix = snprintf(message, sizeof message, "%s: ", name);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message + prefix, sizeof message - (size_t)prefix, format, arguments);
  va_end(arguments);
  return ORT_CreateStatus(api)(ORT_INVALID_ARGUMENT, message);
}

OrtStatus *attribute_int(const Attributes *a, const char *name, int64_t *value) {
  return ORT_KernelInfoGetAttribute_int64(a->api)(a->info, name, value);
}

OrtStatus *attribute_float(const Attributes *a, const char *name, float *value) {
  return ORT_KernelInfoGetAttribute_float(a->api)(a->info, name, value);
}

OrtStatus *attribute_ints(const Attributes *a, const char *name, int64_t *values, size_t *count) {
  return ORT_KernelInfoGetAttributeArray_int64(a->api)(a->info, name, values, count);
}

static OrtStatus *describe(const Run *run, const OrtShape *shape, const char *name, Tensor *tensor) {
  TRY(ORT_GetTensorElementType(run->api)(shape, &tensor->type));
  TRY(ORT_GetDimensionsCount(run->api)(shape, &tensor->rank));
  CHECK(run, tensor->rank <= MAX_RANK, "%s has %zu dimensions, at most %d are known", name, tensor->rank, MAX_RANK);
  return ORT_GetDimensions(run->api)(shape, tensor->dims, tensor->rank);
}

OrtStatus *input(const Run *run, size_t index, Tensor *tensor) {
  *tensor = (Tensor){0};
  const OrtValue *value = NULL;
  TRY(ORT_KernelContext_GetInput(run->api)(run->context, index, &value));
  if (!value) return NULL;
  TRY(ORT_GetTensorMutableData(run->api)((OrtValue *)value, &tensor->data));
  OrtShape *shape;
  TRY(ORT_GetTensorTypeAndShape(run->api)(value, &shape));
  OrtStatus *status = describe(run, shape, run->op->input[index].name, tensor);
  ORT_ReleaseTensorTypeAndShapeInfo(run->api)(shape);
  return status;
}

OrtStatus *input_of_rank(const Run *run, size_t index, size_t rank, Tensor *tensor) {
  TRY(input(run, index, tensor));
  CHECK(run, !tensor->data || tensor->rank == rank, "%s has %zu dimensions, expected %zu", run->op->input[index].name,
        tensor->rank, rank);
  return NULL;
}

OrtStatus *output(const Run *run, size_t index, const int64_t *dims, size_t rank, void **data) {
  OrtValue *value = NULL;
  *data = NULL;
  TRY(ORT_KernelContext_GetOutput(run->api)(run->context, index, dims, rank, &value));
  return value == NULL ? NULL : ORT_GetTensorMutableData(run->api)(value, data);
}

OrtStatus *parallel_for(const Run *run, size_t items, void (*body)(void *, size_t), void *user) {
  return ORT_KernelContext_ParallelFor(run->api)(run->context, body, items, 0, user);
}
