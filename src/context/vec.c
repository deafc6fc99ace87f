#include "context/vec.h"

#include "backend/cpu/cpu_ops.h"
#include "context/vec_dot.h"

#include <math.h>

float vec_dot_base(const float *a, const float *b, size_t n) { return dot_body(a, b, n); }

vec_dot_fn vec_dot_best(void) {
#ifdef __x86_64__
    return cpu_tier_best() >= TIER_AVX2 ? vec_dot_avx2 : vec_dot_base;
#else
    return vec_dot_base;
#endif
}

bool vec_normalise(float *y, const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    if (!(sum > 0) || !isfinite(sum)) return false;
    double length = sqrt(sum);
    for (size_t i = 0; i < n; i++) y[i] = (float)((double)x[i] / length);
    return true;
}

float vec_similarity(const float *a, const float *b, size_t n) {
    float s = vec_dot_best()(a, b, n);
    return s > 1 ? 1 : s < -1 ? -1 : s;
}
