/* The engine of generation: reads past and future, draws tokens, writes spans; in 8 bits and in float32.
 *
 * It computes what reference.py does, which is its specification: the same bits in 8 bits, and in float32 the same
 * up to the order of sums. It is compiled once for each kind of vectors a processor may have (VECTORS names the
 * functions), without libc; kernel.h is the contract with the callers. */
#include "kernel.h"

#define VARIANT(name) VARIANT_(name, VECTORS)
#define VARIANT_(name, vectors) VARIANT__(name, vectors)
#define VARIANT__(name, vectors) name##_##vectors
#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#include "mathf.h"
#include "simd.h"
#include "linear.h"
#include "model.h"
#include "memory.c"
#include "encode.c"
#include "rules.c"
#include "step.c"
#include "write.c"
#if defined(__wasm__) /* for a page, which has no NumPy */
#include "noise.c"
#endif

#if defined(CONTRACT) /* in one of the variants */
/* The version of kernel.h and the sizes of its structs. */
EXPORT const int32_t *contract(void)
{
    static const int32_t facts[] = {
        CONTRACT_VERSION, sizeof(Config), sizeof(Token), sizeof(Drawn), sizeof(SpanState), sizeof(Slots), sizeof(MemoryState),
        sizeof(Memories), EVENT_HEADS, GROUP_HEADS, FINGERPRINT, VALUE, EVENT_TAPS, GROUP_TAPS, GROUP_TICKS, INTERVAL_REACH,
        ROLL_CENTRE, LOW_BEFORE, ENTRY_COLUMNS, LAGS, HABITUATION_LAGS, MATCH_TOKENS, LEAST_MATCH_LAG, SHIFT_REACH,
        TILE_OUTPUTS,
    };
    return facts;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* The best vectors that the processor has and whose registers the system keeps (Intel's manual, volume 1, 14.3 and 15.2):
 * 3 for AVX-512 with VNNI, 2 for AVX2, 1 for SSSE3, else 0. */
EXPORT int32_t best_vectors(void)
{
    uint32_t a, b, c, d, kept;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 9)))
        return 0;
    if (!(c & (1u << 27)) || !(c & (1u << 28)))
        return 1;
    __asm__("xgetbv" : "=a"(kept), "=d"(d) : "c"(0));
    if ((kept & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & (1u << 5)))
        return 1;
    return (kept & 0xe6) == 0xe6 && (b & (1u << 31)) && (c & (1u << 11)) ? 3 : 2;
}
#endif
#endif
