/*
 * What an operator of ours is made of: its ports, the state made from its attributes, and its computation.
 * operator.c answers ONNX Runtime's questions about it.
 *
 * Source files of operators are compiled once for each instruction set (VARIANT); an operator defines
 * `const Operator VARIANT_NAME(name)` and register.c lists it.
 */
#ifndef SWITCHYARD_OPERATOR_H
#define SWITCHYARD_OPERATOR_H

#include <stdbool.h>

#include "ort.h"

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define VARIANT_NAME(name) JOIN(name, VARIANT)

/* Tensor ranks that operators accept. */
#define MAX_RANK 4

typedef struct {
  const char *name;
  /* ORT_F32 …; ORT_ANY: the operator checks the type itself. */
  int type;
  /* ORT_REQUIRED or ORT_OPTIONAL. */
  int presence;
} Port;

typedef struct {
  const OrtApi *api;
  const OrtKernelInfo *info;
} Attributes;

typedef struct Operator Operator;

typedef struct {
  const OrtApi *api;
  OrtKernelContext *context;
  const Operator *op;
} Run;

struct Operator {
  /* First, so that ONNX Runtime's pointer to it is a pointer to the operator. */
  OrtCustomOp ort;
  const char *name;
  size_t inputs;
  const Port *input;
  size_t outputs;
  const Port *output;
  size_t state_bytes;
  /* Fills the state from the node's attributes. */
  OrtStatus *(*prepare)(const Attributes *, void *state);
  /* Checks every size and index that it uses before it reads or writes anything through them. */
  OrtStatus *(*compute)(const Run *, const void *state);
};

/* A tensor of a run; `data` is NULL when an optional one was left out. */
typedef struct {
  void *data;
  int type;
  size_t rank;
  int64_t dims[MAX_RANK];
} Tensor;

/* `return` the status of a call that failed. */
#define TRY(call)                       \
  do {                                  \
    OrtStatus *try_status = (call);     \
    if (try_status) return try_status;  \
  } while (0)

/* Refuses a run unless `condition`; the rest is a format and its arguments. */
#define CHECK(run, condition, ...)                        \
  do {                                                    \
    if (!(condition)) return refuse((run)->api, (run)->op->name, __VA_ARGS__); \
  } while (0)

OrtStatus *refuse(const OrtApi *api, const char *operator_name, const char *format, ...) __attribute__((format(printf, 3, 4)));

OrtStatus *attribute_int(const Attributes *attributes, const char *name, int64_t *value);
OrtStatus *attribute_float(const Attributes *attributes, const char *name, float *value);
/* `*count` holds the capacity of `values` and receives the number of them. */
OrtStatus *attribute_ints(const Attributes *attributes, const char *name, int64_t *values, size_t *count);

OrtStatus *input(const Run *run, size_t index, Tensor *tensor);
/* Refuses an input that is there and has another rank than `rank`. */
OrtStatus *input_of_rank(const Run *run, size_t index, size_t rank, Tensor *tensor);
/* `*data` is NULL when an optional output was left out. */
OrtStatus *output(const Run *run, size_t index, const int64_t *dims, size_t rank, void **data);

/* body(user, i) for each i < items on ONNX Runtime's own threads, in any order; returns when all are done. */
OrtStatus *parallel_for(const Run *run, size_t items, void (*body)(void *user, size_t item), void *user);

/* The `ort` member of every operator, but for what a designated initialiser after it overrides. */
const char *operator_name(const OrtCustomOp *op);
const char *operator_provider(const OrtCustomOp *op);
int operator_input_type(const OrtCustomOp *op, size_t index);
size_t operator_input_count(const OrtCustomOp *op);
int operator_output_type(const OrtCustomOp *op, size_t index);
size_t operator_output_count(const OrtCustomOp *op);
int operator_input_presence(const OrtCustomOp *op, size_t index);
int operator_output_presence(const OrtCustomOp *op, size_t index);
int operator_memory(const OrtCustomOp *op, size_t index);
int operator_arity(const OrtCustomOp *op);
int operator_version(const OrtCustomOp *op);
OrtStatus *operator_create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel);
OrtStatus *operator_compute(void *kernel, OrtKernelContext *context);
void operator_destroy(void *kernel);

#define OPERATOR_CALLBACKS                                                            \
  .version = ORT_API_VERSION, .GetName = operator_name,                               \
  .GetExecutionProviderType = operator_provider, .GetInputType = operator_input_type, \
  .GetInputTypeCount = operator_input_count, .GetOutputType = operator_output_type,   \
  .GetOutputTypeCount = operator_output_count, .KernelDestroy = operator_destroy,     \
  .GetInputCharacteristic = operator_input_presence,                                  \
  .GetOutputCharacteristic = operator_output_presence,                                \
  .GetInputMemoryType = operator_memory, .GetVariadicInputMinArity = operator_arity,  \
  .GetVariadicInputHomogeneity = operator_arity, .GetVariadicOutputMinArity = operator_arity, \
  .GetVariadicOutputHomogeneity = operator_arity, .CreateKernelV2 = operator_create,  \
  .KernelComputeV2 = operator_compute, .GetStartVersion = operator_version,           \
  .GetEndVersion = operator_version

#endif
