/* Sixteen float lanes as two AVX registers: lanes 0-7 and 8-15. The same functions as lanes_avx512.h, for kernels_f32.h;
 * every one gives the same bits in both. Only files built with this tier's flags include it. */
#ifndef ROCMFORGE_BACKEND_CPU_X86_LANES_AVX2_H
#define ROCMFORGE_BACKEND_CPU_X86_LANES_AVX2_H

#include "backend/cpu/canon.h"

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    __m256 lo, hi;
} lanes;
typedef lanes lanes_mask; /* all bits of a lane, or none */

/* Register tiles: queries per tile, and sixteen-lane accumulators beside each other for n queries (at most 6 * 2 of the
 * 16 registers). */
enum { TILE_QUERIES = 6, LINEAR_ROWS = 2, LINEAR_COLS = 3 };
INLINE int tile_width(int n_queries) { return n_queries == 1 ? 4 : n_queries <= 3 ? 2 : 1; }

INLINE lanes lanes_zero(void) { return (lanes){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE lanes lanes_set1(float x) { return (lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE lanes lanes_load(const float *p) { return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void lanes_store(float *p, lanes a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
INLINE lanes lanes_add(lanes a, lanes b) { return (lanes){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
INLINE lanes lanes_sub(lanes a, lanes b) { return (lanes){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
INLINE lanes lanes_mul(lanes a, lanes b) { return (lanes){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
INLINE lanes lanes_div(lanes a, lanes b) { return (lanes){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
INLINE lanes lanes_fma(lanes a, lanes b, lanes c) {
    return (lanes){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
INLINE lanes lanes_max(lanes a, lanes b) { /* b if either is NaN, as canon_max */
    return (lanes){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
INLINE lanes lanes_min(lanes a, lanes b) { return (lanes){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }

/* --- masks: lane i is on ---------------------------------------------------------------------------------------------- */
INLINE __m256i range8(int first, int lo, int hi) { /* lanes first .. first + 7 */
    __m256i i = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), i),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), i));
}
INLINE lanes_mask lanes_range(int lo, int hi) { /* lo <= i < hi; both may lie outside 0 .. 16 */
    return (lanes){_mm256_castsi256_ps(range8(0, lo, hi)), _mm256_castsi256_ps(range8(8, lo, hi))};
}
INLINE lanes_mask lanes_less(lanes a, lanes b) {
    return (lanes){_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
INLINE lanes lanes_pick(lanes_mask on, lanes a, lanes b) { /* on ? a : b */
    return (lanes){_mm256_blendv_ps(b.lo, a.lo, on.lo), _mm256_blendv_ps(b.hi, a.hi, on.hi)};
}

/* --- the first n lanes, n <= 16; memory past them is not touched --------------------------------------------------------- */
INLINE lanes lanes_load_part(const float *p, size_t n) {
    return (lanes){_mm256_maskload_ps(p, range8(0, 0, (int)n)), _mm256_maskload_ps(p + 8, range8(8, 0, (int)n))};
}
INLINE void lanes_store_part(float *p, lanes a, size_t n) {
    _mm256_maskstore_ps(p, range8(0, 0, (int)n), a.lo);
    _mm256_maskstore_ps(p + 8, range8(8, 0, (int)n), a.hi);
}

/* --- bits ------------------------------------------------------------------------------------------------------------- */
INLINE lanes lanes_bits(uint32_t u) {
    __m256 b = _mm256_castsi256_ps(_mm256_set1_epi32((int)u));
    return (lanes){b, b};
}
INLINE lanes lanes_and(lanes a, lanes b) { return (lanes){_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)}; }
INLINE lanes lanes_xor(lanes a, lanes b) { return (lanes){_mm256_xor_ps(a.lo, b.lo), _mm256_xor_ps(a.hi, b.hi)}; }
INLINE lanes lanes_or(lanes a, lanes b) { return (lanes){_mm256_or_ps(a.lo, b.lo), _mm256_or_ps(a.hi, b.hi)}; }
INLINE __m256 max_bits8(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
INLINE lanes lanes_max_bits(lanes a, lanes b) { /* as unsigned integers below 2^31 */
    return (lanes){max_bits8(a.lo, b.lo), max_bits8(a.hi, b.hi)};
}
INLINE uint32_t lanes_max_bits_all(lanes a) {
    __m256i t = _mm256_castps_si256(max_bits8(a.lo, a.hi));
    __m128i u = _mm_max_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
    u = _mm_max_epi32(u, _mm_shuffle_epi32(u, 0x4e));
    u = _mm_max_epi32(u, _mm_shuffle_epi32(u, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(u);
}

/* y * 2^n, n = t - EXP_MAGIC, rounded once: see canon_ldexp. */
INLINE __m256 ldexp_magic8(__m256 y, __m256 t) {
    __m256i bias = _mm256_set1_epi32(127), magic = _mm256_castps_si256(_mm256_set1_ps(EXP_MAGIC));
    __m256i i = _mm256_sub_epi32(_mm256_castps_si256(t), magic);
    __m256i half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(y, a), b);
}
INLINE lanes lanes_ldexp_magic(lanes y, lanes t) { return (lanes){ldexp_magic8(y.lo, t.lo), ldexp_magic8(y.hi, t.hi)}; }

/* --- widening --------------------------------------------------------------------------------------------------------- */
INLINE lanes lanes_load_f16(const void *p) {
    const __m128i *h = p;
    return (lanes){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
INLINE __m256 widen_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
INLINE lanes lanes_load_bf16(const void *p) {
    const __m128i *h = p;
    return (lanes){widen_bf16(_mm_loadu_si128(h)), widen_bf16(_mm_loadu_si128(h + 1))};
}
INLINE lanes lanes_of_i8(__m128i c) {
    return (lanes){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(c)),
                   _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(c, 8)))};
}

/* --- across lanes ----------------------------------------------------------------------------------------------------- */
INLINE __m128 lanes_fold4(lanes a) { /* s[i] + s[i+8], then i + 4: the tree's first two levels */
    __m256 t = _mm256_add_ps(a.lo, a.hi);
    return _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
}
INLINE __m128 lanes_fold4_max(lanes a) {
    __m256 t = _mm256_max_ps(a.lo, a.hi);
    return _mm_max_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
}

INLINE __m256 in_order(__m256 a) { /* after a shuffle of two registers, which works within 128-bit halves */
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0xd8));
}
/* p[0 .. 32) as even and odd elements */
INLINE void lanes_load_pairs(const float *p, lanes *even, lanes *odd) {
    lanes a = lanes_load(p), b = lanes_load(p + 16);
    even->lo = in_order(_mm256_shuffle_ps(a.lo, a.hi, 0x88));
    even->hi = in_order(_mm256_shuffle_ps(b.lo, b.hi, 0x88));
    odd->lo = in_order(_mm256_shuffle_ps(a.lo, a.hi, 0xdd));
    odd->hi = in_order(_mm256_shuffle_ps(b.lo, b.hi, 0xdd));
}
INLINE lanes lanes_dup_even(lanes a) { return (lanes){_mm256_moveldup_ps(a.lo), _mm256_moveldup_ps(a.hi)}; }
INLINE lanes lanes_dup_odd(lanes a) { return (lanes){_mm256_movehdup_ps(a.lo), _mm256_movehdup_ps(a.hi)}; }
INLINE lanes lanes_swap_pairs(lanes a) { return (lanes){_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)}; }
INLINE lanes lanes_sign_even(void) {
    __m256 s = _mm256_castsi256_ps(_mm256_set1_epi64x(0x80000000));
    return (lanes){s, s};
}

/* Sixteen codes: to the nearest integer, ties to even, kept within -127 .. 127. */
INLINE __m128i lanes_codes(lanes a) {
    __m256i w = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    w = _mm256_permute4x64_epi64(w, 0xd8);
    __m128i c = _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    return _mm_max_epi8(c, _mm_set1_epi8(-127));
}

#endif
