/* The decoders behind the table in quant.c, one file per family. Private to this room. All of them: dst holds n_elems
 * floats, src the blocks (no alignment needed), n_elems is a multiple of the block. Every byte pattern is allowed: a NaN
 * or infinite scale gives NaN or infinite weights, nothing else. */
#ifndef ROCMFORGE_QUANT_DECODE_H
#define ROCMFORGE_QUANT_DECODE_H

#include "quant/quant.h"

#include <string.h>

enum { QUANT_K = 256 }; /* elements in a super-block of the K types */

static inline uint16_t load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
} /* little endian, as stored */
static inline float load_f16(const uint8_t *p) { return f16_to_f32(load_u16(p)); }

/* float.c: one value a block */
void decode_f32(float *dst, const void *src, size_t n_elems);
void decode_f16(float *dst, const void *src, size_t n_elems);
void decode_bf16(float *dst, const void *src, size_t n_elems);

/* legacy.c: 32 values a block, a scale and for *_1 a minimum */
void decode_q4_0(float *dst, const void *src, size_t n_elems);
void decode_q4_1(float *dst, const void *src, size_t n_elems);
void decode_q5_0(float *dst, const void *src, size_t n_elems);
void decode_q5_1(float *dst, const void *src, size_t n_elems);
void decode_q8_0(float *dst, const void *src, size_t n_elems);

/* k.c: 256 values a block, with quantised scales of sub-blocks of 16 or 32 */
void decode_q2_k(float *dst, const void *src, size_t n_elems);
void decode_q3_k(float *dst, const void *src, size_t n_elems);
void decode_q4_k(float *dst, const void *src, size_t n_elems);
void decode_q5_k(float *dst, const void *src, size_t n_elems);
void decode_q6_k(float *dst, const void *src, size_t n_elems);

#endif
