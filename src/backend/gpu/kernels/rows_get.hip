/* Rows of a weight by id, decoded from its planes (args_linear.h draws them) to f32: the operations of src/quant in their
 * order, so the bits are quant decode's. A thread takes a value; a step reads one row a token, so bytes do not count here. */
#include "backend/gpu/kernels/args_rows.h"
#include "backend/gpu/kernels/target.h"
#include "quant/quant.h"

/* The planes of one row. */
struct weight_row {
    const uint8_t *low, *high, *sub, *scale;
};

DEVICE weight_row weight_row_of(const gpu_weight &w, uint32_t r) {
    return {w.plane[0] + (uint64_t)w.stride[0] * r, w.plane[1] + (uint64_t)w.stride[1] * r,
            w.plane[2] + (uint64_t)w.stride[2] * r, w.plane[3] + (uint64_t)w.stride[3] * r};
}

DEVICE uint32_t word_at(const uint8_t *p, uint32_t i) { return ((const uint32_t *)p)[i]; }
DEVICE float half_at(const uint8_t *p, uint32_t i) { return from_f16(((const uint16_t *)p)[i]); }

/* Codes of value i of the row. */
DEVICE uint32_t nibble(const uint8_t *p, uint32_t i) {
    return word_at(p, i / 32 * 4 + i % 16 / 4) >> (i % 4 * 8 + i % 32 / 16 * 4) & 15u;
}
DEVICE uint32_t two_bits(const uint8_t *p, uint32_t i) {
    return word_at(p, i / 16) >> (i % 4 * 8 + i % 16 / 4 * 2) & 3u;
}
DEVICE uint32_t one_bit(const uint8_t *p, uint32_t i) { return word_at(p, i / 32) >> (i % 4 * 8 + i % 32 / 4) & 1u; }

/* Blocks of 32: (q - zero) * d, or q * d + m. */
DEVICE float with_scale(int32_t q, const uint8_t *scale, uint32_t i) { return (float)q * half_at(scale, i / 32); }
DEVICE float with_scale_min(uint32_t q, const uint8_t *scale, uint32_t i) {
    return (float)q * half_at(scale, i / 32 * 2) + half_at(scale, i / 32 * 2 + 1);
}

/* Super-blocks: d * sc * q, the scale of value i; or that less dmin * mn. */
DEVICE float with_sub(int32_t q, const weight_row &w, uint32_t i) {
    const float scale = half_at(w.scale, i / 256) * (float)(int8_t)w.sub[i / 16];
    return scale * (float)q;
}
DEVICE float with_sub_min(uint32_t q, uint32_t sc, uint32_t mn, const uint8_t *scale, uint32_t i) {
    const float d = half_at(scale, i / 256 * 2) * (float)sc, min = half_at(scale, i / 256 * 2 + 1) * (float)mn;
    return d * (float)q - min;
}
DEVICE float with_sub_32(uint32_t q, const weight_row &w, uint32_t i) { /* 16 bytes: sc[8] mn[8] */
    const uint8_t *sub = w.sub + i / 256 * 16 + i % 256 / 32;
    return with_sub_min(q, sub[0], sub[8], w.scale, i);
}
DEVICE float with_sub_16(uint32_t q, const weight_row &w, uint32_t i) { /* 16 bytes: sc | mn << 4 */
    return with_sub_min(q, w.sub[i / 16] & 15u, w.sub[i / 16] >> 4, w.scale, i);
}

DEVICE float decode(uint32_t type, const weight_row &w, uint32_t i) {
    switch (type) {
    case QUANT_F32: return ((const float *)w.low)[i];
    case QUANT_F16: return half_at(w.low, i);
    case QUANT_BF16: return from_bf16(((const uint16_t *)w.low)[i]);
    case QUANT_Q4_0: return with_scale((int32_t)nibble(w.low, i) - 8, w.scale, i);
    case QUANT_Q4_1: return with_scale_min(nibble(w.low, i), w.scale, i);
    case QUANT_Q5_0: return with_scale((int32_t)(nibble(w.low, i) | one_bit(w.high, i) << 4) - 16, w.scale, i);
    case QUANT_Q5_1: return with_scale_min(nibble(w.low, i) | one_bit(w.high, i) << 4, w.scale, i);
    case QUANT_Q8_0: return with_scale((int8_t)w.low[i], w.scale, i);
    case QUANT_Q2_K: return with_sub_16(two_bits(w.low, i), w, i);
    case QUANT_Q3_K: return with_sub((int32_t)(two_bits(w.low, i) | one_bit(w.high, i) << 2) - 4, w, i);
    case QUANT_Q4_K: return with_sub_32(nibble(w.low, i), w, i);
    case QUANT_Q5_K: return with_sub_32(nibble(w.low, i) | one_bit(w.high, i) << 4, w, i);
    case QUANT_Q6_K: return with_sub((int32_t)(nibble(w.low, i) | two_bits(w.high, i) << 4) - 32, w, i);
    default: return __builtin_nanf("");
    }
}

KERNEL(rows_get, rows_get_args, ROWS_BLOCK) {
    const uint32_t r = block_y();
    const uint32_t id = (uint32_t) * (const int32_t *)((const uint8_t *)a.id + (uint64_t)a.id_stride * r);
    const weight_row w = weight_row_of(a.w, min32(id, a.w.n_rows - 1));
    float *y = (float *)((uint8_t *)a.y + (uint64_t)a.y_stride * r);
    for (uint32_t j = 0; j < ROWS_TILE / ROWS_BLOCK; j++) {
        const uint32_t i = block_x() * ROWS_TILE + j * ROWS_BLOCK + thread_x();
        if (i < a.k) y[i] = id < a.w.n_rows ? decode(a.type, w, i) : __builtin_nanf("");
    }
}
