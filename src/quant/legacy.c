/* The first generation of block types: 32 values with one scale d, and for Q4_1 and Q5_1 a minimum m, all f16.
 *
 *   Q4_0  | d | 16 bytes of nibbles |                    value = (q - 8) * d
 *   Q4_1  | d | m | 16 bytes of nibbles |                value = q * d + m
 *   Q5_0  | d | 32 fifth bits | 16 bytes of nibbles |    value = (q - 16) * d
 *   Q5_1  | d | m | 32 fifth bits | 16 bytes |           value = q * d + m
 *   Q8_0  | d | 32 signed bytes |                        value = q * d
 *
 * Byte i of the nibbles holds value i in its low half and value i + 16 in its high half; bit i of the fifth bits belongs
 * to value i. An f16 has 11 bits and q at most 7, so every product is exact: only adding m rounds, fused or not. */
#include "quant/decode.h"

#include <math.h>

enum { BLOCK = 32, HALF = BLOCK / 2 };

static void nibbles(int q[BLOCK], const uint8_t *p) {
    for (int i = 0; i < HALF; i++) {
        q[i] = p[i] & 15;
        q[i + HALF] = p[i] >> 4;
    }
}

static void fifth_bits(int q[BLOCK], const uint8_t *p) {
    for (int i = 0; i < BLOCK; i++) q[i] |= (p[i / 8] >> i % 8 & 1) << 4;
}

static void scale(float *dst, const int q[BLOCK], int zero, float d) {
    for (int i = 0; i < BLOCK; i++) dst[i] = (float)(q[i] - zero) * d;
}

static void scale_min(float *dst, const int q[BLOCK], float d, float m) {
    for (int i = 0; i < BLOCK; i++) dst[i] = (float)q[i] * d + m;
}

void decode_q4_0(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    int q[BLOCK];
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 18) {
        nibbles(q, p + 2);
        scale(dst + at, q, 8, load_f16(p));
    }
}

void decode_q4_1(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    int q[BLOCK];
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 20) {
        nibbles(q, p + 4);
        scale_min(dst + at, q, load_f16(p), load_f16(p + 2));
    }
}

void decode_q5_0(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    int q[BLOCK];
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 22) {
        nibbles(q, p + 6);
        fifth_bits(q, p + 2);
        scale(dst + at, q, 16, load_f16(p));
    }
}

void decode_q5_1(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    int q[BLOCK];
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 24) {
        nibbles(q, p + 8);
        fifth_bits(q, p + 4);
        scale_min(dst + at, q, load_f16(p), load_f16(p + 2));
    }
}

void decode_q8_0(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 34) {
        const float d = load_f16(p);
        for (int i = 0; i < BLOCK; i++) dst[at + i] = (float)(int8_t)p[2 + i] * d;
    }
}

/* Largest magnitude; NaN if any value is NaN (a plain maximum would lose it). */
static float amax_of(const float *x) {
    float amax = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        const float a = fabsf(x[i]);
        if (isnan(a)) return a;
        if (a > amax) amax = a;
    }
    return amax;
}

/* What is not finite must not turn into a number: such a block gets a NaN scale, so all of it reads back as NaN. A block
 * so small that 1 / d overflows reads back as zeros (d itself is zero in f16). */
static void encode_block(uint8_t *p, const float *x) {
    const float amax = amax_of(x), d = amax / 127.0f;
    const bool finite = isfinite(amax);
    float inverse = finite && d != 0.0f ? 1.0f / d : 0.0f;
    if (!isfinite(inverse)) inverse = 0.0f;
    const uint16_t h = finite ? f32_to_f16(d) : 0x7E00;
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    for (int i = 0; i < BLOCK; i++) p[2 + i] = finite ? (uint8_t)(int8_t)roundf(x[i] * inverse) : 0;
}

/* floor(x * inverse + 8.5) within 0 .. 15: the fma's sign is exact, so it tells when its rounding went over an integer. */
static uint8_t code_q4_0(float x, float inverse) {
    const int q = (int)fmaf(x, inverse, 8.5f);
    const int exact = fmaf(x, inverse, 8.5f - (float)q) < 0.0f ? q - 1 : q;
    return (uint8_t)(exact < 15 ? exact : 15);
}

static void encode_block_q4_0(uint8_t *p, const float *x) {
    const bool finite = isfinite(amax_of(x));
    float most = 0.0f;
    for (int i = 0; i < BLOCK; i++) most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    const float d = most / -8.0f;
    float inverse = finite && d != 0.0f ? 1.0f / d : 0.0f;
    if (!isfinite(inverse)) inverse = 0.0f;
    const uint16_t h = finite ? f32_to_f16(d) : 0x7E00;
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    for (int i = 0; i < BLOCK / 2; i++) {
        const uint8_t lo = finite ? code_q4_0(x[i], inverse) : 8, hi = finite ? code_q4_0(x[i + 16], inverse) : 8;
        p[2 + i] = (uint8_t)(lo | hi << 4);
    }
}

void quant_encode_q4_0(void *dst, const float *src, size_t n_elems) {
    uint8_t *p = dst;
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 18) encode_block_q4_0(p, src + at);
}

void quant_encode_q8_0(void *dst, const float *src, size_t n_elems) {
    uint8_t *p = dst;
    for (size_t at = 0; at < n_elems; at += BLOCK, p += 34) encode_block(p, src + at);
}
