/* The reference of float linear: each output is sixteen partial sums (k mod 16), each one ascending fma chain, and the
 * tree. Weights are widened to f32 exactly before they are multiplied. */
#include "backend/cpu/ref.h"

#include "backend/cpu/canon.h"

#include <assert.h>

static float weight_at(const unsigned char *row, quant_type type, size_t i) {
    uint16_t h;
    float f;
    if (type == QUANT_F32) {
        memcpy(&f, row + i * sizeof f, sizeof f);
        return f;
    }
    memcpy(&h, row + i * sizeof h, sizeof h);
    return type == QUANT_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}

void linear_float_ref(float *y, size_t y_stride, const void *w, quant_type type, size_t w_stride, uint32_t n_rows,
                      const float *x, size_t x_stride, uint32_t n_col, size_t k) {
    assert(type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16);
    for (uint32_t r = 0; r < n_rows; r++) {
        const unsigned char *row = (const unsigned char *)w + r * w_stride;
        for (uint32_t c = 0; c < n_col; c++) {
            float part[16] = {0};
            for (size_t i = 0; i < k; i++)
                part[i % 16] = fmaf(weight_at(row, type, i), x[c * x_stride + i], part[i % 16]);
            y[c * y_stride + r] = canon_sum16(part);
        }
    }
}
