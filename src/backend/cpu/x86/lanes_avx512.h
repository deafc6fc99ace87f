/* Sixteen float lanes as one AVX-512 register. The same functions as lanes_avx2.h, for kernels_f32.h; every one gives the
 * same bits in both. Only files built with this tier's flags include it. */
#ifndef ROCMFORGE_BACKEND_CPU_X86_LANES_AVX512_H
#define ROCMFORGE_BACKEND_CPU_X86_LANES_AVX512_H

#include "backend/cpu/canon.h"

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef __m512 lanes;
typedef __mmask16 lanes_mask;

/* Register tiles: queries per tile, and sixteen-lane accumulators beside each other for n queries (4 * 6 of 32 registers). */
enum { TILE_QUERIES = 6, LINEAR_ROWS = 4, LINEAR_COLS = 4 };
INLINE int tile_width(int n_queries) { return n_queries > 0 ? 4 : 0; }

INLINE lanes lanes_zero(void) { return _mm512_setzero_ps(); }
INLINE lanes lanes_set1(float x) { return _mm512_set1_ps(x); }
INLINE lanes lanes_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void lanes_store(float *p, lanes a) { _mm512_storeu_ps(p, a); }
INLINE lanes lanes_add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
INLINE lanes lanes_sub(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
INLINE lanes lanes_mul(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
INLINE lanes lanes_div(lanes a, lanes b) { return _mm512_div_ps(a, b); }
INLINE lanes lanes_fma(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
INLINE lanes lanes_max(lanes a, lanes b) { return _mm512_max_ps(a, b); } /* b if either is NaN, as canon_max */
INLINE lanes lanes_min(lanes a, lanes b) { return _mm512_min_ps(a, b); }

/* --- masks: lane i is on ---------------------------------------------------------------------------------------------- */
INLINE lanes_mask lanes_range(int lo, int hi) { /* lo <= i < hi; both may lie outside 0 .. 16 */
    uint32_t below_hi = hi >= 16 ? 0xffffu : hi <= 0 ? 0 : (1u << hi) - 1;
    uint32_t below_lo = lo >= 16 ? 0xffffu : lo <= 0 ? 0 : (1u << lo) - 1;
    return (lanes_mask)(below_hi & ~below_lo);
}
INLINE lanes_mask lanes_less(lanes a, lanes b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE lanes lanes_pick(lanes_mask on, lanes a, lanes b) { return _mm512_mask_blend_ps(on, b, a); } /* on ? a : b */

/* --- the first n lanes, n <= 16; memory past them is not touched --------------------------------------------------------- */
INLINE lanes lanes_load_part(const float *p, size_t n) { return _mm512_maskz_loadu_ps(lanes_range(0, (int)n), p); }
INLINE void lanes_store_part(float *p, lanes a, size_t n) { _mm512_mask_storeu_ps(p, lanes_range(0, (int)n), a); }

/* --- bits ------------------------------------------------------------------------------------------------------------- */
INLINE lanes lanes_bits(uint32_t u) { return _mm512_castsi512_ps(_mm512_set1_epi32((int)u)); }
INLINE lanes lanes_and(lanes a, lanes b) { return _mm512_and_ps(a, b); }
INLINE lanes lanes_xor(lanes a, lanes b) { return _mm512_xor_ps(a, b); }
INLINE lanes lanes_or(lanes a, lanes b) { return _mm512_or_ps(a, b); }
INLINE lanes lanes_max_bits(lanes a, lanes b) { /* as unsigned integers below 2^31 */
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
INLINE uint32_t lanes_max_bits_all(lanes a) { return (uint32_t)_mm512_reduce_max_epi32(_mm512_castps_si512(a)); }

/* y * 2^n, n = t - EXP_MAGIC, rounded once. */
INLINE lanes lanes_ldexp_magic(lanes y, lanes t) {
    return _mm512_scalef_ps(y, _mm512_sub_ps(t, _mm512_set1_ps(EXP_MAGIC)));
}

/* --- widening --------------------------------------------------------------------------------------------------------- */
INLINE lanes lanes_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
INLINE lanes lanes_load_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
INLINE lanes lanes_of_i8(__m128i c) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(c)); }

/* --- across lanes ----------------------------------------------------------------------------------------------------- */
INLINE __m128 lanes_fold4(lanes a) { /* s[i] + s[i+8], then i + 4: the tree's first two levels */
    __m256 t = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
}
INLINE __m128 lanes_fold4_max(lanes a) {
    __m256 t = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_max_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
}

/* p[0 .. 32) as even and odd elements */
INLINE void lanes_load_pairs(const float *p, lanes *even, lanes *odd) {
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    lanes a = lanes_load(p), b = lanes_load(p + 16);
    *even = _mm512_permutex2var_ps(a, at, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, _mm512_set1_epi32(1)), b);
}
INLINE lanes lanes_dup_even(lanes a) { return _mm512_moveldup_ps(a); }
INLINE lanes lanes_dup_odd(lanes a) { return _mm512_movehdup_ps(a); }
INLINE lanes lanes_swap_pairs(lanes a) { return _mm512_permute_ps(a, 0xb1); }
INLINE lanes lanes_sign_even(void) { return _mm512_castsi512_ps(_mm512_set1_epi64(0x80000000)); }

/* Sixteen codes: to the nearest integer, ties to even, kept within -127 .. 127. */
INLINE __m128i lanes_codes(lanes a) {
    __m128i c = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a));
    return _mm_max_epi8(c, _mm_set1_epi8(-127));
}

#endif
