/* The sampler's exponential, in a header because the GPU's kernels compile the same text. Plain products and sums, no fma, no
 * branch, so it vectorises. Pure, any thread. */
#ifndef ROCMFORGE_SAMPLE_EXP_NEG_H
#define ROCMFORGE_SAMPLE_EXP_NEG_H

#include <stdint.h>
#include <string.h>

static const float EXP_NEG_LOWEST = -87.0f; /* exp of it is still a normal number */

static inline uint32_t exp_neg_bits(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

static inline float exp_neg_from(uint32_t b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

/* exp x for x <= 0 (-infinity too): x = n ln 2 + r; the Taylor series of exp r to r^7 (next term below 6e-9), then n is
 * added to the exponent. Adding 1.5 * 2^23 leaves n in the low bits. */
static inline float exp_neg(float x) {
    const float in = x < EXP_NEG_LOWEST ? EXP_NEG_LOWEST : x;
    const float shifted = in * 0x1.715476p+0f + 0x1.8p23f, n = shifted - 0x1.8p23f;
    const float r = (in - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f; /* ln 2: the first part times n is exact */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    const float e = exp_neg_from(exp_neg_bits(p) + (exp_neg_bits(shifted) << 23)); /* n mod 2^9 is what is left of it */
    return x < EXP_NEG_LOWEST ? 0.0f : e;
}

#endif
