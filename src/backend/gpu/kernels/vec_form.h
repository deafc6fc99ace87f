/* One lane's share of a quantised weight row for the vector kernels: 32 neighbouring values, held as loaded until they are
 * multiplied. For each type: where its bytes stand in the planes (args_linear.h draws them), the 32 codes as eight words that
 * meet the activations' words, and the integer sums of a block (backend/cpu/linear_ref.c). */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_VEC_FORM_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_VEC_FORM_H

#include "args_linear.h"
#include "target.h"

enum vec_type { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K };

template <vec_type T> struct vec_form {
    static constexpr bool super = T >= Q2_K; /* scales of 256 values, sub-scales */
    static constexpr bool min = T == Q4_1 || T == Q5_1 || T == Q2_K || T == Q4_K || T == Q5_K;
    static constexpr bool sub16 = T == Q2_K || T == Q3_K || T == Q6_K; /* sub-blocks of 16 values, else 32 */
    static constexpr int zero = T == Q4_0 ? 8 : T == Q5_0 ? 16 : T == Q3_K ? 4 : T == Q6_K ? 32 : 0;
    static constexpr uint32_t low = T == Q8_0                ? 32
                                    : T == Q2_K || T == Q3_K ? 8
                                                             : 16; /* bytes of 32 values in plane 0, */
    static constexpr uint32_t high = T == Q5_0 || T == Q5_1 || T == Q5_K || T == Q3_K ? 4
                                     : T == Q6_K                                      ? 8
                                                                                      : 0; /* and 1 */
    static constexpr uint32_t scale = min ? 4 : 2;    /* bytes of d or d and m in plane 3 */
    static constexpr bool sums = min || zero != 0;    /* takes the activations' sums */
};

/* As loaded. sub: K types, the lane's bytes of plane 2; others, the block's d and m. */
template <vec_type T> struct vec_raw {
    word4 low[T == Q8_0 ? 2 : 1]; /* two and three bits: x and y of it */
    word2 high;
    uint32_t sub, sub_min;
};

/* Where a lane's bytes begin: planes at a block of 32 that all lanes share, and the lane's own way from there. */
struct vec_place {
    uint32_t at[LINEAR_PLANES];
};

/* block: how many blocks of 32 behind the planes' places, a multiple of 32. */
template <vec_type T>
DEVICE void vec_load(vec_raw<T> &w, const uint8_t *const plane[LINEAR_PLANES], const vec_place &p, uint32_t block) {
    typedef vec_form<T> F;
    const uint8_t *low = plane[0] + p.at[0] + block * F::low, *high = plane[1] + p.at[1] + block * F::high;
    if constexpr (F::low == 8) {
        word2 v = *(const word2 *)low;
        w.low[0].x = v.x;
        w.low[0].y = v.y;
    } else {
        w.low[0] = *(const word4 *)low;
        if constexpr (F::low == 32) w.low[1] = *(const word4 *)(low + 16);
    }
    if constexpr (F::high == 8) w.high = *(const word2 *)high;
    if constexpr (F::high == 4) w.high.x = *(const uint32_t *)high;
    if constexpr (!F::super) {
        const uint8_t *d = plane[3] + p.at[3] + block * F::scale;
        w.sub = F::scale == 4 ? *(const uint32_t *)d : *(const uint16_t *)d;
    } else if constexpr (F::sub16) {
        w.sub = *(const uint16_t *)(plane[2] + p.at[2] + block * 2);
    } else {
        const uint8_t *s = plane[2] + p.at[2] + block * 2; /* 16 bytes for eight blocks */
        w.sub = s[0];
        w.sub_min = s[8];
    }
}

/* Moves planes on by n blocks of 32, a multiple of 8. */
template <vec_type T> DEVICE void vec_advance(const uint8_t *plane[LINEAR_PLANES], uint32_t n) {
    typedef vec_form<T> F;
    plane[0] += n * F::low;
    plane[1] += n * F::high;
    plane[2] += n * 2;
    plane[3] += F::super ? n / 8 * F::scale : n * F::scale;
}

/* The lane's own way within its row: it takes block `lane` of each 32. */
template <vec_type T>
DEVICE void vec_lane(vec_place &p, const uint32_t stride[LINEAR_PLANES], uint32_t row, uint32_t lane) {
    typedef vec_form<T> F;
    p.at[0] = row * stride[0] + lane * F::low;
    p.at[1] = row * stride[1] + lane * F::high;
    p.at[2] = row * stride[2] + (F::sub16 ? lane * 2 : (lane >> 3) * 16 + (lane & 7));
    p.at[3] = row * stride[3] + (F::super ? 0 : lane * F::scale); /* K types: see load_d */
}

/* The codes: q[0..3] values 0-15, q[4..7] values 16-31, four to a word. */
template <vec_type T> DEVICE void vec_codes(uint32_t q[8], const vec_raw<T> &w) {
    typedef vec_form<T> F;
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        if constexpr (F::low == 32) {
            q[j] = w.low[0][j];
            q[j + 4] = w.low[1][j];
        } else if constexpr (F::low == 8) {
            q[j] = w.low[0].x >> 2 * j & 0x03030303u;
            q[j + 4] = w.low[0].y >> 2 * j & 0x03030303u;
        } else {
            q[j] = w.low[0][j] & 0x0f0f0f0fu;
            q[j + 4] = w.low[0][j] >> 4 & 0x0f0f0f0fu;
        }
        if constexpr (T == Q3_K) {
            const uint32_t h = w.high.x;
            q[j] |= (j < 2 ? h << (2 - j) : h >> (j - 2)) & 0x04040404u;
            q[j + 4] |= h >> (j + 2) & 0x04040404u;
        } else if constexpr (F::high == 4) {
            q[j] |= w.high.x << (4 - j) & 0x10101010u;
            q[j + 4] |= w.high.x >> j & 0x10101010u;
        } else if constexpr (F::high == 8) {
            q[j] |= (j < 2 ? w.high.x << (4 - 2 * j) : w.high.x >> (2 * j - 4)) & 0x30303030u;
            q[j + 4] |= (j < 2 ? w.high.y << (4 - 2 * j) : w.high.y >> (2 * j - 4)) & 0x30303030u;
        }
    }
}

/* Wrapping: what a lane past the end has read is anything, and dropped afterwards. */
DEVICE int32_t wrap_mul(int32_t a, int32_t b) { return (int32_t)((uint32_t)a * (uint32_t)b); }
DEVICE int32_t wrap_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* Sums of one block of 32 with one row of activations: lo, hi the code words; asum: the sum of the 32 codes, or for
 * sub-blocks of 16 the two sums as i16. */
template <vec_type T>
DEVICE void vec_sums(int32_t &isum, int32_t &msum, const uint32_t q[8], const vec_raw<T> &w, word4 lo, word4 hi,
                     int32_t asum) {
    typedef vec_form<T> F;
    int32_t first = 0, second = 0;
    UNROLL for (int j = 0; j < 4; j++) first = dot4((int32_t)q[j], (int32_t)lo[j], first);
    if constexpr (!F::sub16) second = first;
    UNROLL for (int j = 0; j < 4; j++) second = dot4((int32_t)q[j + 4], (int32_t)hi[j], second);
    if constexpr (F::sub16) {
        const int32_t a0 = (int16_t)asum, a1 = asum >> 16;
        if constexpr (T == Q2_K) {
            isum = (int32_t)(w.sub & 15) * first + (int32_t)(w.sub >> 8 & 15) * second;
            msum = (int32_t)(w.sub >> 4 & 15) * a0 + (int32_t)(w.sub >> 12 & 15) * a1;
        } else {
            isum = (int8_t)w.sub * (first - F::zero * a0) + (int8_t)(w.sub >> 8) * (second - F::zero * a1);
        }
    } else if constexpr (F::super) {
        isum = wrap_mul((int32_t)w.sub, second);
        msum = wrap_mul((int32_t)w.sub_min, asum);
    } else {
        isum = wrap_add(second, wrap_mul(-F::zero, asum));
    }
}

#endif
