/* 256 values of a row into int8 codes with their scales and sums (args_linear.h draws the row), by one team, as the CPU makes
 * them (backend/cpu/ref.c, quantize_ref). A lane has eight neighbours of them: the greatest magnitude over 4 lanes (q8) or all
 * 32 (q8k), codes, and sums of 16 from pairs of lanes. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_QUANTIZE_UNIT_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_QUANTIZE_UNIT_H

#include "args_linear.h"
#include "target.h"

#include "canon.h"

enum { UNIT = 256, EACH = UNIT / TEAM };

struct eight {
    float v[EACH];
};

DEVICE eight load_eight(const float *p) {
    eight e;
    const word4 a = *(const word4 *)p, b = *(const word4 *)(p + 4);
    UNROLL for (int i = 0; i < 4; i++) {
        e.v[i] = as_float(a[i]);
        e.v[i + 4] = as_float(b[i]);
    }
    return e;
}

/* The greatest |x|, of the bits: NaN wins. Over the lanes that share a scale. */
template <uint32_t BLOCK> DEVICE float greatest(const eight &e) {
    uint32_t most = 0;
    UNROLL for (int i = 0; i < EACH; i++) most = max32(most, as_bits(e.v[i]) & 0x7fffffffu);
    UNROLL for (uint32_t mask = 1; mask < BLOCK / EACH; mask *= 2) most =
        max32(most, (uint32_t)team_xor((int32_t)most, mask));
    return as_float(most);
}

/* inv = 127 / a and the scale of a block whose greatest |x| is a; inv 0: all codes are 0. */
DEVICE float block_inverse(float a, float &scale) {
    const float inv = 127.0f / a;
    const bool finite = as_bits(a) < 0x7f800000u;
    const bool zero = a == 0.0f || !finite || as_bits(inv) >= 0x7f800000u;
    scale = zero ? (finite ? 0.0f : as_float(0x7fc00000u)) : a / 127.0f;
    return zero ? 0.0f : inv;
}

DEVICE int32_t code_of(float x, float inv) {
    const float r = (x * inv + EXP_MAGIC) - EXP_MAGIC; /* to the nearest integer, ties to even */
    return (int32_t)(r > 127.0f ? 127.0f : r < -127.0f ? -127.0f : r);
}

/* The team's unit into the row y: every lane of the team calls; lanes at `at` >= n have nothing. */
template <uint32_t BLOCK> DEVICE void put_unit(uint8_t *y, const eight &e, uint32_t at, uint32_t n) {
    float scale;
    const float inv = block_inverse(greatest<BLOCK>(e), scale);
    uint32_t word[2] = {};
    int32_t sum = 0;
    UNROLL for (int i = 0; i < EACH; i++) {
        const int32_t c = inv == 0.0f ? 0 : code_of(e.v[i], inv);
        word[i / 4] |= ((uint32_t)c & 255u) << i % 4 * 8;
        sum += c;
    }
    sum += team_xor(sum, 1);
    if (at >= n) return;
    *(word2 *)(y + at) = word2{word[0], word[1]};
    if (at % 16 == 0) *(int16_t *)(y + gpu_act_sums(n) + at / 8) = (int16_t)sum;
    if (at % BLOCK == 0) *(float *)(y + gpu_act_scales(n) + at / BLOCK * 4) = scale;
}
DEVICE void put_unit_any(uint8_t *y, const eight &e, uint32_t at, uint32_t n, uint32_t scale_block) {
    if (scale_block == 256)
        put_unit<256>(y, e, at, n);
    else
        put_unit<32>(y, e, at, n);
}

#endif
