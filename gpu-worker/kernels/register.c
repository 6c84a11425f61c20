/* The library's entrance: which operators there are, for which instruction set, and how a session learns of them. */
#include "operator.h"

#if defined(__x86_64__)
#include <cpuid.h>
#define VARIANTS(each) each(avx2) each(avx512)
#else
#define VARIANTS(each) each(neon)
#endif

#define EXPORT __attribute__((visibility("default")))

/* Every operator, once. */
#define OPERATORS(each, variant)                                                               \
  each(paged_attention, variant) each(finish_linear, variant) each(add_norm_quantize, variant) \
  each(quantize_rows, variant) each(gated_units, variant) each(block_linear, variant)

#define DECLARE(name, variant) extern const Operator name##_##variant;
#define LISTED(name, variant) &name##_##variant,
#define TABLE(variant)         \
  OPERATORS(DECLARE, variant)  \
  static const Operator *const variant##_operators[] = {OPERATORS(LISTED, variant) NULL};
VARIANTS(TABLE)

/* SHA-256 of the sources that this library was built from, as build.ts computed it. */
EXPORT const char switchyard_kernels_sources[] = SOURCES;

#if defined(__x86_64__)
static uint64_t enabled_registers(void) {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static const Operator *const *operators_of_this_cpu(void) {
  const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  const uint32_t avx2 = 1u << 5, avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, vnni = 1u << 11;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c)) return NULL;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2)) return NULL;
  const uint64_t registers = enabled_registers();
  if ((registers & 0x6) != 0x6) return NULL;
  return (registers & 0xe6) == 0xe6 && (b & avx512) == avx512 && (c & vnni) ? avx512_operators : avx2_operators;
}
#else
static const Operator *const *operators_of_this_cpu(void) { return neon_operators; }
#endif

/* Made once and kept, as the sessions that use it may outlive any caller. */
static OrtCustomOpDomain *shared_domain;

static OrtStatus *domain(const OrtApi *api, OrtCustomOpDomain **out) {
  *out = __atomic_load_n(&shared_domain, __ATOMIC_ACQUIRE);
  if (*out) return NULL;
  const Operator *const *operators = operators_of_this_cpu();
  if (!operators) return refuse(api, "switchyard kernels", "this processor lacks AVX2, FMA or F16C");
  OrtCustomOpDomain *made = NULL;
  TRY(ORT_CreateCustomOpDomain(api)("switchyard", &made));
  for (; *operators; operators++) TRY(ORT_CustomOpDomain_Add(api)(made, &(*operators)->ort));
  OrtCustomOpDomain *first = NULL;
  /* Two threads may get here at once: the first one's stays, the other's is a few bytes that nobody uses. */
  *out = __atomic_compare_exchange_n(&shared_domain, &first, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ? made : first;
  return NULL;
}

/* Adds the operators to the sessions that are made with these options. */
EXPORT OrtStatus *switchyard_kernels_register(OrtSessionOptions *options, const OrtApiBase *base) {
  const OrtApi *api = base->GetApi(ORT_API_VERSION);
  OrtCustomOpDomain *operators;
  TRY(domain(api, &operators));
  return ORT_AddCustomOpDomain(api)(options, operators);
}
