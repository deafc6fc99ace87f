#include "context/vec.h"

#include "backend/cpu/cpu_ops.h"
#include "context/vec_dot.h"

#include <math.h>
#include <stdatomic.h>

float vec_dot_base(const float *a, const float *b, size_t n) { return dot_body(a, b, n); }

/* Asked once: CPUID costs microseconds in a virtual machine. */
vec_dot_fn vec_dot_best(void) {
    static _Atomic(vec_dot_fn) best;
    vec_dot_fn f = atomic_load_explicit(&best, memory_order_relaxed);
    if (f) return f;
    f = vec_dot_base;
#ifdef __x86_64__
    if (cpu_tier_best() >= TIER_AVX2) f = vec_dot_avx2;
#endif
    atomic_store_explicit(&best, f, memory_order_relaxed);
    return f;
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
