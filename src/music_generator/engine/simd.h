/* Vectors of 8-bit products, for each kind of processor.
 *
 * `Sums` holds 32-bit sums, one an output; `Bytes` four weights of each of those outputs. MULTIPLY_ADD adds to the sums
 * the products of four inputs (the same for all outputs) and those weights, exactly: model/pack.py keeps two neighbouring
 * products within 16 bits. INPUT_OFFSET is what a stored byte of input lies below the number it stands for. A tile of
 * TILE_OUTPUTS outputs is summed up in registers, for TILE_ROWS rows of inputs at a time. */
#define TILE_OUTPUTS 32

#if defined(__AVX2__)
#include <immintrin.h>
#define TILE_ROWS 2
#define INPUT_OFFSET 0
typedef __m256i Bytes, Sums;
#define BROADCAST(value) _mm256_set1_epi32(value)
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define MULTIPLY_ADD(sums, input, weight) _mm256_dpbusd_epi32(sums, input, weight)
#else
#define MULTIPLY_ADD(sums, input, weight) \
    _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(input, weight), _mm256_set1_epi16(1)))
#endif

#elif defined(__SSSE3__)
#include <tmmintrin.h>
#define TILE_ROWS 1
#define INPUT_OFFSET 0
typedef __m128i Bytes, Sums;
#define BROADCAST(value) _mm_set1_epi32(value)
#define LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define MULTIPLY_ADD(sums, input, weight) \
    _mm_add_epi32(sums, _mm_madd_epi16(_mm_maddubs_epi16(input, weight), _mm_set1_epi16(1)))

#elif defined(__ARM_NEON)
#include <arm_neon.h>
#define TILE_ROWS 2
#define INPUT_OFFSET 128 /* signed bytes: 16 bits hold two products of -128 times 128 of one sign, or 127 times 127 of both */
typedef int8x16_t Bytes;
typedef int32x4_t Sums;
#define BROADCAST(value) vreinterpretq_s8_s32(vdupq_n_s32(value))
#define LOAD(from) vld1q_s8(from)
#if defined(__ARM_FEATURE_DOTPROD)
#define MULTIPLY_ADD(sums, input, weight) vdotq_s32(sums, input, weight)
#else
static inline int32x4_t multiply_add(int32x4_t sums, int8x16_t input, int8x16_t weight)
{
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(input), vget_low_s8(weight)));
    return vaddq_s32(sums, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(input, weight))));
}
#define MULTIPLY_ADD(sums, input, weight) multiply_add(sums, input, weight)
#endif

#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define TILE_ROWS 2
#define INPUT_OFFSET 128
typedef v128_t Bytes, Sums;
#define BROADCAST(value) wasm_i16x8_extend_low_i8x16(wasm_i32x4_splat(value)) /* four inputs of 16 bits, twice */
#define LOAD(from) wasm_v128_load(from)
static inline v128_t multiply_add(v128_t sums, v128_t input, v128_t weight)
{
    v128_t low = wasm_i32x4_dot_i16x8(input, wasm_i16x8_extend_low_i8x16(weight));
    v128_t high = wasm_i32x4_dot_i16x8(input, wasm_i16x8_extend_high_i8x16(weight));
    v128_t pairs = wasm_i32x4_add(wasm_i32x4_shuffle(low, high, 0, 2, 4, 6), wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
    return wasm_i32x4_add(sums, pairs);
}
#define MULTIPLY_ADD(sums, input, weight) multiply_add(sums, input, weight)

#else
#error "no vectors for this processor: the NumPy reference generates there"
#endif

#define TILE_PARTS (TILE_OUTPUTS * 4 / (int)sizeof(Bytes)) /* vectors of a tile */
