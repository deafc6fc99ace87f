/* The float kernels of a tier, written once over sixteen lanes (lanes_avx2.h or lanes_avx512.h, included before this). They
 * repeat ref.c's arithmetic, so the bits are the reference's; what differs is how many values are in flight. This file has
 * the row kernels and the table; linear and attention have their own. */
#ifndef ROCMFORGE_BACKEND_CPU_X86_KERNELS_F32_H
#define ROCMFORGE_BACKEND_CPU_X86_KERNELS_F32_H

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/x86/lanes_math.h"
#include "backend/cpu/x86/kernels_f32_attention.h"
#include "backend/cpu/x86/kernels_f32_linear.h"

/* --- one value at a time: y[i] = f(a[i], b[i]) --------------------------------------------------------------------------- */
typedef lanes (*lanes_fn)(lanes a, lanes b);

INLINE void map_two(float *y, const float *a, const float *b, size_t n, lanes_fn f) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) lanes_store(y + i, f(lanes_load(a + i), lanes_load(b + i)));
    if (i < n) lanes_store_part(y + i, f(lanes_load_part(a + i, n - i), lanes_load_part(b + i, n - i)), n - i);
}

INLINE void map_one(float *y, const float *a, lanes b, size_t n, lanes_fn f) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) lanes_store(y + i, f(lanes_load(a + i), b));
    if (i < n) lanes_store_part(y + i, f(lanes_load_part(a + i, n - i), b), n - i);
}

static inline lanes silu_fn(lanes x, lanes unused) {
    (void)unused;
    return lanes_silu(x);
}
static inline lanes gelu_fn(lanes x, lanes unused) {
    (void)unused;
    return lanes_gelu(x);
}
static inline lanes gelu_erf_fn(lanes x, lanes unused) {
    (void)unused;
    return lanes_gelu_erf(x);
}
static inline lanes add_fn(lanes a, lanes b) { return lanes_add(a, b); }
static inline lanes mul_fn(lanes a, lanes b) { return lanes_mul(a, b); }
static inline lanes softcap_fn(lanes x, lanes cap) { return lanes_softcap(x, cap); }
static inline lanes swiglu_fn(lanes gate, lanes up) { return lanes_mul(lanes_silu(gate), up); }
static inline lanes geglu_fn(lanes gate, lanes up) { return lanes_mul(lanes_gelu(gate), up); }

static void add_lanes(float *y, const float *a, const float *b, size_t n) { map_two(y, a, b, n, add_fn); }
static void mul_lanes(float *y, const float *a, const float *b, size_t n) { map_two(y, a, b, n, mul_fn); }
static void scale_lanes(float *y, const float *x, float f, size_t n) { map_one(y, x, lanes_set1(f), n, mul_fn); }
static void softcap_lanes(float *y, const float *x, float cap, size_t n) {
    map_one(y, x, lanes_set1(cap), n, softcap_fn);
}
static void silu_lanes(float *y, const float *x, size_t n) { map_one(y, x, lanes_zero(), n, silu_fn); }
static void gelu_lanes(float *y, const float *x, size_t n) { map_one(y, x, lanes_zero(), n, gelu_fn); }
static void gelu_erf_lanes(float *y, const float *x, size_t n) { map_one(y, x, lanes_zero(), n, gelu_erf_fn); }
static void swiglu_lanes(float *y, const float *gate, const float *up, size_t n) { map_two(y, gate, up, n, swiglu_fn); }
static void geglu_lanes(float *y, const float *gate, const float *up, size_t n) { map_two(y, gate, up, n, geglu_fn); }

/* --- norms and softmax ---------------------------------------------------------------------------------------------------- */
INLINE lanes scaled(lanes x, lanes s, const float *w, size_t i, size_t n) {
    lanes y = lanes_mul(x, s);
    if (!w) return y;
    return lanes_mul(y, n < 16 ? lanes_load_part(w + i, n) : lanes_load(w + i));
}

static void rms_norm_lanes(float *y, const float *x, const float *w, size_t n, float eps) {
    lanes part = lanes_zero();
    size_t i = 0, whole = n & ~(size_t)15;
    for (; i < whole; i += 16) part = lanes_fma(lanes_load(x + i), lanes_load(x + i), part);
    lanes rest = lanes_load_part(x + i, n - i);
    part = lanes_fma_part(rest, rest, part, n - i);
    lanes s = lanes_set1(1.0f / sqrtf(lanes_sum(part) / (float)n + eps));
    for (i = 0; i < whole; i += 16) lanes_store(y + i, scaled(lanes_load(x + i), s, w, i, 16));
    if (i < n) lanes_store_part(y + i, scaled(rest, s, w, i, n - i), n - i);
}

static void layer_norm_lanes(float *y, const float *x, const float *w, const float *b, size_t n, float eps) {
    lanes part = lanes_zero(), var = lanes_zero();
    size_t i = 0, whole = n & ~(size_t)15, left = n - whole;
    lanes_mask on = lanes_range(0, (int)left);
    for (; i < whole; i += 16) part = lanes_add(part, lanes_load(x + i));
    lanes rest = lanes_load_part(x + whole, left);
    part = lanes_pick(on, lanes_add(part, rest), part);
    lanes mean = lanes_set1(lanes_sum(part) / (float)n);
    for (i = 0; i < whole; i += 16) {
        lanes d = lanes_sub(lanes_load(x + i), mean);
        var = lanes_fma(d, d, var);
    }
    rest = lanes_sub(rest, mean);
    var = lanes_fma_part(rest, rest, var, left);
    lanes s = lanes_set1(1.0f / sqrtf(lanes_sum(var) / (float)n + eps));
    for (i = 0; i < whole; i += 16) {
        lanes d = lanes_mul(lanes_sub(lanes_load(x + i), mean), s);
        lanes_store(y + i, lanes_fma(d, lanes_load(w + i), b ? lanes_load(b + i) : lanes_zero()));
    }
    if (!left) return;
    lanes last = b ? lanes_load_part(b + i, left) : lanes_zero();
    rest = lanes_fma(lanes_mul(rest, s), lanes_load_part(w + i, left), last);
    lanes_store_part(y + i, rest, left);
}

static void softmax_lanes(float *y, const float *x, size_t n) {
    lanes max = lanes_set1(-INFINITY), part = lanes_zero();
    size_t i = 0, whole = n & ~(size_t)15, left = n - whole;
    lanes_mask on = lanes_range(0, (int)left);
    for (; i < whole; i += 16) max = lanes_max(max, lanes_load(x + i));
    lanes rest = lanes_load_part(x + whole, left);
    max = lanes_pick(on, lanes_max(max, rest), max);
    lanes m = lanes_set1(lanes_max_all(max));
    for (i = 0; i < whole; i += 16) {
        lanes e = lanes_exp(lanes_sub(lanes_load(x + i), m));
        lanes_store(y + i, e);
        part = lanes_add(part, e);
    }
    rest = lanes_exp(lanes_sub(rest, m));
    part = lanes_pick(on, lanes_add(part, rest), part);
    lanes sum = lanes_set1(lanes_sum(part));
    for (i = 0; i < whole; i += 16) lanes_store(y + i, lanes_div(lanes_load(y + i), sum));
    if (left) lanes_store_part(y + i, lanes_div(rest, sum), left);
}

/* --- rope ----------------------------------------------------------------------------------------------------------------- */
/* The pairs that fill no vector, as rope_head_ref: from pair `i` on. */
INLINE void rope_rest(float *y, const float *x, const float *table, uint32_t i, uint32_t half, bool neox) {
    for (; i < half; i++) {
        uint32_t i0 = neox ? i : 2 * i, i1 = neox ? i + half : 2 * i + 1;
        float c = table[2 * i], s = table[2 * i + 1], x0 = x[i0], x1 = x[i1];
        y[i0] = x0 * c - x1 * s;
        y[i1] = x0 * s + x1 * c;
    }
}

INLINE void rope_neox(float *y, const float *x, const float *table, uint32_t half) {
    uint32_t i = 0;
    for (; i + 16 <= half; i += 16) {
        lanes c, s, x0 = lanes_load(x + i), x1 = lanes_load(x + half + i);
        lanes_load_pairs(table + 2 * i, &c, &s);
        lanes_store(y + i, lanes_sub(lanes_mul(x0, c), lanes_mul(x1, s)));
        lanes_store(y + half + i, lanes_add(lanes_mul(x0, s), lanes_mul(x1, c)));
    }
    rope_rest(y, x, table, i, half, true);
}

/* Eight pairs a vector: x * (c, c) + (-x1, x0) * (s, s). */
INLINE void rope_adjacent(float *y, const float *x, const float *table, uint32_t half) {
    uint32_t i = 0;
    for (; i + 8 <= half; i += 8) {
        lanes v = lanes_load(x + 2 * i), t = lanes_load(table + 2 * i);
        lanes turned = lanes_mul(lanes_swap_pairs(v), lanes_dup_odd(t));
        lanes kept = lanes_mul(v, lanes_dup_even(t));
        /* the odd lane of the reference adds x0 * s first; a sum of two does not mind */
        lanes_store(y + 2 * i, lanes_add(kept, lanes_xor(turned, lanes_sign_even())));
    }
    rope_rest(y, x, table, i, half, false);
}

static void rope_lanes(float *y, const float *x, const float *table, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                       bool neox) {
    for (uint32_t h = 0; h < n_head; h++, x += head_dim, y += head_dim) {
        if (neox)
            rope_neox(y, x, table, n_rot / 2);
        else
            rope_adjacent(y, x, table, n_rot / 2);
        if (y != x) memcpy(y + n_rot, x + n_rot, (head_dim - n_rot) * sizeof *y);
    }
}

/* --- activations to int8 --------------------------------------------------------------------------------------------------- */
/* inv = 127 / a and the scale of a block whose greatest |x| has these bits. false: all codes are 0. As in ref.c. */
INLINE bool block_scale(uint32_t amax, float *inv, float *scale) {
    float a = canon_from_bits(amax);
    *inv = 127.0f / a;
    *scale = amax >= 0x7f800000u ? NAN : 0.0f;
    if (amax == 0 || amax >= 0x7f800000u || !(*inv < INFINITY)) return false;
    *scale = a / 127.0f;
    return true;
}

/* Sixteen codes and their sum (psadbw sums bytes without sign: 128 is added to each). */
INLINE int16_t store_codes(int8_t *dst, __m128i codes) {
    _mm_storeu_si128((__m128i *)dst, codes);
    __m128i sum = _mm_sad_epu8(_mm_xor_si128(codes, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return (int16_t)(_mm_cvtsi128_si32(sum) + _mm_extract_epi16(sum, 4) - 16 * 128);
}

/* One scale's worth of x, n_blocks of 32 values: their greatest |x|, then their codes. */
INLINE void quantize_span(const cpu_act *dst, uint32_t tok, size_t block, size_t n_blocks, const float *x) {
    lanes most = lanes_zero();
    for (size_t i = 0; i < n_blocks * 32; i += 16) most = lanes_max_bits(most, lanes_abs(lanes_load(x + i)));
    float inv, scale;
    bool ok = block_scale(lanes_max_bits_all(most), &inv, &scale);
    dst->scale[block / n_blocks * dst->n_tok + tok] = scale;
    lanes f = lanes_set1(inv);
    for (size_t b = 0; b < n_blocks; b++, x += 32) {
        size_t at = (block + b) * dst->n_tok + tok;
        for (size_t half = 0; half < 2; half++) {
            __m128i codes = ok ? lanes_codes(lanes_mul(lanes_load(x + half * 16), f)) : _mm_setzero_si128();
            dst->sum[at * 2 + half] = store_codes(dst->code + at * 32 + half * 16, codes);
        }
    }
}

static void quantize_lanes(const cpu_act *dst, uint32_t tok, const float *x, size_t n) {
    if (dst->scale_block == 32)
        for (size_t b = 0; b < n / 32; b++) quantize_span(dst, tok, b, 1, x + b * 32);
    else
        for (size_t b = 0; b < n / 256; b++) quantize_span(dst, tok, b * 8, 8, x + b * 256);
}

static void fill_f32(cpu_ops *ops) {
    ops->add = add_lanes;
    ops->mul = mul_lanes;
    ops->scale = scale_lanes;
    ops->softcap = softcap_lanes;
    ops->silu = silu_lanes;
    ops->gelu = gelu_lanes;
    ops->gelu_erf = gelu_erf_lanes;
    ops->swiglu = swiglu_lanes;
    ops->geglu = geglu_lanes;
    ops->rms_norm = rms_norm_lanes;
    ops->layer_norm = layer_norm_lanes;
    ops->softmax = softmax_lanes;
    ops->rope = rope_lanes;
    ops->quantize = quantize_lanes;
    ops->linear_float = linear_float_lanes;
    ops->kv_load = kv_load_lanes;
    ops->attn_chunk = attn_chunk_lanes;
    ops->attn_merge = attn_merge_lanes;
}

#endif
