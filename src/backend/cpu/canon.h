/* The canonical single-precision functions in plain C: what the reference calls, and what every tier repeats operation by
 * operation on sixteen lanes (kernels_f32.h). Change one and change the other; the tests compare bits.
 * fmaf here is the correctly rounded one of C, never a product and a sum. Pure functions, any thread. */
#ifndef ROCMFORGE_BACKEND_CPU_CANON_H
#define ROCMFORGE_BACKEND_CPU_CANON_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* exp(x) = 2^n e^r, n = round(x / ln 2), r = x - n ln 2 in two parts, e^r = 1 + r + r^2 (E2 + E3 r + ... + E6 r^4).
 * Coefficients: our own Remez fit on |r| <= ln 2 / 2, relative error 3.1e-9; the result is within 1 ulp. */
static const float EXP_LO = -104.0f, EXP_HI = 89.0f; /* beyond these: 0 and infinity, by the same arithmetic */
static const float EXP_LOG2E = 0x1.715476p+0f;
static const float EXP_MAGIC =
    12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, which stands in the low bits */
static const float EXP_LN2_HI = 0x1.62e43p-1f, EXP_LN2_LO = -0x1.05c61p-29f;
static const float EXP_E2 = 0x1.fffffcp-2f, EXP_E3 = 0x1.555492p-3f, EXP_E4 = 0x1.5558f2p-5f, EXP_E5 = 0x1.123a2p-7f,
                   EXP_E6 = 0x1.6a23dp-10f;

/* tanh(a) = a + a^3 (T0 + T1 a^2 + ... + T4 a^8) below TANH_SMALL (Remez, 4.4e-9), 1 - 2 / (exp(2a) + 1) from there on. */
static const float TANH_SMALL = 0.625f;
static const float TANH_T0 = -0x1.555532p-2f, TANH_T1 = 0x1.110726p-3f, TANH_T2 = -0x1.b83c5ap-5f,
                   TANH_T3 = 0x1.52269cp-6f, TANH_T4 = -0x1.75e1d2p-8f;

/* gelu(x) = x / 2 (1 + tanh u) = x / (1 + exp(-2u)), 2u = x (GELU_A + GELU_B x^2), GELU_A = 2 sqrt(2 / pi),
 * GELU_B = 0.044715 GELU_A: the same function without the cancellation. */
static const float GELU_A = 1.5957691216057308f, GELU_B = 0.07135481627159825f;

/* gelu_erf(x) = x (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| q, q = erfc(|x| / sqrt 2) / 2 = exp(-x^2 / 2) t (P0 + P1 t + ...
 * + P7 t^7), t = 1 / (1 + ERF_K |x|): no cancellation. Coefficients: our own fit (least squares, weights by Lawson's rule)
 * for |x| <= 14, beyond which q is 0; relative error of q 1.7e-7, of the result in single precision 2.3e-6. */
static const float ERF_K = 0x1.333334p-2f;
static const float ERF_P0 = 0x1.ea006ap-4f, ERF_P1 = 0x1.ee9bb4p-4f, ERF_P2 = 0x1.993ee6p-4f, ERF_P3 = 0x1.074b5p-3f,
                   ERF_P4 = -0x1.b7c6bep-5f, ERF_P5 = 0x1.a69ca8p-3f, ERF_P6 = -0x1.41f3b2p-3f, ERF_P7 = 0x1.243f7p-5f;

static inline uint32_t canon_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float canon_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* y * 2^i rounded once: the first factor is exact, i within [-150, 128]. */
static inline float canon_ldexp(float y, int32_t i) {
    uint32_t half = (uint32_t)(i >> 1), rest = (uint32_t)i - half;
    return y * canon_from_bits((half + 127) << 23) * canon_from_bits((rest + 127) << 23);
}

static inline float canon_exp(float x) { /* NaN passes through: a comparison with it is false */
    x = EXP_LO > x ? EXP_LO : x;
    x = EXP_HI < x ? EXP_HI : x;
    float t = fmaf(x, EXP_LOG2E, EXP_MAGIC);
    float n = t - EXP_MAGIC;
    int32_t i = (int32_t)(canon_bits(t) - canon_bits(EXP_MAGIC));
    float r = fmaf(n, -EXP_LN2_HI, x);
    r = fmaf(n, -EXP_LN2_LO, r);
    float q = fmaf(EXP_E6, r, EXP_E5);
    q = fmaf(q, r, EXP_E4);
    q = fmaf(q, r, EXP_E3);
    q = fmaf(q, r, EXP_E2);
    return canon_ldexp(1.0f + fmaf(r * r, q, r), i);
}

static inline float canon_tanh(float x) {
    float a = fabsf(x), a2 = a * a;
    float p = fmaf(TANH_T4, a2, TANH_T3);
    p = fmaf(p, a2, TANH_T2);
    p = fmaf(p, a2, TANH_T1);
    p = fmaf(p, a2, TANH_T0);
    float small = fmaf(a * a2, p, a);
    float large = 1.0f - 2.0f / (canon_exp(a + a) + 1.0f);
    return copysignf(a < TANH_SMALL ? small : large, x);
}

static inline float canon_silu(float x) { return x / (1.0f + canon_exp(-x)); }

static inline float canon_gelu(float x) {
    float u = x * fmaf(x * x, GELU_B, GELU_A);
    return x / (1.0f + canon_exp(-u));
}

static inline float canon_gelu_erf(float x) {
    float a = fabsf(x), t = 1.0f / fmaf(a, ERF_K, 1.0f);
    float p = fmaf(ERF_P7, t, ERF_P6);
    p = fmaf(p, t, ERF_P5);
    p = fmaf(p, t, ERF_P4);
    p = fmaf(p, t, ERF_P3);
    p = fmaf(p, t, ERF_P2);
    p = fmaf(p, t, ERF_P1);
    p = fmaf(p, t, ERF_P0);
    float q = (p * t) * canon_exp(x * x * -0.5f);
    return fmaf(-a, q, 0.0f < x ? x : 0.0f);
}

static inline float canon_softcap(float x, float cap) { return cap * canon_tanh(x / cap); }

static inline float canon_max(float a, float b) { return a > b ? a : b; } /* as x86's: b if either is NaN */

/* The one tree over sixteen lanes: fold the upper half onto the lower, four times. */
static inline float canon_sum16(const float s[16]) {
    float t[8];
    for (int i = 0; i < 8; i++) t[i] = s[i] + s[i + 8];
    for (int i = 0; i < 4; i++) t[i] = t[i] + t[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

static inline float canon_max16(const float s[16]) {
    float t[8];
    for (int i = 0; i < 8; i++) t[i] = canon_max(s[i], s[i + 8]);
    for (int i = 0; i < 4; i++) t[i] = canon_max(t[i], t[i + 4]);
    return canon_max(canon_max(t[0], t[2]), canon_max(t[1], t[3]));
}

#endif
