/* Attention over sixteen lanes: up to TILE_QUERIES queries share each key and value that is loaded. For scores the lanes are
 * keys, for outputs they are dimensions, so every sum is the reference's ascending chain. Included by kernels_f32.h.
 *
 *   scores:   acc[query][group]  += q[query][i] (broadcast) * K[group][i][16 keys]
 *   outputs:  acc[query][vector] += p[query][key] (broadcast) * V[key][16 dimensions] */
#ifndef ROCMFORGE_BACKEND_CPU_X86_KERNELS_F32_ATTENTION_H
#define ROCMFORGE_BACKEND_CPU_X86_KERNELS_F32_ATTENTION_H

#include "backend/cpu/cpu_ops.h"

enum { TILE_ACC = TILE_QUERIES * 4, CHUNK_GROUPS = ATTN_CHUNK / 16 };

typedef struct {
    uint32_t lo, hi;                       /* keys that any query of the tile sees */
    uint32_t all_lo, all_hi;               /* keys that all see; all_lo <= all_hi */
    float p[TILE_QUERIES][2 * ATTN_CHUNK]; /* scores, then weights; a tile of groups may run over the chunk's end */
    float old[16], new[16];                /* merge factors per query: of the running state, of the chunk */
    bool merge[TILE_QUERIES];              /* false: the running state is empty */
} attn_tile;

INLINE uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
INLINE uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }

INLINE void tile_ranges(attn_tile *t, const attn_chunk_args *a, uint32_t q0, int n_q) {
    t->lo = t->all_lo = a->lo[q0], t->hi = t->all_hi = a->hi[q0];
    for (int q = 1; q < n_q; q++) {
        t->lo = min_u32(t->lo, a->lo[q0 + q]), t->all_lo = max_u32(t->all_lo, a->lo[q0 + q]);
        t->hi = max_u32(t->hi, a->hi[q0 + q]), t->all_hi = min_u32(t->all_hi, a->hi[q0 + q]);
    }
    t->all_lo = min_u32(t->all_lo, t->hi);
    t->all_hi = max_u32(t->all_hi, t->all_lo);
}

/* --- sixteen stored values -------------------------------------------------------------------------------------------- */
INLINE lanes load_q8_0(const int8_t *p) { return lanes_of_i8(_mm_loadu_si128((const __m128i *)p)); }

/* Half bytes as codes around 0: of each byte one, or both in turn of eight bytes. */
INLINE __m128i centred(__m128i nibbles) { return _mm_sub_epi8(nibbles, _mm_set1_epi8(8)); }
INLINE lanes load_q4_0_keys(const uint8_t *p, bool high) {
    __m128i c = _mm_loadu_si128((const __m128i *)p);
    return lanes_of_i8(centred(_mm_and_si128(high ? _mm_srli_epi16(c, 4) : c, _mm_set1_epi8(15))));
}
INLINE lanes load_q4_0_values(const uint8_t *p) {
    __m128i c = _mm_loadl_epi64((const __m128i *)p), low = _mm_set1_epi8(15);
    return lanes_of_i8(centred(_mm_unpacklo_epi8(_mm_and_si128(c, low), _mm_and_si128(_mm_srli_epi16(c, 4), low))));
}

/* Sixteen keys' value of dimension d of their group. */
INLINE lanes load_keys(const void *codes, quant_type type, size_t d, lanes scale) {
    if (type == QUANT_F32) return lanes_load((const float *)codes + d * 16);
    if (type == QUANT_F16) return lanes_load_f16((const uint16_t *)codes + d * 16);
    if (type == QUANT_BF16) return lanes_load_bf16((const uint16_t *)codes + d * 16);
    if (type == QUANT_Q8_0) return lanes_mul(load_q8_0((const int8_t *)codes + d * 16), scale);
    return lanes_mul(load_q4_0_keys((const uint8_t *)codes + d / 2 * 16, d % 2), scale);
}

INLINE bool has_scales(quant_type type) { return type == QUANT_Q8_0 || type == QUANT_Q4_0; }

/* Raw dot products of n_q queries with the groups of keys from `first` on, n_g at once. Past the last group that is seen, the
 * last one is computed again: its scores land where nobody looks. q8_0 and q4_0 have scales for 32 dimensions each. */
INLINE void score_groups(attn_tile *t, const attn_chunk_args *a, quant_type type, uint32_t q0, int n_q, uint32_t first,
                         int n_g) {
    lanes acc[TILE_ACC], kv[4], scale[4];
    const void *k[4];
    const uint16_t *s[4];
    const float *q[TILE_QUERIES];
    for (int g = 0; g < n_g; g++) {
        uint32_t group = min_u32(first + (uint32_t)g, (t->hi - 1) / 16);
        k[g] = a->k[group], s[g] = a->k_scales[group], scale[g] = lanes_zero();
    }
    for (int i = 0; i < n_q; i++) q[i] = a->q[q0 + (uint32_t)i];
    for (int i = 0; i < n_q * n_g; i++) acc[i] = lanes_zero();
    const size_t step = has_scales(type) ? 32 : a->d_k;
    for (size_t d = 0, end = step; d < a->d_k; end += step) {
        for (int g = 0; has_scales(type) && g < n_g; g++) scale[g] = lanes_load_f16(s[g] + d / 32 * 16);
        for (; d < end; d++) {
            for (int g = 0; g < n_g; g++) kv[g] = load_keys(k[g], type, d, scale[g]);
            for (int i = 0; i < n_q; i++) {
                lanes qv = lanes_set1(q[i][d]);
                for (int g = 0; g < n_g; g++) acc[i * n_g + g] = lanes_fma(qv, kv[g], acc[i * n_g + g]);
            }
        }
    }
    for (int i = 0; i < n_q * n_g; i++) lanes_store(&t->p[i / n_g][(first + (uint32_t)(i % n_g)) * 16], acc[i]);
}

/* ALiBi of sixteen keys from j on. */
INLINE lanes less_distance(lanes s, const attn_chunk_args *a, uint32_t query, int j) {
    static const float step[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lanes at = lanes_add(lanes_load(step), lanes_set1((float)j));
    lanes far = lanes_abs(lanes_sub(lanes_set1((float)a->at[query]), at));
    return lanes_fma(lanes_set1(-a->slope[query]), far, s);
}

/* One query's scores to weights; returns the maximum, *l the sum. */
static float tile_weights(float *p, const attn_chunk_args *a, uint32_t query, float *l) {
    const int lo = (int)a->lo[query], hi = (int)a->hi[query];
    const lanes least = lanes_set1(-INFINITY);
    lanes max = least, part = lanes_zero();
    for (int j = lo & ~15; j < hi; j += 16) {
        lanes s = lanes_mul(lanes_load(p + j), lanes_set1(a->scale));
        if (a->softcap > 0.0f) s = lanes_softcap(s, lanes_set1(a->softcap));
        if (a->slope) s = less_distance(s, a, query, j);
        lanes_store(p + j, s);
        max = lanes_pick(lanes_range(lo - j, hi - j), lanes_max(max, s), max);
    }
    const float m = lanes_max_all(max);
    for (int j = lo & ~15; j < hi; j += 16) {
        lanes e = lanes_exp(lanes_sub(lanes_load(p + j), lanes_set1(m)));
        e = lanes_pick(lanes_range(lo - j, hi - j), e, lanes_zero());
        lanes_store(p + j, e);
        part = lanes_add(part, e);
    }
    *l = lanes_sum(part);
    return m;
}

/* Weights of the tile, the running m and l, and the factors that merge its outputs. */
INLINE void weigh_tile(attn_tile *t, const attn_chunk_args *a, uint32_t q0, int n_q) {
    float l[TILE_QUERIES];
    lanes_store(t->old, lanes_zero());
    lanes_store(t->new, lanes_zero());
    for (int i = 0; i < n_q; i++) {
        float m = tile_weights(t->p[i], a, q0 + (uint32_t)i, &l[i]), *run = &a->m[q0 + (uint32_t)i];
        t->merge[i] = a->l[q0 + (uint32_t)i] != 0.0f;
        float most = t->merge[i] ? canon_max(*run, m) : m;
        t->old[i] = *run - most; /* of no meaning where nothing is merged */
        t->new[i] = m - most;
        *run = most;
    }
    lanes_store(t->old, lanes_exp(lanes_load(t->old)));
    lanes_store(t->new, lanes_exp(lanes_load(t->new)));
    for (int i = 0; i < n_q; i++) {
        float *run = &a->l[q0 + (uint32_t)i];
        *run = t->merge[i] ? fmaf(l[i], t->new[i], *run * t->old[i]) : l[i];
    }
}

/* Dimensions [d, d + left) of key j's value, left <= 16. */
INLINE lanes load_value(const attn_chunk_args *a, quant_type type, uint32_t j, size_t d, size_t left) {
    const void *group = a->v[j / 16];
    size_t row = j % 16, i = row * a->d_v + d;
    if (type == QUANT_F32 && left == 16) return lanes_load((const float *)group + i);
    if (type == QUANT_F32) return lanes_load_part((const float *)group + i, left);
    if (type == QUANT_F16 && left == 16) return lanes_load_f16((const uint16_t *)group + i);
    if (type == QUANT_F16) {
        uint16_t last[16] = {0};
        memcpy(last, (const uint16_t *)group + i, left * sizeof *last);
        return lanes_load_f16(last);
    }
    if (type == QUANT_BF16 && left == 16) return lanes_load_bf16((const uint16_t *)group + i);
    if (type == QUANT_BF16) {
        uint16_t last[16] = {0};
        memcpy(last, (const uint16_t *)group + i, left * sizeof *last);
        return lanes_load_bf16(last);
    }
    const uint16_t *scales = a->v_scales[j / 16]; /* d_v is a multiple of 32: left is 16 */
    lanes scale = lanes_set1(_cvtsh_ss(scales[row * (a->d_v / 32) + d / 32]));
    if (type == QUANT_Q4_0) return lanes_mul(load_q4_0_values((const uint8_t *)group + i / 2), scale);
    return lanes_mul(load_q8_0((const int8_t *)group + i), scale);
}

/* Outputs [at, at + 16 * n_v) of the tile, the last vector only `left` wide, added up over the keys. */
INLINE void add_values(lanes *acc, const attn_tile *t, const attn_chunk_args *a, quant_type type, uint32_t q0, int n_q,
                       size_t at, int n_v, size_t left) {
    lanes v[4];
    for (int i = 0; i < n_q * n_v; i++) acc[i] = lanes_zero();
    for (uint32_t j = t->lo; j < t->hi; j++) {
        for (int i = 0; i < n_v; i++) v[i] = load_value(a, type, j, at + 16 * (size_t)i, left);
        const bool all = j >= t->all_lo && j < t->all_hi;
        for (int q = 0; q < n_q; q++) {
            if (!all && (j < a->lo[q0 + (uint32_t)q] || j >= a->hi[q0 + (uint32_t)q])) continue;
            lanes p = lanes_set1(t->p[q][j]);
            for (int i = 0; i < n_v; i++) acc[q * n_v + i] = lanes_fma(p, v[i], acc[q * n_v + i]);
        }
    }
}

INLINE void output_tile(const attn_tile *t, const attn_chunk_args *a, uint32_t q0, int n_q, size_t at, int n_v,
                        size_t left) {
    lanes acc[TILE_ACC];
    if (a->type_v == QUANT_F32)
        add_values(acc, t, a, QUANT_F32, q0, n_q, at, n_v, left);
    else if (a->type_v == QUANT_F16)
        add_values(acc, t, a, QUANT_F16, q0, n_q, at, n_v, left);
    else if (a->type_v == QUANT_BF16)
        add_values(acc, t, a, QUANT_BF16, q0, n_q, at, n_v, left);
    else if (a->type_v == QUANT_Q4_0)
        add_values(acc, t, a, QUANT_Q4_0, q0, n_q, at, n_v, left);
    else
        add_values(acc, t, a, QUANT_Q8_0, q0, n_q, at, n_v, left);
    for (int i = 0; i < n_q * n_v; i++) { /* merged into the running state */
        int q = i / n_v;
        float *o = a->o + (size_t)(q0 + (uint32_t)q) * a->d_v + at + (size_t)(i % n_v) * 16;
        if (t->merge[q]) {
            lanes kept = lanes_mul(lanes_load_part(o, left), lanes_set1(t->old[q]));
            acc[i] = lanes_fma(acc[i], lanes_set1(t->new[q]), kept);
        }
        if (left < 16)
            lanes_store_part(o, acc[i], left);
        else
            lanes_store(o, acc[i]);
    }
}

INLINE void score_tile(attn_tile *t, const attn_chunk_args *a, uint32_t q0, int n_q) {
    const int n = tile_width(n_q);
    for (uint32_t g = t->lo / 16; g * 16 < t->hi; g += (uint32_t)n) {
        if (a->type_k == QUANT_F32)
            score_groups(t, a, QUANT_F32, q0, n_q, g, n);
        else if (a->type_k == QUANT_F16)
            score_groups(t, a, QUANT_F16, q0, n_q, g, n);
        else if (a->type_k == QUANT_BF16)
            score_groups(t, a, QUANT_BF16, q0, n_q, g, n);
        else if (a->type_k == QUANT_Q4_0)
            score_groups(t, a, QUANT_Q4_0, q0, n_q, g, n);
        else
            score_groups(t, a, QUANT_Q8_0, q0, n_q, g, n);
    }
}

INLINE void attn_queries(const attn_chunk_args *a, uint32_t q0, int n_q) {
    const int n = tile_width(n_q);
    attn_tile t;
    tile_ranges(&t, a, q0, n_q);
    score_tile(&t, a, q0, n_q);
    weigh_tile(&t, a, q0, n_q);
    size_t at = 0;
    for (; at + 16 * (size_t)n <= a->d_v; at += 16 * (size_t)n) output_tile(&t, a, q0, n_q, at, n, 16);
    for (; at < a->d_v; at += 16) output_tile(&t, a, q0, n_q, at, 1, a->d_v - at < 16 ? a->d_v - at : 16);
}

static void attn_chunk_lanes(const attn_chunk_args *a) {
    uint32_t q = 0;
    for (; a->n_q - q >= TILE_QUERIES; q += TILE_QUERIES) attn_queries(a, q, TILE_QUERIES);
    switch (a->n_q - q) {
    case 5: attn_queries(a, q, 5); break;
    case 4: attn_queries(a, q, 4); break;
    case 3: attn_queries(a, q, 3); break;
    case 2: attn_queries(a, q, 2); break;
    case 1: attn_queries(a, q, 1); break;
    default: break;
    }
}

static void attn_merge_lanes(float *m, float *l, float *o, const float *m2, const float *l2, const float *o2,
                             uint32_t d_v) {
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
    const lanes av = lanes_set1(a), bv = lanes_set1(b);
    size_t d = 0;
    for (; d + 16 <= d_v; d += 16)
        lanes_store(o + d, lanes_fma(lanes_load(o2 + d), bv, lanes_mul(lanes_load(o + d), av)));
    if (d == d_v) return;
    lanes kept = lanes_mul(lanes_load_part(o + d, d_v - d), av);
    lanes_store_part(o + d, lanes_fma(lanes_load_part(o2 + d, d_v - d), bv, kept), d_v - d);
}

/* --- the cache ------------------------------------------------------------------------------------------------------------ */
INLINE void load_scaled_keys(float *dst, const void *codes, const uint16_t *scales, quant_type type, uint32_t d) {
    for (uint32_t b = 0; b < d / 32; b++) {
        lanes scale = lanes_load_f16(scales + b * 16);
        for (size_t i = (size_t)b * 32; i < (size_t)b * 32 + 32; i++)
            lanes_store(dst + i * 16, load_keys(codes, type, i, scale));
    }
}

INLINE void load_scaled_values(float *dst, const void *codes, const uint16_t *scales, quant_type type, uint32_t d) {
    const int8_t *q8 = codes;
    const uint8_t *q4 = codes;
    for (size_t i = 0; i < (size_t)d * 16; i += 16) {
        lanes c = type == QUANT_Q8_0 ? load_q8_0(q8 + i) : load_q4_0_values(q4 + i / 2);
        lanes_store(dst + i, lanes_mul(c, lanes_set1(_cvtsh_ss(scales[i / 32]))));
    }
}

static void kv_load_lanes(float *dst, const void *codes, const void *scales, quant_type type, uint32_t d, bool is_k) {
    const uint16_t *h = codes;
    if (type == QUANT_F32)
        memcpy(dst, codes, (size_t)d * 16 * sizeof *dst);
    else if (type == QUANT_F16)
        for (size_t i = 0; i < (size_t)d * 16; i += 16) lanes_store(dst + i, lanes_load_f16(h + i));
    else if (type == QUANT_BF16)
        for (size_t i = 0; i < (size_t)d * 16; i += 16) lanes_store(dst + i, lanes_load_bf16(h + i));
    else if (type == QUANT_Q8_0 && is_k)
        load_scaled_keys(dst, codes, scales, QUANT_Q8_0, d);
    else if (type == QUANT_Q8_0)
        load_scaled_values(dst, codes, scales, QUANT_Q8_0, d);
    else if (is_k)
        load_scaled_keys(dst, codes, scales, QUANT_Q4_0, d);
    else
        load_scaled_values(dst, codes, scales, QUANT_Q4_0, d);
}

#endif
