/* Writes one token's key or value into its page (kv/kv.h draws it): K lies across sixteen tokens, V in a row. q8_0 codes
 * and scales are those of quant_encode_q8_0, so that a cache read back equals the type's own decode. */
#include "backend/cpu/cpu_ops.h"

#include <assert.h>
#include <string.h>

/* Value i of the token is stored at first + i * step, in units of the type. */
static void store_values(void *codes, size_t first, size_t step, quant_type type, uint32_t d, const float *x) {
    float *f = codes;
    uint16_t *h = codes;
    if (type == QUANT_F32)
        for (uint32_t i = 0; i < d; i++) f[first + i * step] = x[i];
    else
        for (uint32_t i = 0; i < d; i++) h[first + i * step] = f32_to_f16(x[i]);
}

/* The same for q8_0: block b's scale at scale_first + b * step. */
static void store_q8_0(int8_t *codes, size_t first, uint16_t *scales, size_t scale_first, size_t step, uint32_t d,
                       const float *x) {
    for (uint32_t b = 0; b < d / 32; b++) {
        unsigned char block[34]; /* f16 scale, 32 codes */
        quant_encode_q8_0(block, x + b * 32, 32);
        memcpy(&scales[scale_first + b * step], block, 2);
        for (uint32_t i = 0; i < 32; i++) codes[first + (b * 32 + i) * step] = (int8_t)block[2 + i];
    }
}

void kv_store_k(void *codes, void *scales, quant_type type, uint32_t d, uint32_t slot, const float *x) {
    assert(type == QUANT_F32 || type == QUANT_F16 || type == QUANT_Q8_0);
    size_t first = (size_t)(slot / 16) * d * 16 + slot % 16;
    size_t scale_first = (size_t)(slot / 16) * (d / 32) * 16 + slot % 16;
    if (type == QUANT_Q8_0)
        store_q8_0(codes, first, scales, scale_first, 16, d, x);
    else
        store_values(codes, first, 16, type, d, x);
}

void kv_store_v(void *codes, void *scales, quant_type type, uint32_t d, uint32_t slot, const float *x) {
    assert(type == QUANT_F32 || type == QUANT_F16 || type == QUANT_Q8_0);
    if (type == QUANT_Q8_0)
        store_q8_0(codes, (size_t)slot * d, scales, (size_t)slot * (d / 32), 1, d, x);
    else
        store_values(codes, (size_t)slot * d, 1, type, d, x);
}
