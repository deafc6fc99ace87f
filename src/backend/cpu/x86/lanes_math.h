/* What both x86 tiers build on their sixteen lanes: sums across lanes and the functions of canon.h, operation by operation.
 * Included by kernels_*.h after the tier's lanes_*.h. */
#ifndef ROCMFORGE_BACKEND_CPU_X86_LANES_MATH_H
#define ROCMFORGE_BACKEND_CPU_X86_LANES_MATH_H

INLINE float lanes_sum(lanes a) {
    __m128 t = lanes_fold4(a);
    t = _mm_add_ps(t, _mm_movehl_ps(t, t)); /* 0 + 2, 1 + 3 */
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

INLINE float lanes_max_all(lanes a) {
    __m128 t = lanes_fold4_max(a);
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

/* Four sums at once, the same tree. */
INLINE __m128 lanes_sum4(const lanes a[4]) {
    __m128 t0 = lanes_fold4(a[0]), t1 = lanes_fold4(a[1]), t2 = lanes_fold4(a[2]), t3 = lanes_fold4(a[3]);
    __m128 u = _mm_add_ps(_mm_unpacklo_ps(t0, t1), _mm_unpackhi_ps(t0, t1)); /* 0 + 2 of a, of b, 1 + 3 of a, of b */
    __m128 v = _mm_add_ps(_mm_unpacklo_ps(t2, t3), _mm_unpackhi_ps(t2, t3));
    return _mm_add_ps(_mm_movelh_ps(u, v), _mm_movehl_ps(v, u));
}

/* a * b + c in the first n lanes, c in the others: a zero product there could still turn -0 into +0. */
INLINE lanes lanes_fma_part(lanes a, lanes b, lanes c, size_t n) {
    return lanes_pick(lanes_range(0, (int)n), lanes_fma(a, b, c), c);
}

INLINE lanes lanes_fma1(lanes a, lanes b, float c) { return lanes_fma(a, b, lanes_set1(c)); }
INLINE lanes lanes_neg(lanes a) { return lanes_xor(a, lanes_bits(0x80000000u)); }
INLINE lanes lanes_abs(lanes a) { return lanes_and(a, lanes_bits(0x7fffffffu)); }

INLINE lanes lanes_exp(lanes x) {
    x = lanes_max(lanes_set1(EXP_LO), x);
    x = lanes_min(lanes_set1(EXP_HI), x);
    lanes t = lanes_fma1(x, lanes_set1(EXP_LOG2E), EXP_MAGIC);
    lanes n = lanes_sub(t, lanes_set1(EXP_MAGIC));
    lanes r = lanes_fma(n, lanes_set1(-EXP_LN2_HI), x);
    r = lanes_fma(n, lanes_set1(-EXP_LN2_LO), r);
    lanes q = lanes_fma1(lanes_set1(EXP_E6), r, EXP_E5);
    q = lanes_fma1(q, r, EXP_E4);
    q = lanes_fma1(q, r, EXP_E3);
    q = lanes_fma1(q, r, EXP_E2);
    return lanes_ldexp_magic(lanes_add(lanes_set1(1.0f), lanes_fma(lanes_mul(r, r), q, r)), t);
}

INLINE lanes lanes_tanh(lanes x) {
    const lanes one = lanes_set1(1.0f);
    lanes a = lanes_abs(x), a2 = lanes_mul(a, a);
    lanes p = lanes_fma1(lanes_set1(TANH_T4), a2, TANH_T3);
    p = lanes_fma1(p, a2, TANH_T2);
    p = lanes_fma1(p, a2, TANH_T1);
    p = lanes_fma1(p, a2, TANH_T0);
    lanes small = lanes_fma(lanes_mul(a, a2), p, a);
    lanes large = lanes_sub(one, lanes_div(lanes_set1(2.0f), lanes_add(lanes_exp(lanes_add(a, a)), one)));
    lanes y = lanes_pick(lanes_less(a, lanes_set1(TANH_SMALL)), small, large);
    return lanes_or(lanes_abs(y), lanes_and(x, lanes_bits(0x80000000u)));
}

INLINE lanes lanes_silu(lanes x) { return lanes_div(x, lanes_add(lanes_set1(1.0f), lanes_exp(lanes_neg(x)))); }

INLINE lanes lanes_gelu(lanes x) {
    lanes u = lanes_mul(x, lanes_fma1(lanes_mul(x, x), lanes_set1(GELU_B), GELU_A));
    return lanes_div(x, lanes_add(lanes_set1(1.0f), lanes_exp(lanes_neg(u))));
}

INLINE lanes lanes_gelu_erf(lanes x) {
    const lanes one = lanes_set1(1.0f);
    lanes a = lanes_abs(x), t = lanes_div(one, lanes_fma(a, lanes_set1(ERF_K), one));
    lanes p = lanes_fma1(lanes_set1(ERF_P7), t, ERF_P6);
    p = lanes_fma1(p, t, ERF_P5);
    p = lanes_fma1(p, t, ERF_P4);
    p = lanes_fma1(p, t, ERF_P3);
    p = lanes_fma1(p, t, ERF_P2);
    p = lanes_fma1(p, t, ERF_P1);
    p = lanes_fma1(p, t, ERF_P0);
    lanes q = lanes_mul(lanes_mul(p, t), lanes_exp(lanes_mul(lanes_mul(x, x), lanes_set1(-0.5f))));
    return lanes_fma(lanes_neg(a), q, lanes_pick(lanes_less(lanes_zero(), x), x, lanes_zero()));
}

INLINE lanes lanes_softcap(lanes x, lanes cap) { return lanes_mul(cap, lanes_tanh(lanes_div(x, cap))); }

#endif
