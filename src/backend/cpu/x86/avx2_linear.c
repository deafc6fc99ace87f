/* Quantised linear on AVX2: a ymm is 8 of a panel's 16 rows; the two halves of a block are unpacked one after the other, into
 * eight registers each, and stay while the columns pass.
 *
 * vpmaddubsw multiplies unsigned weight codes with four broadcast activation codes and adds neighbours, in 16 bits. Activation
 * codes are within +-127, so that products of a group's byte pair are at most 2 * 127 * (2^bits - 1), and so many groups can
 * be added in 16 bits before vpmaddwd widens them (by ones, or by the sub-block's scale at once):
 *
 *   bits 2, 3: all eight (14224)   4: eight (30480)   5: four (31496)   6: two (32004)
 *
 * 8 bits do not fit as they are: |w| times a with the sign of w, at most 2 * 128 * 127 = 32512, widened each time.
 * So nothing ever saturates. Sums live in L1 (for one column, in registers). Numerics: linear_ref.c. Layouts: panel.c.
 * Moves: the panel once from memory, 32 bytes of codes per block, column and half from L1 or L2. */
#include "backend/cpu/cpu_ops.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* shapes, and a width of one, are compile-time constants */

enum { MAX_COL = 64, VECTOR = 64, HALF = 32, SUPER = 256 };

/* The part of a type that shapes its code; see codes.h. */
typedef struct {
    int bits, zero, n_sub;
    bool has_min;
} shape;

/* --- unpacking 32 k of 8 rows ------------------------------------------------------------------------------------------- */

INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

INLINE __m256i shift_right(__m256i v, int n) { return n >= 0 ? _mm256_srli_epi32(v, n) : _mm256_slli_epi32(v, -n); }

/* w | bits of v from bit `from` on, brought to bit `to`, of each byte */
INLINE __m256i merge_bits(__m256i w, __m256i v, int from, int to, int mask) {
    return _mm256_or_si256(w, _mm256_and_si256(shift_right(v, from - to), _mm256_set1_epi8((char)(mask << to))));
}

INLINE void unpack_nibbles(__m256i w[8], const uint8_t *p) {
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        const __m256i both = load(p + VECTOR * v);
        w[v] = _mm256_and_si256(both, low);
        w[v + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
}

INLINE void merge_twos(__m256i w[8], const uint8_t *p, int to) {
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) w[g] = merge_bits(w[g], load(p + VECTOR * (g / 4)), 2 * (g % 4), to, 3);
}

INLINE void merge_ones(__m256i w[8], const uint8_t *p, int to) {
    const __m256i v = load(p);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) w[g] = merge_bits(w[g], v, g, to, 1);
}

/* p: the codes of a block, advanced to the half's rows. Codes of 8 bits come out signed, the others unsigned. */
INLINE void unpack(__m256i w[8], const uint8_t *p, int bits) {
    for (int g = 0; g < 8; g++)
        w[g] =
            bits == 8 ? _mm256_xor_si256(load(p + VECTOR * g), _mm256_set1_epi8((char)0x80)) : _mm256_setzero_si256();
    if (bits >= 4 && bits < 8) unpack_nibbles(w, p);
    if (bits == 5) merge_ones(w, p + 4 * VECTOR, 4);
    if (bits == 6) merge_twos(w, p + 4 * VECTOR, 4);
    if (bits < 4) merge_twos(w, p, 0);
    if (bits == 3) merge_ones(w, p + 2 * VECTOR, 2);
}

/* Touches [p, end) in address order before its vectors are wanted, by halves and in the compiler's order: the hardware's
 * prefetch follows strict upward streams only (one column: Q2_K 7 GB/s from memory without, 20 with; Q4_1 10 and 28). */
INLINE void touch(const uint8_t *p, const uint8_t *end) {
    for (; p < end; p += VECTOR) _mm_prefetch((const char *)p, _MM_HINT_T0);
}

/* --- columns ------------------------------------------------------------------------------------------------------------ */

INLINE __m256i broadcast(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

INLINE __m256 load_halves(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

INLINE __m256i products(__m256i w, const int8_t *code, int bits) {
    const __m256i a = broadcast(code);
    return bits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w)) : _mm256_maddubs_epi16(w, a);
}

/* How many groups fit 16 bits. */
INLINE int groups_16(int bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }

/* factor (a pair of i16 per row) times the dots of groups [from, to) with one column's codes */
INLINE __m256i dot_groups(const __m256i w[8], int from, int to, const int8_t *code, int bits, __m256i factor) {
    __m256i total = _mm256_setzero_si256();
    const int run = groups_16(bits);
#pragma GCC unroll 8
    for (int g0 = from; g0 < to; g0 += run) {
        const int end = g0 + run < to ? g0 + run : to;
        __m256i s = products(w[g0], code + 4 * g0, bits);
#pragma GCC unroll 8
        for (int g = g0 + 1; g < end; g++) s = _mm256_add_epi16(s, products(w[g], code + 4 * g, bits));
        s = _mm256_madd_epi16(s, factor);
        total = g0 == from ? s : _mm256_add_epi32(total, s);
    }
    return total;
}

/* --- blocks of 32 ------------------------------------------------------------------------------------------------------- */

/* What belongs to a column alone: -zero * asum, or for a minimum dx * asum. */
typedef union {
    int32_t i[MAX_COL];
    float f[MAX_COL];
} column_terms;

INLINE void make_terms(column_terms *t, const int16_t *sum, const float *scale, shape s, uint32_t n) {
    uint32_t c = 0;
    for (; c + 8 <= n; c += 8) {
        const __m256i asum = _mm256_madd_epi16(load(sum + 2 * c), _mm256_set1_epi16((short)(s.has_min ? 1 : -s.zero)));
        if (s.has_min)
            _mm256_storeu_ps(t->f + c, _mm256_mul_ps(_mm256_loadu_ps(scale + c), _mm256_cvtepi32_ps(asum)));
        else
            _mm256_storeu_si256((__m256i *)(t->i + c), asum);
    }
    for (; c < n; c++) {
        const int32_t asum = sum[2 * c] + sum[2 * c + 1];
        if (s.has_min)
            t->f[c] = scale[c] * (float)asum;
        else
            t->i[c] = -s.zero * asum;
    }
}

INLINE void block_32(__m256 *sum, const uint8_t *p, const uint8_t *codes, const int8_t *code, const float *scale,
                     const column_terms *t, shape s, uint32_t n) {
    const __m256i one = _mm256_set1_epi16(1);
    const __m256 d = load_halves(p), m = s.has_min ? load_halves(p + 32) : _mm256_setzero_ps();
    __m256i w[8];
    unpack(w, codes, s.bits);
    for (uint32_t c = 0; c < n; c++) {
        __m256i dot = dot_groups(w, 0, 8, code + 32 * c, s.bits, one);
        if (s.zero) dot = _mm256_add_epi32(dot, broadcast(&t->i[c]));
        const __m256 both = _mm256_mul_ps(d, _mm256_set1_ps(scale[c]));
        sum[c] = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(dot), sum[c]);
        if (s.has_min) sum[c] = _mm256_fmadd_ps(m, _mm256_set1_ps(t->f[c]), sum[c]);
    }
}

INLINE void store_sums(float *acc, __m256 (*sum)[MAX_COL], uint32_t n) {
    for (uint32_t c = 0; c < n; c++) {
        _mm256_storeu_ps(acc + 16 * c, sum[0][c]);
        _mm256_storeu_ps(acc + 16 * c + 8, sum[1][c]);
    }
}

INLINE void tile_32(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, shape s, uint32_t n) {
    __m256 sum[2][MAX_COL];
    for (uint32_t c = 0; c < n; c++) sum[0][c] = sum[1][c] = _mm256_setzero_ps();
    for (uint32_t at = 0; at < k / 32; at++) {
        const size_t here = (size_t)at * x->n_tok + col;
        const uint8_t *codes = p + (s.has_min ? 64 : 32);
        touch(p, codes + s.bits * VECTOR);
        column_terms t;
        if (s.zero || s.has_min) make_terms(&t, x->sum + 2 * here, x->scale + here, s, n);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++)
            block_32(sum[h], p + 16 * h, codes + HALF * h, x->code + 32 * here, x->scale + here, &t, s, n);
        p = codes + s.bits * VECTOR;
    }
    store_sums(acc, sum, n);
}

/* --- super-blocks ------------------------------------------------------------------------------------------------------- */

/* The scales of 8 rows, each twice as i16. */
INLINE __m256i load_scales(const uint8_t *p) {
    const __m256i sc = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_or_si256(_mm256_and_si256(sc, _mm256_set1_epi32(0xFFFF)), _mm256_slli_epi32(sc, 16));
}

/* isum[c] += scales * (dots of one block); sc: of the half's rows */
INLINE void add_block(__m256i *isum, const uint8_t *codes, const uint8_t *sc, const int8_t *code, const int16_t *sum,
                      shape s, uint32_t n) {
    const int parts = s.n_sub / 8;
    const __m256i scale[2] = {load_scales(sc), parts == 2 ? load_scales(sc + 16) : _mm256_setzero_si256()};
    const __m256i offset =
        _mm256_mullo_epi16(_mm256_blend_epi16(scale[0], scale[1], 0xAA), _mm256_set1_epi16((short)s.zero));
    __m256i w[8];
    unpack(w, codes, s.bits);
    for (uint32_t c = 0; c < n; c++) {
        __m256i dot = dot_groups(w, 0, 8 / parts, code + 32 * c, s.bits, scale[0]);
        if (parts == 2) dot = _mm256_add_epi32(dot, dot_groups(w, 4, 8, code + 32 * c, s.bits, scale[1]));
        if (s.zero) dot = _mm256_sub_epi32(dot, _mm256_madd_epi16(offset, broadcast(sum + 2 * c)));
        isum[c] = _mm256_add_epi32(isum[c], dot);
    }
}

/* Code sums as the minima meet them, two i16 side by side: with sub-blocks of 16 as stored, of 32 added up. */
INLINE void pair_sums(int16_t (*pair)[2 * MAX_COL], const cpu_act *x, size_t here, shape s, uint32_t n) {
    for (int i = 0; i < s.n_sub / 2; i++) {
        const int16_t *sum = x->sum + 2 * (here + (size_t)(i * 16 / s.n_sub) * x->n_tok),
                      *next = sum + 2 * (size_t)x->n_tok;
        const __m256i one = _mm256_set1_epi16(1);
        uint32_t c = 0;
        for (; c + 8 <= n; c += 8) {
            __m256i v = load(sum + 2 * c);
            if (s.n_sub == 8)
                v = _mm256_blend_epi16(_mm256_madd_epi16(v, one),
                                       _mm256_slli_epi32(_mm256_madd_epi16(load(next + 2 * c), one), 16), 0xAA);
            _mm256_storeu_si256((__m256i *)(pair[i] + 2 * c), v);
        }
        for (; c < n; c++) {
            pair[i][2 * c] = s.n_sub == 16 ? sum[2 * c] : (int16_t)(sum[2 * c] + sum[2 * c + 1]);
            pair[i][2 * c + 1] = s.n_sub == 16 ? sum[2 * c + 1] : (int16_t)(next[2 * c] + next[2 * c + 1]);
        }
    }
}

/* acc = fma(-(dmin * dx), msum, acc); dmin, mn: of the half's rows */
INLINE void add_minima(__m256 *sum, const uint8_t *dmin, const uint8_t *mn, int16_t (*pair)[2 * MAX_COL],
                       const float *scale, shape s, uint32_t n) {
    __m256i m[8];
    for (int i = 0; i < s.n_sub / 2; i++) m[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(mn + 32 * i)));
    for (uint32_t c = 0; c < n; c++) {
        __m256i msum = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int i = 0; i < s.n_sub / 2; i++)
            msum = _mm256_add_epi32(msum, _mm256_madd_epi16(m[i], broadcast(&pair[i][2 * c])));
        const __m256 both = _mm256_mul_ps(load_halves(dmin), _mm256_set1_ps(scale[c]));
        sum[c] = _mm256_fnmadd_ps(both, _mm256_cvtepi32_ps(msum), sum[c]);
    }
}

INLINE void tile_super(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, shape s, uint32_t n) {
    __m256 sum[2][MAX_COL];
    __m256i isum[2][MAX_COL];
    for (uint32_t c = 0; c < n; c++) sum[0][c] = sum[1][c] = _mm256_setzero_ps();
    for (uint32_t at = 0; at < k / SUPER; at++) {
        const size_t here = (size_t)at * 8 * x->n_tok + col;
        const float *scale = x->scale + (size_t)at * x->n_tok + col;
        const uint8_t *sc = p + (s.has_min ? 64 : 32), *mn = sc + 16 * s.n_sub,
                      *codes = s.has_min ? mn + 16 * s.n_sub : mn;
        touch(p, codes);
        for (uint32_t c = 0; c < n; c++) isum[0][c] = isum[1][c] = _mm256_setzero_si256();
        for (int b = 0; b < 8; b++) {
            const size_t block = here + (size_t)b * x->n_tok;
            touch(codes + b * s.bits * VECTOR, codes + (b + 1) * s.bits * VECTOR);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++)
                add_block(isum[h], codes + b * s.bits * VECTOR + HALF * h, sc + 16 * b * (s.n_sub / 8) + 8 * h,
                          x->code + 32 * block, x->sum + 2 * block, s, n);
        }
        int16_t pair[8][2 * MAX_COL];
        if (s.has_min) pair_sums(pair, x, here, s, n);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const __m256 d = load_halves(p + 16 * h);
            for (uint32_t c = 0; c < n; c++)
                sum[h][c] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(scale[c])), _mm256_cvtepi32_ps(isum[h][c]),
                                            sum[h][c]);
            if (s.has_min) add_minima(sum[h], p + 32 + 16 * h, mn + 16 * h, pair, scale, s, n);
        }
        p = codes + 8 * s.bits * VECTOR;
    }
    store_sums(acc, sum, n);
}

/* --- the table ---------------------------------------------------------------------------------------------------------- */

INLINE void tile(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, shape s, uint32_t n) {
    if (s.n_sub)
        tile_super(acc, p, k, x, col, s, n);
    else
        tile_32(acc, p, k, x, col, s, n);
}

INLINE void columns(float *acc, const uint8_t *p, uint32_t k, const cpu_act *x, uint32_t col, uint32_t n, shape s) {
    if (n == 1)
        tile(acc, p, k, x, col, s, 1);
    else
        tile(acc, p, k, x, col, s, n);
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
    columns(acc, p, k, x, col0, n_col, (shape){8, 0, 0, false});
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

void cpu_ops_avx2_linear(cpu_ops *ops) {
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
