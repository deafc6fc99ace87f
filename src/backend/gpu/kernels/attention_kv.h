/* Reading the cache in kernels: where a group of sixteen keys lies, and eight stored values as floats. Included by the
 * attention kernels only. The layout is kv/kv.h's; what a stored value means, ref_attention.c's stored_at. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ATTENTION_KV_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ATTENTION_KV_H

#include "backend/gpu/kernels/args_attention.h"
#include "backend/gpu/kernels/canon.h"
#include "backend/gpu/kernels/target.h"

enum { KV_GROUP = 16, KV_SCALED = 32 }; /* keys that stand side by side; values that share a scale */

DEVICE uint32_t page_shift(const gpu_kv &kv) { return kv.page_tokens == 64 ? 6 : kv.page_tokens == 32 ? 5 : 4; }

/* A position's page, at its kv head; *slot: the position in the page. */
DEVICE uint8_t *kv_page(const gpu_kv &kv, uint32_t first_page, uint32_t head, uint32_t pos, uint32_t *slot) {
    const uint32_t shift = page_shift(kv);
    *slot = pos & (kv.page_tokens - 1);
    return kv.layer + (uint64_t)kv.page[first_page + (pos >> shift)] * kv.page_bytes + (uint64_t)head * kv.head_bytes;
}

/* Bytes of n codes; n even. */
template <int TYPE> DEVICE uint32_t code_bytes(uint32_t n) {
    return TYPE == KV_F32 ? n * 4 : TYPE == KV_Q8_0 ? n : TYPE == KV_Q4_0 ? n / 2 : n * 2;
}
template <int TYPE> DEVICE constexpr bool has_scales() { return TYPE == KV_Q8_0 || TYPE == KV_Q4_0; }

/* Eight stored values as they come, to be loaded long before they are used. */
template <int TYPE> struct raw8 { word4 w; };
template <> struct raw8<KV_F32> { word4 w, w2; };
template <> struct raw8<KV_Q8_0> { word2 w; };
template <> struct raw8<KV_Q4_0> { uint32_t w; };

template <int TYPE> DEVICE raw8<TYPE> load8(const uint8_t *p) {
    raw8<TYPE> r;
    if constexpr (TYPE == KV_F32) {
        r.w = *(const word4 *)p;
        r.w2 = *(const word4 *)(p + 16);
    } else if constexpr (TYPE == KV_Q8_0)
        r.w = *(const word2 *)p;
    else if constexpr (TYPE == KV_Q4_0)
        r.w = *(const uint32_t *)p;
    else
        r.w = *(const word4 *)p;
    return r;
}

DEVICE float low_f16(uint32_t w) { return from_f16((uint16_t)w); }
DEVICE float high_f16(uint32_t w) { return from_f16((uint16_t)(w >> 16)); }

/* The values, but for the factor of their scales. */
template <int TYPE> DEVICE void unpack8(float v[8], const raw8<TYPE> &r) {
    if constexpr (TYPE == KV_F32) {
        UNROLL
        for (int i = 0; i < 4; i++) v[i] = as_float(r.w[i]), v[4 + i] = as_float(r.w2[i]);
    } else if constexpr (TYPE == KV_F16) {
        UNROLL
        for (int i = 0; i < 4; i++) v[2 * i] = low_f16(r.w[i]), v[2 * i + 1] = high_f16(r.w[i]);
    } else if constexpr (TYPE == KV_BF16) {
        UNROLL
        for (int i = 0; i < 4; i++) v[2 * i] = as_float(r.w[i] << 16), v[2 * i + 1] = as_float(r.w[i] & 0xffff0000u);
    } else if constexpr (TYPE == KV_Q8_0) {
        UNROLL
        for (int i = 0; i < 8; i++) v[i] = (float)(int8_t)(r.w[i / 4] >> (i % 4 * 8));
    } else {
        UNROLL
        for (int i = 0; i < 8; i++) v[i] = (float)((int)(r.w >> (i * 4) & 15u) - 8);
    }
}

/* Eight neighbouring f16 scales. */
DEVICE void load_scales8(float v[8], const uint8_t *p) {
    const word4 w = *(const word4 *)p;
    UNROLL
    for (int i = 0; i < 4; i++) v[2 * i] = low_f16(w[i]), v[2 * i + 1] = high_f16(w[i]);
}

/* One value, slowly: number i of codes whose scale is number s. */
DEVICE float stored_at(uint32_t type, const uint8_t *codes, const uint8_t *scales, uint32_t i, uint32_t s) {
    if (type == KV_F32) return ((const float *)codes)[i];
    if (type == KV_F16) return from_f16(((const uint16_t *)codes)[i]);
    if (type == KV_BF16) return from_bf16(((const uint16_t *)codes)[i]);
    const float scale = from_f16(((const uint16_t *)scales)[s]);
    if (type == KV_Q8_0) return (float)((const int8_t *)codes)[i] * scale;
    return (float)((int)(codes[i / 2] >> (i % 2 * 4) & 15) - 8) * scale;
}

DEVICE uint32_t first_seen(uint32_t window, uint32_t pos) { return window && pos >= window ? pos - window + 1 : 0; }

/* score = dot * scale, then the softcap */
DEVICE float score_of(float dot, float scale, float softcap) {
    const float s = dot * scale;
    return softcap > 0.0f ? canon_softcap(s, softcap) : s;
}

/* The maximum over sixteen lanes in canon_max16's order, in every lane (which of two equal zeros, does not matter). */
DEVICE float half_team_max(float v) {
    v = canon_max(v, team_xor_f(v, 8));
    v = canon_max(v, team_xor_f(v, 4));
    v = canon_max(v, team_xor_f(v, 2));
    return canon_max(v, team_xor_f(v, 1));
}

#endif
