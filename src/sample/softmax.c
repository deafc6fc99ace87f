#include "sample/softmax.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

static const float EXP_LOWEST = -87.0f; /* exp of it is still a normal number */

static inline uint32_t to_bits(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

static inline float from_bits(uint32_t b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

/* exp x for x <= 0 (-infinity too): x = n ln 2 + r; the Taylor series of exp r to r^7 (next term below 6e-9), then n is
 * added to the exponent. Adding 1.5 * 2^23 leaves n in the low bits. No branch, so it vectorises. */
static inline float exp_neg(float x) {
    const float in = x < EXP_LOWEST ? EXP_LOWEST : x;
    const float shifted = in * 0x1.715476p+0f + 0x1.8p23f, n = shifted - 0x1.8p23f;
    const float r = (in - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f; /* ln 2: the first part times n is exact */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    const float e = from_bits(to_bits(p) + (to_bits(shifted) << 23)); /* n mod 2^9 is what is left of it */
    return x < EXP_LOWEST ? 0.0f : e;
}

float softmax_max(const float *x, uint32_t n, bool *finite) {
    float best[LANES];
    uint32_t odd[LANES] = {0};
    for (int j = 0; j < LANES; j++) best[j] = -INFINITY;
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            const float v = x[i + j];
            best[j] = v > best[j] ? v : best[j];
            odd[j] |= (to_bits(v) & 0x7FFFFFFF) > 0x7F7FFFFF;
        }
    for (int j = 0; i < n; i++, j++) {
        best[j] = x[i] > best[j] ? x[i] : best[j];
        odd[j] |= !isfinite(x[i]);
    }
    for (int j = 1; j < LANES; j++) {
        best[0] = best[j] > best[0] ? best[j] : best[0];
        odd[0] |= odd[j];
    }
    *finite = !odd[0];
    return best[0];
}

double softmax_sum(const float *x, uint32_t n, float max) {
    double lane[LANES] = {0};
    float e[LANES];
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) e[j] = exp_neg(x[i + j] - max);
        for (int j = 0; j < LANES; j++) lane[j] += (double)e[j];
    }
    for (int j = 0; i < n; i++, j++) lane[j] += (double)exp_neg(x[i] - max);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

void softmax_weights(float *dst, const float *x, uint32_t n, float max, float temperature) {
    for (uint32_t i = 0; i < n; i++) dst[i] = exp_neg((x[i] - max) / temperature);
}
