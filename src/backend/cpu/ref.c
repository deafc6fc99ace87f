/* The reference of the row kernels: the plainest C that says what each slot of cpu_ops means. Sums run in sixteen partial
 * sums (index mod 16) and one tree; everything else is one value at a time. Linear and attention: ref_linear.c,
 * ref_attention.c. */
#include "backend/cpu/ref.h"

#include "backend/cpu/canon.h"

static void add_ref(float *y, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void mul_ref(float *y, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

static void scale_ref(float *y, const float *x, float f, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] * f;
}

static void softcap_ref(float *y, const float *x, float cap, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = canon_softcap(x[i], cap);
}

static void silu_ref(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = canon_silu(x[i]);
}

static void gelu_ref(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = canon_gelu(x[i]);
}

static void gelu_erf_ref(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = canon_gelu_erf(x[i]);
}

static void swiglu_ref(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = canon_silu(gate[i]) * up[i];
}

static void geglu_ref(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = canon_gelu(gate[i]) * up[i];
}

static void rms_norm_ref(float *y, const float *x, const float *w, size_t n, float eps) {
    float part[16] = {0};
    for (size_t i = 0; i < n; i++) part[i % 16] = fmaf(x[i], x[i], part[i % 16]);
    float s = 1.0f / sqrtf(canon_sum16(part) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = w ? (x[i] * s) * w[i] : x[i] * s;
}

/* mean, then the variance of x - mean: two passes, no cancellation. */
static void layer_norm_ref(float *y, const float *x, const float *w, const float *b, size_t n, float eps) {
    float part[16] = {0}, var[16] = {0};
    for (size_t i = 0; i < n; i++) part[i % 16] = part[i % 16] + x[i];
    float mean = canon_sum16(part) / (float)n;
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - mean;
        var[i % 16] = fmaf(d, d, var[i % 16]);
    }
    float s = 1.0f / sqrtf(canon_sum16(var) / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = fmaf((x[i] - mean) * s, w[i], b ? b[i] : 0.0f);
}

static void softmax_ref(float *y, const float *x, size_t n) {
    float max[16], part[16] = {0};
    for (size_t j = 0; j < 16; j++) max[j] = -INFINITY;
    for (size_t i = 0; i < n; i++) max[i % 16] = canon_max(max[i % 16], x[i]);
    float m = canon_max16(max);
    for (size_t i = 0; i < n; i++) {
        y[i] = canon_exp(x[i] - m);
        part[i % 16] = part[i % 16] + y[i];
    }
    float sum = canon_sum16(part);
    for (size_t i = 0; i < n; i++) y[i] = y[i] / sum;
}

static void rope_head_ref(float *y, const float *x, const float *table, uint32_t n_rot, bool neox) {
    uint32_t half = n_rot / 2;
    for (uint32_t i = 0; i < half; i++) {
        uint32_t i0 = neox ? i : 2 * i, i1 = neox ? i + half : 2 * i + 1;
        float c = table[2 * i], s = table[2 * i + 1], x0 = x[i0], x1 = x[i1];
        y[i0] = x0 * c - x1 * s;
        y[i1] = x0 * s + x1 * c;
    }
}

static void rope_ref(float *y, const float *x, const float *table, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                     bool neox) {
    for (uint32_t h = 0; h < n_head; h++, x += head_dim, y += head_dim) {
        rope_head_ref(y, x, table, n_rot, neox);
        for (uint32_t i = n_rot; i < head_dim; i++) y[i] = x[i];
    }
}

/* inv = 127 / a and the scale of a block whose greatest |x| is a. false: all codes are 0. */
static bool block_scale(float a, float *inv, float *scale) {
    *inv = 127.0f / a;
    *scale = canon_bits(a) >= 0x7f800000u ? NAN : 0.0f;
    if (a == 0.0f || !isfinite(a) || !isfinite(*inv)) return false;
    *scale = a / 127.0f;
    return true;
}

static int8_t code_of(float x) {
    float r = (x + EXP_MAGIC) - EXP_MAGIC; /* to the nearest integer, ties to even */
    return (int8_t)(r > 127.0f ? 127.0f : r < -127.0f ? -127.0f : r);
}

static void quantize_codes(const cpu_act *dst, uint32_t tok, size_t block, const float *x, float inv, bool zero) {
    size_t at = block * dst->n_tok + tok;
    int8_t *code = dst->code + at * 32;
    for (size_t half = 0; half < 2; half++) {
        int sum = 0;
        for (size_t i = half * 16; i < half * 16 + 16; i++) {
            code[i] = zero ? 0 : code_of(x[i] * inv);
            sum += code[i];
        }
        dst->sum[at * 2 + half] = (int16_t)sum;
    }
}

static void quantize_ref(const cpu_act *dst, uint32_t tok, const float *x, size_t n) {
    size_t step = dst->scale_block;
    for (size_t b = 0; b < n / step; b++) {
        uint32_t amax = 0; /* of the bits: the order of |x|, with NaN above infinity */
        for (size_t i = 0; i < step; i++) {
            uint32_t u = canon_bits(x[b * step + i]) & 0x7fffffffu;
            amax = u > amax ? u : amax;
        }
        float inv, scale;
        bool zero = !block_scale(canon_from_bits(amax), &inv, &scale);
        dst->scale[b * dst->n_tok + tok] = scale;
        for (size_t i = 0; i < step; i += 32)
            quantize_codes(dst, tok, (b * step + i) / 32, x + b * step + i, inv, zero);
    }
}

void cpu_ops_ref(cpu_ops *ops) {
    *ops = (cpu_ops){
        .name = "scalar",
        .add = add_ref,
        .mul = mul_ref,
        .scale = scale_ref,
        .softcap = softcap_ref,
        .silu = silu_ref,
        .gelu = gelu_ref,
        .gelu_erf = gelu_erf_ref,
        .swiglu = swiglu_ref,
        .geglu = geglu_ref,
        .rms_norm = rms_norm_ref,
        .layer_norm = layer_norm_ref,
        .softmax = softmax_ref,
        .rope = rope_ref,
        .quantize = quantize_ref,
        .linear_float = linear_float_ref,
        .kv_load = kv_load_ref,
        .attn_chunk = attn_chunk_ref,
        .attn_merge = attn_merge_ref,
    };
}
