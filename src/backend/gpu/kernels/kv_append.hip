/* Rotates a step's queries and keys and writes keys and values into their pages: one launch a layer. Stored bytes are those
 * of backend/cpu/kv_store.c, rotated values those of rope_ref: two products and a sum, no fma.
 * A block is one head of one token: of q (rotated where it stands), or a kv head's key and value. */
#include "backend/gpu/kernels/attention_kv.h"

struct rope_pair {
    uint32_t i0, i1;
    float x0, x1;
};

/* Pair number i of a head, rotated by its row of the table: cos, sin. */
DEVICE rope_pair rotate(const float *x, const float *table, uint32_t i, uint32_t half, uint32_t neox) {
    rope_pair r = {neox ? i : 2 * i, neox ? i + half : 2 * i + 1, 0.0f, 0.0f};
    const float c = table[2 * i], s = table[2 * i + 1], x0 = x[r.i0], x1 = x[r.i1];
    r.x0 = x0 * c - x1 * s;
    r.x1 = x0 * s + x1 * c;
    return r;
}

/* To the nearest integer, halves away from zero: |y| below 2^24. */
DEVICE int32_t round_away(float y) {
    const int32_t whole = (int32_t)y;
    const float rest = y - (float)whole; /* exact */
    return rest >= 0.5f ? whole + 1 : rest <= -0.5f ? whole - 1 : whole;
}

/* Greatest |x| of the team as bits: a NaN is above infinity. */
DEVICE uint32_t team_amax(float x) {
    uint32_t u = as_bits(x) & 0x7fffffffu;
    UNROLL
    for (uint32_t mask = 16; mask; mask /= 2) u = max32(u, (uint32_t)team_xor((int32_t)u, mask));
    return u;
}

/* A team's 32 values as quant_encode_q8_0 has them: this lane's code, and the scale's bits. */
DEVICE int8_t encode_q8_0(float x, uint16_t *scale) {
    const uint32_t bits = team_amax(x);
    const bool finite = bits < 0x7f800000u;
    const float d = as_float(bits) / 127.0f;
    float inverse = finite && d != 0.0f ? 1.0f / d : 0.0f;
    if (!(inverse < __builtin_inff())) inverse = 0.0f;
    *scale = finite ? to_f16(d) : 0x7e00;
    return finite ? (int8_t)round_away(x * inverse) : 0;
}

/* The same of quant_encode_q4_0. */
DEVICE uint32_t encode_q4_0(float x, uint16_t *scale) {
    const uint32_t bits = team_amax(x);
    uint32_t first = (as_bits(x) & 0x7fffffffu) == bits ? lane_in_team() : TEAM;
    UNROLL
    for (uint32_t mask = 16; mask; mask /= 2) first = min32(first, (uint32_t)team_xor((int32_t)first, mask));
    const bool finite = bits < 0x7f800000u;
    const float d = team_get_f(x, first) / -8.0f;
    float inverse = finite && d != 0.0f ? 1.0f / d : 0.0f;
    if (!(as_float(as_bits(inverse) & 0x7fffffffu) < __builtin_inff())) inverse = 0.0f;
    *scale = finite ? to_f16(d) : 0x7e00;
    if (!finite) return 8;
    const int32_t q = (int32_t)fma32(x, inverse, 8.5f);
    const int32_t exact = fma32(x, inverse, 8.5f - (float)q) < 0.0f ? q - 1 : q;
    return exact < 15 ? (uint32_t)exact : 15;
}

DEVICE uint16_t to_bf16(float x) { /* to nearest even, a NaN made quiet */
    const uint32_t u = as_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* Where a token's key or value goes: value i at codes[first + i * step] (in values; of q4_0, value 2i at byte first_half +
 * i * step), scale of block b at scales[scale_first + b * step]. */
struct kv_slot {
    uint8_t *codes;
    uint16_t *scales;
    uint32_t first, first_half, scale_first, step;
};

/* x: [d], in shared or global memory; the whole block works. */
DEVICE void store_head(const kv_slot &to, uint32_t type, const float *x, uint32_t d) {
    if (type == KV_Q8_0) {
        for (uint32_t b = team_in_block(); b < d / KV_SCALED; b += KV_APPEND_THREADS / TEAM) {
            const uint32_t i = b * KV_SCALED + lane_in_team();
            uint16_t scale;
            ((int8_t *)to.codes)[to.first + i * to.step] = encode_q8_0(x[i], &scale);
            if (lane_in_team() == 0) to.scales[to.scale_first + b * to.step] = scale;
        }
        return;
    }
    if (type == KV_Q4_0) { /* dimensions 2i and 2i + 1 share a byte */
        for (uint32_t b = team_in_block(); b < d / KV_SCALED; b += KV_APPEND_THREADS / TEAM) {
            uint16_t scale;
            const uint32_t code = encode_q4_0(x[b * KV_SCALED + lane_in_team()], &scale);
            const uint32_t next = (uint32_t)team_xor((int32_t)code, 1), at = b * 16 + lane_in_team() / 2;
            if (lane_in_team() % 2 == 0) to.codes[to.first_half + at * to.step] = (uint8_t)(code | next << 4);
            if (lane_in_team() == 0) to.scales[to.scale_first + b * to.step] = scale;
        }
        return;
    }
    for (uint32_t i = thread_x(); i < d; i += KV_APPEND_THREADS) {
        const uint32_t at = to.first + i * to.step;
        if (type == KV_F32)
            ((float *)to.codes)[at] = x[i];
        else
            ((uint16_t *)to.codes)[at] = type == KV_F16 ? to_f16(x[i]) : to_bf16(x[i]);
    }
}

DEVICE void rotate_query(const kv_append_args &a, uint32_t tok, uint32_t head, const float *table) {
    const float *q = (const float *)((const uint8_t *)a.q + (uint64_t)tok * a.q_stride) + (uint64_t)head * a.kv.d_k;
    float *y = (float *)((uint8_t *)a.y + (uint64_t)tok * a.y_stride) + (uint64_t)head * a.kv.d_k;
    for (uint32_t i = thread_x(); i < a.n_rot / 2; i += KV_APPEND_THREADS) {
        const rope_pair r = rotate(q, table, i, a.n_rot / 2, a.neox);
        y[r.i0] = r.x0;
        y[r.i1] = r.x1;
    }
    for (uint32_t i = a.n_rot / 2 * 2 + thread_x(); i < a.kv.d_k; i += KV_APPEND_THREADS) y[i] = q[i];
}

/* rotated: [d_k] of the block */
DEVICE void append_head(const kv_append_args &a, uint32_t tok, uint32_t head, const float *table, float *rotated) {
    const float *k = (const float *)((const uint8_t *)a.k + (uint64_t)tok * a.k_stride) + (uint64_t)head * a.kv.d_k;
    const float *v = (const float *)((const uint8_t *)a.v + (uint64_t)tok * a.v_stride) + (uint64_t)head * a.kv.d_v;
    const uint32_t even = a.n_rot / 2 * 2;
    for (uint32_t i = thread_x(); i < even / 2; i += KV_APPEND_THREADS) {
        const rope_pair r = rotate(k, table, i, even / 2, a.neox);
        rotated[r.i0] = r.x0;
        rotated[r.i1] = r.x1;
    }
    for (uint32_t i = even + thread_x(); i < a.kv.d_k; i += KV_APPEND_THREADS) rotated[i] = k[i];
    barrier();
    uint32_t slot;
    uint8_t *page = kv_page(a.kv, a.kv.first_page[a.kv.seq[tok]], head, (uint32_t)a.kv.pos[tok], &slot);
    const uint32_t group = slot / KV_GROUP, lane = slot % KV_GROUP;
    const uint32_t d_k = a.kv.d_k, d_v = a.kv.d_v;
    const kv_slot at_k = {page,
                          (uint16_t *)(page + a.kv.k_scales),
                          group * d_k * KV_GROUP + lane,
                          group * (d_k / 2) * KV_GROUP + lane,
                          group * (d_k / KV_SCALED) * KV_GROUP + lane,
                          KV_GROUP};
    const kv_slot at_v = {page + a.kv.v,    (uint16_t *)(page + a.kv.v_scales), slot * d_v,
                          slot * (d_v / 2), slot * (d_v / KV_SCALED),           1};
    store_head(at_k, a.kv.type_k, rotated, a.kv.d_k);
    store_head(at_v, a.kv.type_v, v, a.kv.d_v);
}

KERNEL(kv_append, kv_append_args, KV_APPEND_THREADS) {
    SHARED float rotated[ATTN_MAX_D];
    const uint32_t tok = block_x(), head = block_y();
    if (a.kv.seq[tok] == ATTN_NONE) return;
    const float *table = (const float *)((const uint8_t *)a.table + (uint64_t)tok * a.table_stride);
    if (head < a.n_head)
        rotate_query(a, tok, head, table);
    else
        append_head(a, tok, head - a.n_head, table, rotated);
}
