/* The reference of attention and of reading the cache. One query at a time: scores, the chunk's own (m, l, o), then the
 * merge into the running state. Keys that a query does not see are skipped: their memory may hold anything. */
#include "backend/cpu/ref.h"

#include "backend/cpu/canon.h"

#include <assert.h>

/* Value i of a group of q8_0 or q4_0 as an integer: of keys, i = dimension * 16 + key. */
static int code_at(const void *codes, quant_type type, size_t i, bool is_k) {
    if (type == QUANT_Q8_0) return ((const int8_t *)codes)[i];
    assert(type == QUANT_Q4_0);
    size_t d = is_k ? i / 16 : i, at = is_k ? d / 2 * 16 + i % 16 : i / 2;
    return (((const uint8_t *)codes)[at] >> (d % 2 * 4) & 15) - 8;
}

/* Codes of 16 keys: K [d][16] with scales [d / 32][16], V [16][d] with scales [16][d / 32]. */
void kv_load_ref(float *dst, const void *codes, const void *scales, quant_type type, uint32_t d, bool is_k) {
    size_t n = (size_t)d * 16;
    if (type == QUANT_F32) {
        memcpy(dst, codes, n * sizeof *dst);
        return;
    }
    const uint16_t *h = codes, *s = scales;
    if (type == QUANT_F16 || type == QUANT_BF16) {
        for (size_t i = 0; i < n; i++) dst[i] = type == QUANT_F16 ? f16_to_f32(h[i]) : bf16_to_f32(h[i]);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = is_k ? i / 16 / 32 * 16 + i % 16 : i / 32;
        dst[i] = (float)code_at(codes, type, i, is_k) * f16_to_f32(s[at]);
    }
}

/* Value i of a group, whose scale, if it has one, is number `scale`. */
static float stored_at(const void *codes, const void *scales, quant_type type, size_t i, size_t scale, bool is_k) {
    if (type == QUANT_F32) return ((const float *)codes)[i];
    if (type == QUANT_F16) return f16_to_f32(((const uint16_t *)codes)[i]);
    if (type == QUANT_BF16) return bf16_to_f32(((const uint16_t *)codes)[i]);
    return (float)code_at(codes, type, i, is_k) * f16_to_f32(((const uint16_t *)scales)[scale]);
}

static float key_at(const attn_chunk_args *a, uint32_t j, uint32_t i) {
    return stored_at(a->k[j / 16], a->k_scales[j / 16], a->type_k, (size_t)i * 16 + j % 16, i / 32 * 16 + j % 16, true);
}

static float value_at(const attn_chunk_args *a, uint32_t j, uint32_t d) {
    size_t row = j % 16;
    return stored_at(a->v[j / 16], a->v_scales[j / 16], a->type_v, row * a->d_v + d, row * (a->d_v / 32) + d / 32,
                     false);
}

static float score_of(const attn_chunk_args *a, uint32_t query, uint32_t j) {
    const float *q = a->q[query];
    float s = 0.0f;
    for (uint32_t i = 0; i < a->d_k; i++) s = fmaf(q[i], key_at(a, j, i), s);
    s = s * a->scale;
    if (a->slope) return fmaf(-a->slope[query], fabsf((float)a->at[query] - (float)j), s);
    return a->softcap > 0.0f ? canon_softcap(s, a->softcap) : s;
}

/* p[lo .. hi) = exp(score - max); returns the maximum, *l the sum. */
static float weights_of(const attn_chunk_args *a, uint32_t query, float *p, float *l) {
    uint32_t lo = a->lo[query], hi = a->hi[query];
    float max[16], part[16] = {0};
    for (uint32_t j = 0; j < 16; j++) max[j] = -INFINITY;
    for (uint32_t j = lo; j < hi; j++) {
        p[j] = score_of(a, query, j);
        max[j % 16] = canon_max(max[j % 16], p[j]);
    }
    float m = canon_max16(max);
    for (uint32_t j = lo; j < hi; j++) {
        p[j] = canon_exp(p[j] - m);
        part[j % 16] = part[j % 16] + p[j];
    }
    *l = canon_sum16(part);
    return m;
}

void attn_merge_ref(float *m, float *l, float *o, const float *m2, const float *l2, const float *o2, uint32_t d_v) {
    if (*l2 == 0.0f) return;
    if (*l == 0.0f) {
        *m = *m2;
        *l = *l2;
        memcpy(o, o2, d_v * sizeof *o);
        return;
    }
    float max = canon_max(*m, *m2), a = canon_exp(*m - max), b = canon_exp(*m2 - max);
    *m = max;
    *l = fmaf(*l2, b, *l * a);
    for (uint32_t d = 0; d < d_v; d++) o[d] = fmaf(o2[d], b, o[d] * a);
}

/* o_c of one output at a time, straight into the merge: no buffer of d_v values is needed. */
void attn_chunk_ref(const attn_chunk_args *a) {
    for (uint32_t query = 0; query < a->n_q; query++) {
        float p[ATTN_CHUNK], l, m = weights_of(a, query, p, &l);
        float new_m = m, new_l = l;
        for (uint32_t d = 0; d < a->d_v; d++) {
            float o = 0.0f;
            for (uint32_t j = a->lo[query]; j < a->hi[query]; j++) o = fmaf(p[j], value_at(a, j, d), o);
            new_m = a->m[query], new_l = a->l[query]; /* every output merges from the same old state */
            attn_merge_ref(&new_m, &new_l, a->o + (size_t)query * a->d_v + d, &m, &l, &o, 1);
        }
        a->m[query] = new_m;
        a->l[query] = new_l;
    }
}
