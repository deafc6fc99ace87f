/* Tensor types: what a block of each looks like, and the plain C that decodes it. This is the truth that every kernel of
 * every backend is tested against; decode is bit-exact with llama.cpp's. Formats: facts of the ggml project's
 * ggml-common.h. A type that is known by id but not built in has decode NULL: quant_info still names and sizes it.
 * Pure functions, any thread. */
#ifndef ROCMFORGE_QUANT_QUANT_H
#define ROCMFORGE_QUANT_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { /* ids as stored in GGUF */
               QUANT_F32 = 0,
               QUANT_F16 = 1,
               QUANT_Q4_0 = 2,
               QUANT_Q4_1 = 3,
               QUANT_Q5_0 = 6,
               QUANT_Q5_1 = 7,
               QUANT_Q8_0 = 8,
               QUANT_Q8_1 = 9,
               QUANT_Q2_K = 10,
               QUANT_Q3_K = 11,
               QUANT_Q4_K = 12,
               QUANT_Q5_K = 13,
               QUANT_Q6_K = 14,
               QUANT_Q8_K = 15,
               QUANT_IQ2_XXS = 16,
               QUANT_IQ2_XS = 17,
               QUANT_IQ3_XXS = 18,
               QUANT_IQ1_S = 19,
               QUANT_IQ4_NL = 20,
               QUANT_IQ3_S = 21,
               QUANT_IQ2_S = 22,
               QUANT_IQ4_XS = 23,
               QUANT_I8 = 24,
               QUANT_I16 = 25,
               QUANT_I32 = 26,
               QUANT_I64 = 27,
               QUANT_F64 = 28,
               QUANT_IQ1_M = 29,
               QUANT_BF16 = 30,
               QUANT_TQ1_0 = 34,
               QUANT_TQ2_0 = 35,
               QUANT_MXFP4 = 39,
               QUANT_NVFP4 = 40,
               QUANT_Q1_0 = 41,
               QUANT_Q2_0 = 42,
               QUANT_COUNT = 43
} quant_type;

typedef struct {
    const char *name;     /* "Q4_K" */
    uint32_t block_elems; /* 1, 32, 256, ... */
    uint32_t block_bytes;
    void (*decode)(float *dst, const void *src,
                   size_t n_elems); /* n_elems a multiple of block_elems; NULL: not built in */
} quant_info;

const quant_info *quant_lookup(uint32_t type);           /* NULL: no such type (unknown or removed id) */
bool quant_from_name(const char *name, quant_type *out); /* "q8_0", any case */

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even, as F16C does; NaN stays NaN */
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f); /* round to nearest even; NaN stays NaN */

/* Q8_0 as a KV cache stores it: 32 values, f16 scale = amax / 127, codes rounded half away from zero as ggml's. Used by
 * the cache and by tests. dst: n_elems / 32 blocks of 34 bytes. */
void quant_encode_q8_0(void *dst, const float *src, size_t n_elems);

/* Q4_0 likewise: d = m / -8 for the value m of greatest magnitude (the first of equals), codes floor(x / d + 8.5) kept within
 * 0 .. 15, the product and the sum exact. dst: n_elems / 32 blocks of 18 bytes. */
void quant_encode_q4_0(void *dst, const float *src, size_t n_elems);

#endif
