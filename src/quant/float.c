/* F32, F16, BF16: one value a block. */
#include "quant/decode.h"

void decode_f32(float *dst, const void *src, size_t n_elems) {
    if (n_elems) memcpy(dst, src, n_elems * sizeof *dst);
}

void decode_f16(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n_elems; i++) dst[i] = load_f16(p + 2 * i);
}

void decode_bf16(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n_elems; i++) dst[i] = bf16_to_f32(load_u16(p + 2 * i));
}
