/*
 * The part of ONNX Runtime's C interface that custom operators use. Its functions come as a table of pointers whose
 * positions never change, so naming positions is enough and no header of its own is needed.
 */
#ifndef SWITCHYARD_ORT_H
#define SWITCHYARD_ORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtShape OrtShape;
typedef struct OrtCustomOp OrtCustomOp;

typedef struct {
  void *at[280];
} OrtApi;

typedef struct {
  const OrtApi *(*GetApi)(uint32_t version);
} OrtApiBase;

/* Table positions of version 18, the first that has everything used here. */
#define ORT_API_VERSION 18

#define ORT_CreateStatus(api) ((OrtStatus * (*)(int, const char *))(api)->at[0])
#define ORT_CreateCustomOpDomain(api) ((OrtStatus * (*)(const char *, OrtCustomOpDomain **))(api)->at[26])
#define ORT_CustomOpDomain_Add(api) ((OrtStatus * (*)(OrtCustomOpDomain *, const OrtCustomOp *))(api)->at[27])
#define ORT_AddCustomOpDomain(api) ((OrtStatus * (*)(OrtSessionOptions *, OrtCustomOpDomain *))(api)->at[28])
#define ORT_GetTensorMutableData(api) ((OrtStatus * (*)(OrtValue *, void **))(api)->at[51])
#define ORT_GetTensorElementType(api) ((OrtStatus * (*)(const OrtShape *, int *))(api)->at[60])
#define ORT_GetDimensionsCount(api) ((OrtStatus * (*)(const OrtShape *, size_t *))(api)->at[61])
#define ORT_GetDimensions(api) ((OrtStatus * (*)(const OrtShape *, int64_t *, size_t))(api)->at[62])
#define ORT_GetTensorTypeAndShape(api) ((OrtStatus * (*)(const OrtValue *, OrtShape **))(api)->at[65])
#define ORT_KernelInfoGetAttribute_float(api) ((OrtStatus * (*)(const OrtKernelInfo *, const char *, float *))(api)->at[85])
#define ORT_KernelInfoGetAttribute_int64(api) ((OrtStatus * (*)(const OrtKernelInfo *, const char *, int64_t *))(api)->at[86])
#define ORT_KernelContext_GetInput(api) ((OrtStatus * (*)(const OrtKernelContext *, size_t, const OrtValue **))(api)->at[90])
#define ORT_KernelContext_GetOutput(api) \
  ((OrtStatus * (*)(OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **))(api)->at[91])
#define ORT_ReleaseTensorTypeAndShapeInfo(api) ((void (*)(OrtShape *))(api)->at[99])
#define ORT_KernelInfoGetAttributeArray_int64(api) \
  ((OrtStatus * (*)(const OrtKernelInfo *, const char *, int64_t *, size_t *))(api)->at[163])
#define ORT_KernelContext_ParallelFor(api) \
  ((OrtStatus * (*)(const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *))(api)->at[274])

enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum { ORT_ANY = 0, ORT_F32 = 1, ORT_U8 = 2, ORT_I8 = 3, ORT_I32 = 6, ORT_I64 = 7, ORT_F16 = 10 };
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };

/* OrtCustomOp as of version 18. */
struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);
  const char *(*GetName)(const OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *);
  int (*GetInputType)(const OrtCustomOp *, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp *);
  int (*GetOutputType)(const OrtCustomOp *, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *);
  void (*KernelCompute)(void *, OrtKernelContext *);
  void (*KernelDestroy)(void *);
  int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **);
  OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
  OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *, void *);
  int (*GetStartVersion)(const OrtCustomOp *);
  int (*GetEndVersion)(const OrtCustomOp *);
  size_t (*GetMayInplace)(int **, int **);
  void (*ReleaseMayInplace)(int *, int *);
  size_t (*GetAliasMap)(int **, int **);
  void (*ReleaseAliasMap)(int *, int *);
};

#endif
