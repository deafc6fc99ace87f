/* Quantised linear on AVX-512 VNNI: one zmm is the 16 rows of a panel, and stays put while the columns pass.
 *
 * A tile is up to 16 columns. For each block of 32 k the panel's eight vectors are unpacked once into registers; each column
 * then costs eight vpdpbusd whose second factor is four activation codes, broadcast from memory. What belongs to columns
 * alone (offsets of unsigned codes, sums for the minima) is made for all columns of the tile at once, one lane a column,
 * before they pass, and is likewise broadcast.
 * The float sums of a tile (blocks of 32) or its integer sums (super-blocks) live in registers: the widths 1 2 4 8 16 are
 * compiled apart. Numerics: linear_ref.c. Layouts: panel.c. Integers cannot overflow: linear_ref.c says how large they get.
 * Moves: the panel once per tile from memory or L2, 32 bytes of codes per block and column from L1 or L2. */
#include "backend/cpu/cpu_ops.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* all shapes below are compile-time constants */

enum { TILE = 16, VECTOR = 64, SUPER = 256 };

/* The part of a type that shapes its code; see codes.h. */
typedef struct {
    int bits, zero, n_sub;
    bool has_min;
} shape;

/* --- unpacking 32 k of 16 rows ------------------------------------------------------------------------------------------ */

INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }

INLINE __m512i shift_right(__m512i v, int n) { return n >= 0 ? _mm512_srli_epi32(v, n) : _mm512_slli_epi32(v, -n); }

/* w[g] |= bits of v from bit `from` on, brought to bit `to`, of each byte */
INLINE __m512i merge_bits(__m512i w, __m512i v, int from, int to, int mask) {
    const __m512i moved = shift_right(v, from - to);
    return _mm512_ternarylogic_epi32(w, moved, _mm512_set1_epi8((char)(mask << to)), 0xF8); /* w | (moved & mask) */
}

INLINE void unpack_nibbles(__m512i w[8], const uint8_t *p) {
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        const __m512i both = load(p + VECTOR * v);
        w[v] = _mm512_and_si512(both, low);
        w[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
}

INLINE void merge_twos(__m512i w[8], const uint8_t *p, int to) {
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) w[g] = merge_bits(w[g], load(p + VECTOR * (g / 4)), 2 * (g % 4), to, 3);
}

INLINE void merge_ones(__m512i w[8], const uint8_t *p, int to) {
    const __m512i v = load(p);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) w[g] = merge_bits(w[g], v, g, to, 1);
}

INLINE void unpack(__m512i w[8], const uint8_t *p, int bits) {
    for (int g = 0; g < 8; g++) w[g] = bits == 8 ? load(p + VECTOR * g) : _mm512_setzero_si512();
    if (bits >= 4 && bits < 8) unpack_nibbles(w, p);
    if (bits == 5) merge_ones(w, p + 4 * VECTOR, 4);
    if (bits == 6) merge_twos(w, p + 4 * VECTOR, 4);
    if (bits < 4) merge_twos(w, p, 0);
    if (bits == 3) merge_ones(w, p + 2 * VECTOR, 2);
}

/* --- columns ------------------------------------------------------------------------------------------------------------ */

INLINE __m512i broadcast(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE __m512 broadcast_f32(const float *p) { return _mm512_set1_ps(*p); }

INLINE __m512 load_halves(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

INLINE __mmask16 lanes(int n) { return (__mmask16)((1u << n) - 1); }

/* dot[c] += groups [from, to) of the weights with column c's codes, of at most four columns abreast: that hides the
 * latency of the chains */
INLINE void add_dots(__m512i dot[4], const __m512i w[8], int from, int to, const int8_t *code, int n) {
#pragma GCC unroll 8
    for (int g = from; g < to; g++)
#pragma GCC unroll 4
        for (int c = 0; c < n; c++) dot[c] = _mm512_dpbusd_epi32(dot[c], w[g], broadcast(code + 32 * c + 4 * g));
}

/* --- blocks of 32 ------------------------------------------------------------------------------------------------------- */

/* Of each column of the tile: what its integer sum starts from, -zero * asum, or for a minimum dx * asum in f32. */
INLINE __m512i column_terms(const int16_t *sum, const float *scale, shape s, int n) {
    const __m512i halves = _mm512_maskz_loadu_epi32(lanes(n), sum);
    const __m512i asum = _mm512_madd_epi16(halves, _mm512_set1_epi16((short)(s.has_min ? 1 : -s.zero)));
    if (!s.has_min) return asum;
    return _mm512_castps_si512(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes(n), scale), _mm512_cvtepi32_ps(asum)));
}

INLINE void tile_32(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, shape s, int n) {
    __m512 sum[TILE];
    for (int c = 0; c < n; c++) sum[c] = _mm512_setzero_ps();
    for (uint32_t at = 0; at < k / 32; at++) {
        const size_t here = (size_t)at * x->n_tok + col;
        const float *scale = x->scale + here;
        _Alignas(64) int32_t term[TILE];
        _mm512_store_si512(term, column_terms(x->sum + 2 * here, scale, s, n));
        const __m512 d = load_halves(p), m = s.has_min ? load_halves(p + 32) : _mm512_setzero_ps();
        p += s.has_min ? 64 : 32;
        __m512i w[8];
        unpack(w, p, s.bits);
        p += s.bits * VECTOR;
#pragma GCC unroll 4
        for (int c0 = 0; c0 < n; c0 += 4) {
            const int wide = n - c0 < 4 ? n - c0 : 4;
            __m512i dot[4];
            for (int c = 0; c < wide; c++) dot[c] = s.has_min ? _mm512_setzero_si512() : broadcast(term + c0 + c);
            add_dots(dot, w, 0, 8, x->code + 32 * (here + (size_t)c0), wide);
#pragma GCC unroll 4
            for (int c = 0; c < wide; c++) {
                const __m512 both = _mm512_mul_ps(d, broadcast_f32(scale + c0 + c));
                sum[c0 + c] = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(dot[c]), sum[c0 + c]);
                if (s.has_min)
                    sum[c0 + c] = _mm512_fmadd_ps(m, _mm512_castsi512_ps(broadcast(term + c0 + c)), sum[c0 + c]);
            }
        }
    }
#pragma GCC unroll 16
    for (int c = 0; c < n; c++) _mm512_storeu_ps(acc + 16 * c, sum[c]);
}

/* --- super-blocks ------------------------------------------------------------------------------------------------------- */

INLINE __m512i load_scales(const uint8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }

/* Of each column: -zero times the code sums of both half blocks, what the two integer sums of sub-blocks of 16 start from. */
INLINE void half_terms(int32_t *term, const int16_t *sum, int zero, int n) {
    const __m512i halves = _mm512_maskz_loadu_epi32(lanes(n), sum);
    const __m512i first = _mm512_set1_epi32(-zero & 0xFFFF), second = _mm512_slli_epi32(first, 16);
    _mm512_store_si512(term, _mm512_madd_epi16(halves, first));
    _mm512_store_si512(term + TILE, _mm512_madd_epi16(halves, second));
}

/* isum[c] += scales * dots of one block, for sub-blocks of 32 or 16 */
INLINE void add_block(__m512i *isum, const __m512i w[8], const uint8_t *sc, const cpu_act *x, size_t here, shape s,
                      int n) {
    const int parts = s.n_sub / 8;
    _Alignas(64) int32_t term[2 * TILE];
    if (s.zero) half_terms(term, x->sum + 2 * here, s.zero, n);
#pragma GCC unroll 2
    for (int part = 0; part < parts; part++) {
        const __m512i scale = load_scales(sc + 16 * part);
#pragma GCC unroll 4
        for (int c0 = 0; c0 < n; c0 += 4) {
            const int wide = n - c0 < 4 ? n - c0 : 4;
            __m512i dot[4];
            for (int c = 0; c < wide; c++)
                dot[c] = s.zero ? broadcast(term + TILE * part + c0 + c) : _mm512_setzero_si512();
            add_dots(dot, w, part * 8 / parts, (part + 1) * 8 / parts, x->code + 32 * (here + (size_t)c0), wide);
#pragma GCC unroll 4
            for (int c = 0; c < wide; c++)
                isum[c0 + c] = _mm512_add_epi32(isum[c0 + c], _mm512_mullo_epi32(scale, dot[c]));
        }
    }
}

/* Two bits and scales below 16: their product fits a byte (45), so that scaled codes replace codes and scales. */
INLINE void scale_twos(__m512i w[8], const uint8_t *sc) {
    const __m512i scale[2] = {load_scales(sc), load_scales(sc + 16)};
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) w[g] = _mm512_mullo_epi32(w[g], scale[g / 4]); /* no carry between the bytes */
}

/* Code sums as the minima meet them, [pair][column] of two i16: with sub-blocks of 16 as stored, of 32 added up. */
INLINE void pair_sums(int32_t (*pair)[TILE], const cpu_act *x, size_t here, shape s, int n) {
#pragma GCC unroll 8
    for (int i = 0; i < s.n_sub / 2; i++) {
        const int16_t *sum = x->sum + 2 * (here + (size_t)i * 16 / (size_t)s.n_sub * x->n_tok);
        __m512i v = _mm512_maskz_loadu_epi32(lanes(n), sum);
        if (s.n_sub == 8) {
            const __m512i one = _mm512_set1_epi16(1);
            const __m512i next = _mm512_maskz_loadu_epi32(lanes(n), sum + 2 * (size_t)x->n_tok);
            v = _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_madd_epi16(v, one),
                                        _mm512_slli_epi32(_mm512_madd_epi16(next, one), 16));
        }
        _mm512_store_si512(pair[i], v);
    }
}

/* acc = fma(-(dmin * dx), msum, acc) for every column */
INLINE void add_minima(__m512 *sum, __m512 dmin, const uint8_t *mn, const cpu_act *x, size_t here, const float *scale,
                       shape s, int n) {
    _Alignas(64) int32_t pair[8][TILE];
    pair_sums(pair, x, here, s, n);
    __m512i m[8];
    for (int i = 0; i < s.n_sub / 2; i++)
        m[i] = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(mn + 32 * i)));
#pragma GCC unroll 16
    for (int c = 0; c < n; c++) {
        __m512i msum = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (int i = 0; i < s.n_sub / 2; i++) msum = _mm512_dpwssd_epi32(msum, m[i], broadcast(&pair[i][c]));
        const __m512 both = _mm512_mul_ps(dmin, broadcast_f32(scale + c));
        sum[c] = _mm512_fnmadd_ps(both, _mm512_cvtepi32_ps(msum), sum[c]);
    }
}

/* Touches a super-block's header in address order before its parts are wanted out of order: the hardware's prefetch follows
 * strict upward streams only (Q2_K, one column: 7 GB/s without, 20 with). */
INLINE void touch(const uint8_t *p, const uint8_t *end) {
    for (; p < end; p += VECTOR) _mm_prefetch((const char *)p, _MM_HINT_T0);
}

INLINE void tile_super(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, shape s, int n) {
    __m512 sum[TILE];
    for (int c = 0; c < n; c++) sum[c] = _mm512_setzero_ps();
    for (uint32_t at = 0; at < k / SUPER; at++) {
        const size_t here = (size_t)at * 8 * x->n_tok + col;
        const float *scale = x->scale + (size_t)at * x->n_tok + col;
        const uint8_t *sc = p + (s.has_min ? 64 : 32), *mn = sc + 16 * s.n_sub,
                      *codes = s.has_min ? mn + 16 * s.n_sub : mn;
        touch(p, codes);
        __m512i isum[TILE];
        for (int c = 0; c < n; c++) isum[c] = _mm512_setzero_si512();
        for (int b = 0; b < 8; b++) {
            __m512i w[8];
            unpack(w, codes + b * s.bits * VECTOR, s.bits);
            const uint8_t *scales = sc + 16 * b * (s.n_sub / 8);
            if (s.bits == 2) {
                scale_twos(w, scales);
                const int8_t *code = x->code + 32 * (here + (size_t)b * x->n_tok);
#pragma GCC unroll 4
                for (int c = 0; c < n; c += 4) add_dots(isum + c, w, 0, 8, code + 32 * c, n - c < 4 ? n - c : 4);
            } else {
                add_block(isum, w, scales, x, here + (size_t)b * x->n_tok, s, n);
            }
        }
        const __m512 d = load_halves(p);
#pragma GCC unroll 16
        for (int c = 0; c < n; c++)
            sum[c] = _mm512_fmadd_ps(_mm512_mul_ps(d, broadcast_f32(scale + c)), _mm512_cvtepi32_ps(isum[c]), sum[c]);
        if (s.has_min) add_minima(sum, load_halves(p + 32), mn, x, here, scale, s, n);
        p = codes + 8 * s.bits * VECTOR;
    }
#pragma GCC unroll 16
    for (int c = 0; c < n; c++) _mm512_storeu_ps(acc + 16 * c, sum[c]);
}

/* --- the table ---------------------------------------------------------------------------------------------------------- */

INLINE void tile(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, shape s, int n) {
    if (s.n_sub)
        tile_super(acc, p, k, x, col, s, n);
    else
        tile_32(acc, p, k, x, col, s, n);
}

INLINE void columns(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, uint32_t n, shape s) {
    for (; n >= 16; n -= 16, col += 16, acc += 256) tile(acc, p, k, x, col, s, 16);
    if (n >= 8) {
        tile(acc, p, k, x, col, s, 8);
        n -= 8, col += 8, acc += 128;
    }
    if (n >= 4) {
        tile(acc, p, k, x, col, s, 4);
        n -= 4, col += 4, acc += 64;
    }
    if (n >= 2) {
        tile(acc, p, k, x, col, s, 2);
        n -= 2, col += 2, acc += 32;
    }
    if (n) tile(acc, p, k, x, col, s, 1);
}

static void q4_0(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){4, 8, 0, false});
}
static void q4_1(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){4, 0, 0, true});
}
static void q5_0(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){5, 16, 0, false});
}
static void q5_1(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){5, 0, 0, true});
}
static void q8_0(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){8, 128, 0, false});
}
static void q2_k(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){2, 0, 16, true});
}
static void q3_k(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){3, 4, 16, false});
}
static void q4_k(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){4, 0, 8, true});
}
static void q5_k(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){5, 0, 8, true});
}
static void q6_k(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col0, uint32_t n_col) {
    columns(acc, p, k, x, col0, n_col, (shape){6, 32, 16, false});
}

void cpu_ops_avx512_linear(cpu_ops *ops) {
    ops->linear_panel[QUANT_Q4_0] = q4_0;
    ops->linear_panel[QUANT_Q4_1] = q4_1;
    ops->linear_panel[QUANT_Q5_0] = q5_0;
    ops->linear_panel[QUANT_Q5_1] = q5_1;
    ops->linear_panel[QUANT_Q8_0] = q8_0;
    ops->linear_panel[QUANT_Q2_K] = q2_k;
    ops->linear_panel[QUANT_Q3_K] = q3_k;
    ops->linear_panel[QUANT_Q4_K] = q4_k;
    ops->linear_panel[QUANT_Q5_K] = q5_k;
    ops->linear_panel[QUANT_Q6_K] = q6_k;
}
