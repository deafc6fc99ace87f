/* The quantised types as the matrix kernels see them: how many words of planes 0 and 1 make 32 values, and how those become
 * signed bytes. args_linear.h draws the planes. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_MAT_FORM_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_MAT_FORM_H

#include "target.h"

/* super: blocks of 256 with sub-blocks of `sub` values. sub 0: their scales are so small that scale times code is a byte too,
 * and the products are what the tile multiplies. sign: -1 when those bytes are the negated products. */
template <int LOW_, int HIGH_, int ZERO_, bool MIN_, bool SUPER_ = false, int SUB_ = 32, int SIGN_ = 1> struct mat_form {
    enum { LOW = LOW_, HIGH = HIGH_, ZERO = ZERO_, MIN = MIN_, SUPER = SUPER_, SUB = SUB_, SIGN = SIGN_ };
};
typedef mat_form<4, 0, 8, false> form_q4_0;
typedef mat_form<4, 0, 0, true> form_q4_1;
typedef mat_form<4, 1, 16, false> form_q5_0;
typedef mat_form<4, 1, 0, true> form_q5_1;
typedef mat_form<8, 0, 0, false> form_q8_0;
typedef mat_form<2, 0, 0, true, true, 0> form_q2_k;
typedef mat_form<2, 1, 4, false, true, 0, -1> form_q3_k;
typedef mat_form<4, 0, 0, true, true, 32> form_q4_k;
typedef mat_form<4, 1, 0, true, true, 32> form_q5_k;
typedef mat_form<4, 2, 32, false, true, 16> form_q6_k;

/* 32 values as they lie in the planes, and for products the scales of both halves. */
template <class F> struct mat_raw {
    uint32_t low[F::LOW], high[F::HIGH ? F::HIGH : 1], scales;
};

template <int N> DEVICE void load_words(uint32_t *out, const uint8_t *at) {
    if constexpr (N == 1) out[0] = *(const uint32_t *)at;
    if constexpr (N == 2) {
        const word2 v = *(const word2 *)at;
        out[0] = v[0], out[1] = v[1];
    }
    if constexpr (N >= 4) UNROLL for (int i = 0; i < N; i += 4) {
        const word4 v = *(const word4 *)(at + 4 * i);
        UNROLL for (int j = 0; j < 4; j++) out[i + j] = v[j];
    }
}

/* Block `block` (of 32 values) of the row that begins at these bytes of the planes. */
template <class F>
DEVICE void mat_load(mat_raw<F> &b, const uint8_t *const *plane, uint32_t low, uint32_t high, uint32_t scales, uint32_t block) {
    load_words<F::LOW>(b.low, plane[0] + (low + block * (4 * F::LOW)));
    if constexpr (F::HIGH != 0) load_words<F::HIGH>(b.high, plane[1] + (high + block * (4 * F::HIGH)));
    if constexpr (F::SUB == 0) b.scales = *(const uint16_t *)(plane[2] + (scales + block * 2));
}

/* Four bytes, each below 128, less z each. */
DEVICE uint32_t sub_bytes(uint32_t w, uint32_t z) { return ((w | 0x80808080u) - z * 0x01010101u) ^ 0x80808080u; }

/* Q3_K: -sc (q - 4), within [-128, 124], of four codes q. Made in 16-bit lanes with 128 added, so that nothing borrows. */
DEVICE uint32_t fold_q3(uint32_t w, int32_t sc) {
    const uint32_t n = (uint32_t)-sc, add = 0x00010001u * (uint32_t)(128 + 4 * sc);
    const uint32_t even = (w & 0x00ff00ffu) * n + add, odd = (w >> 8 & 0x00ff00ffu) * n + add;
    return (even | odd << 8) ^ 0x80808080u;
}

/* Four codes as the tile takes them; half: which sixteen of the 32. */
template <class F> DEVICE uint32_t mat_value(uint32_t w, uint32_t scales, uint32_t half) {
    if constexpr (F::SUB != 0) return F::ZERO ? sub_bytes(w, F::ZERO) : w;
    const uint32_t sc = scales >> 8 * half & 255;
    return F::SIGN < 0 ? fold_q3(w, (int8_t)sc) : w * (sc & 15); /* Q2_K: at most 45 a byte */
}

/* The 32 values in order, two chunks. */
template <class F> DEVICE void mat_unpack(word4 out[2], const mat_raw<F> &b) {
    UNROLL for (uint32_t j = 0; j < 4; j++) {
        uint32_t lo, hi;
        if constexpr (F::LOW == 8) lo = b.low[j], hi = b.low[4 + j];
        if constexpr (F::LOW == 4) lo = b.low[j] & 0x0f0f0f0fu, hi = b.low[j] >> 4 & 0x0f0f0f0fu;
        if constexpr (F::LOW == 2) lo = b.low[0] >> 2 * j & 0x03030303u, hi = b.low[1] >> 2 * j & 0x03030303u;
        if constexpr (F::HIGH == 1) {
            lo |= (b.high[0] >> j & 0x01010101u) << F::LOW;
            hi |= (b.high[0] >> (4 + j) & 0x01010101u) << F::LOW;
        }
        if constexpr (F::HIGH == 2) {
            lo |= (b.high[0] >> 2 * j & 0x03030303u) << 4;
            hi |= (b.high[1] >> 2 * j & 0x03030303u) << 4;
        }
        out[0][j] = mat_value<F>(lo, b.scales, 0);
        out[1][j] = mat_value<F>(hi, b.scales, 1);
    }
}

#endif
