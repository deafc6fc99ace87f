/* Half precision (IEEE 754 binary16) and bfloat16 <-> float, by integer arithmetic: the same bits on every machine. */
#include "quant/quant.h"

#include <string.h>

static float from_bits(uint32_t b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

static uint32_t to_bits(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

enum { EXP_SHIFT = (127 - 15) << 23 }; /* difference of the exponent biases, in place */

float f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7FFF;
    if (mag >= 0x7C00) { /* infinity; a signalling NaN becomes quiet, as F16C does */
        const uint32_t quiet = mag > 0x7C00 ? 0x400000 : 0;
        return from_bits(sign | 0x7F800000 | quiet | (mag & 0x3FF) << 13);
    }
    if (mag >= 0x400) return from_bits(sign | ((mag << 13) + EXP_SHIFT));
    return from_bits(sign | to_bits((float)mag * 0x1p-24f)); /* denormal: mag units of 2^-24, exact in float */
}

uint16_t f32_to_f16(float f) {
    const uint32_t bits = to_bits(f), mag = bits & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (mag > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (mag >> 13 & 0x1FF));
    if (mag >= 0x477FF000) return sign | 0x7C00; /* 65520 and above round to infinity */
    if (mag < 0x38800000)                        /* below 2^-14: next to 0.5 a float counts in units of 2^-24 */
        return (uint16_t)(sign | (to_bits(from_bits(mag) + 0.5f) - to_bits(0.5f)));
    const uint32_t even = mag >> 13 & 1;
    return (uint16_t)(sign | (mag - EXP_SHIFT + 0xFFF + even) >> 13);
}

float bf16_to_f32(uint16_t h) { return from_bits((uint32_t)h << 16); }

uint16_t f32_to_bf16(float f) {
    const uint32_t bits = to_bits(f);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 64); /* quiet */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
