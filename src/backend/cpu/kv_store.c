/* Writes one token's key or value into its page (kv/kv.h draws it): K lies across sixteen tokens, V in a row. Codes and
 * scales of q8_0 and q4_0 are those of quant_encode_*, so that a cache read back equals the type's own decode. */
#include "backend/cpu/cpu_ops.h"

#include <string.h>

/* Value i of the token is stored at first + i * step, in units of the type. */
static void store_values(void *codes, size_t first, size_t step, quant_type type, uint32_t d, const float *x) {
    float *f = codes;
    uint16_t *h = codes;
    if (type == QUANT_F32)
        for (uint32_t i = 0; i < d; i++) f[first + i * step] = x[i];
    else
        for (uint32_t i = 0; i < d; i++) h[first + i * step] = type == QUANT_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
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

/* And for q4_0: dimensions 2i and 2i + 1 share byte first + i * step. */
static void store_q4_0(uint8_t *codes, size_t first, uint16_t *scales, size_t scale_first, size_t step, uint32_t d,
                       const float *x) {
    for (uint32_t b = 0; b < d / 32; b++) {
        unsigned char block[18]; /* f16 scale; byte j: values j and j + 16 */
        quant_encode_q4_0(block, x + b * 32, 32);
        memcpy(&scales[scale_first + b * step], block, 2);
        for (uint32_t i = 0; i < 16; i++) {
            const unsigned char *two = block + 2 + i * 2 % 16;
            unsigned shift = i < 8 ? 0 : 4;
            codes[first + (b * 16 + i) * step] = (uint8_t)((two[0] >> shift & 15) | (two[1] >> shift & 15) << 4);
        }
    }
}

void kv_store_k(void *codes, void *scales, quant_type type, uint32_t d, uint32_t slot, const float *x) {
    size_t first = (size_t)(slot / 16) * d * 16 + slot % 16;
    size_t scale_first = (size_t)(slot / 16) * (d / 32) * 16 + slot % 16;
    if (type == QUANT_Q8_0)
        store_q8_0(codes, first, scales, scale_first, 16, d, x);
    else if (type == QUANT_Q4_0)
        store_q4_0(codes, (size_t)(slot / 16) * (d / 2) * 16 + slot % 16, scales, scale_first, 16, d, x);
    else
        store_values(codes, first, 16, type, d, x);
}

void kv_store_v(void *codes, void *scales, quant_type type, uint32_t d, uint32_t slot, const float *x) {
    if (type == QUANT_Q8_0)
        store_q8_0(codes, (size_t)slot * d, scales, (size_t)slot * (d / 32), 1, d, x);
    else if (type == QUANT_Q4_0)
        store_q4_0(codes, (size_t)slot * (d / 2), scales, (size_t)slot * (d / 32), 1, d, x);
    else
        store_values(codes, (size_t)slot * d, 1, type, d, x);
}
