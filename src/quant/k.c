/* The K types: super-blocks of 256 values, whose sub-blocks of 16 or 32 have small integer scales (and minima) of their
 * own, multiplied by an f16 d (and dmin) of the super-block.
 *
 *   Q2_K   84 | 16 x (scale:4, min:4) | 64 bytes of 2-bit q | d | dmin |           value = d*sc * q - dmin*m
 *   Q3_K  110 | 32 bytes of third bits | 64 bytes of 2-bit q | 12: 6-bit scales | d |   d*(sc - 32) * (q - 4)
 *   Q4_K  144 | d | dmin | 12: 6-bit scales and minima | 128 bytes of nibbles |    value = d*sc * q - dmin*m
 *   Q5_K  176 | d | dmin | 12 | 32 bytes of fifth bits | 128 bytes of nibbles |    value = d*sc * q - dmin*m
 *   Q6_K  210 | 128 bytes of nibbles | 64 bytes of upper 2 bits | 16 x int8 scale | d |  value = d*sc * (q - 32)
 *
 * 2-bit q: each half of the super-block (128 values) has 32 bytes; value 32*j + l of the half is bits 2j of byte l.
 * Nibbles of Q4_K and Q5_K: each 64 values have 32 bytes, the first 32 values the low halves, the next the high ones.
 * 11 bits of d, at most 7 of a scale and 5 of q: every product is exact in a float, only the difference rounds, once. */
#include "quant/decode.h"

/* Sub-block s of 8 in the 12 bytes of Q4_K and Q5_K. The first four scales and minima are the low six bits of bytes 0-3
 * and 4-7; the other four have their low nibbles in bytes 8-11 (scale low, minimum high) and their upper two bits in what
 * bytes 0-7 left free. */
static void scale_min(const uint8_t *p, int s, int *sc, int *m) {
    if (s < 4) {
        *sc = p[s] & 63;
        *m = p[s + 4] & 63;
        return;
    }
    *sc = (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
    *m = p[s + 4] >> 4 | p[s] >> 6 << 4;
}

/* Sub-block s of 16 in the 12 bytes of Q3_K: low nibbles in bytes 0-7 (s < 8 the low halves), upper two bits in bytes
 * 8-11. Biased by 32. */
static int scale_q3(const uint8_t *p, int s) {
    const int low = s < 8 ? p[s] & 15 : p[s - 8] >> 4;
    return (low | (p[8 + s % 4] >> s / 4 * 2 & 3) << 4) - 32;
}

/* 2-bit value i of 256. */
static int two_bits(const uint8_t *p, int i) { return p[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3; }

void decode_q2_k(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t at = 0; at < n_elems; at += QUANT_K, p += 84) {
        const float d = load_f16(p + 80), dmin = load_f16(p + 82);
        for (int s = 0; s < 16; s++) {
            const float scale = d * (float)(p[s] & 15), min = dmin * (float)(p[s] >> 4);
            for (int i = 16 * s; i < 16 * s + 16; i++) dst[at + i] = scale * (float)two_bits(p + 16, i) - min;
        }
    }
}

void decode_q3_k(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t at = 0; at < n_elems; at += QUANT_K, p += 110) {
        const float d = load_f16(p + 108);
        for (int s = 0; s < 16; s++) {
            const float scale = d * (float)scale_q3(p + 96, s);
            for (int i = 16 * s; i < 16 * s + 16; i++) {
                const int third = p[i % 32] >> i / 32 & 1; /* bit j of byte l: value 32*j + l */
                dst[at + i] = scale * (float)(two_bits(p + 32, i) - (third ? 0 : 4));
            }
        }
    }
}

void decode_q4_k(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t at = 0; at < n_elems; at += QUANT_K, p += 144) {
        const float d = load_f16(p), dmin = load_f16(p + 2);
        for (int s = 0; s < 8; s++) {
            int sc, m;
            scale_min(p + 4, s, &sc, &m);
            const float scale = d * (float)sc, min = dmin * (float)m;
            const uint8_t *q = p + 16 + s / 2 * 32;
            for (int l = 0; l < 32; l++) dst[at + 32 * s + l] = scale * (float)(q[l] >> s % 2 * 4 & 15) - min;
        }
    }
}

void decode_q5_k(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t at = 0; at < n_elems; at += QUANT_K, p += 176) {
        const float d = load_f16(p), dmin = load_f16(p + 2);
        for (int s = 0; s < 8; s++) {
            int sc, m;
            scale_min(p + 4, s, &sc, &m);
            const float scale = d * (float)sc, min = dmin * (float)m;
            const uint8_t *fifth = p + 16, *q = p + 48 + s / 2 * 32; /* bit s of fifth[l]: value 32*s + l */
            for (int l = 0; l < 32; l++) {
                const int v = (q[l] >> s % 2 * 4 & 15) | (fifth[l] >> s & 1) << 4;
                dst[at + 32 * s + l] = scale * (float)v - min;
            }
        }
    }
}

/* Each half (128 values) has 64 bytes of nibbles: values 0-63 the low halves, 64-127 the high ones. */
void decode_q6_k(float *dst, const void *src, size_t n_elems) {
    const uint8_t *p = src;
    for (size_t at = 0; at < n_elems; at += QUANT_K, p += 210) {
        const float d = load_f16(p + 208);
        for (int s = 0; s < 16; s++) {
            const float scale = d * (float)(int8_t)p[192 + s];
            for (int i = 16 * s; i < 16 * s + 16; i++) {
                const int low = p[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
                dst[at + i] = scale * (float)((low | two_bits(p + 128, i) << 4) - 32);
            }
        }
    }
}
