/* The definition of quantised linear, on the file's own rows. For one output, over the blocks in ascending k, from +0:
 *
 *   blocks of 32     acc = fma(d * dx, (float)isum, acc)           isum = sum (q - zero) * code
 *     with minimum   acc = fma(m, dx * (float)asum, acc)           asum = sum code           after the line above
 *   super-blocks     acc = fma(d * dx, (float)isum, acc)           isum = sum_s sc[s] * sum (q - zero) * code
 *     with minimum   acc = fma(-(dmin * dx), (float)msum, acc)     msum = sum_s mn[s] * sum code
 *
 * dx is the activations' scale. The parenthesised products are rounded to f32, sums are exact integers (isum of Q6_K, up to
 * 1.4e8, is rounded to nearest even by its conversion). dx * asum belongs to the column alone, so kernels make it once for
 * all rows. Sums of codes are made from the codes here; the kernels take the stored ones. */
#include "backend/cpu/codes.h"
#include "backend/cpu/cpu_ops.h"

#include <math.h>

static int32_t dot_codes(const uint8_t *q, int zero, const int8_t *code, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += (q[i] - zero) * code[i];
    return sum;
}

static int32_t sum_codes(const int8_t *code, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += code[i];
    return sum;
}

/* Codes of 32 values, block `at` of column `col`. */
static const int8_t *code_at(const cpu_act *x, uint32_t at, uint32_t col) {
    return x->code + ((size_t)at * x->n_tok + col) * CODE_BLOCK;
}

static float add_block_32(float acc, const code_form *f, const code_block *b, const cpu_act *x, uint32_t at,
                          uint32_t col) {
    const int8_t *code = code_at(x, at, col);
    const float dx = x->scale[(size_t)at * x->n_tok + col];
    acc = fmaf(f16_to_f32(b->d) * dx, (float)dot_codes(b->q, f->zero, code, CODE_BLOCK), acc);
    if (f->has_min) acc = fmaf(f16_to_f32(b->m), dx * (float)sum_codes(code, CODE_BLOCK), acc);
    return acc;
}

static float add_super_block(float acc, const code_form *f, const code_block *b, const cpu_act *x, uint32_t at,
                             uint32_t col) {
    const int n = CODE_SUPER / f->n_sub;
    const float dx = x->scale[(size_t)at * x->n_tok + col];
    int32_t isum = 0, msum = 0;
    for (int s = 0; s < f->n_sub; s++) {
        const int8_t *code = code_at(x, at * 8 + (uint32_t)(s * n) / 32, col) + s * n % 32;
        isum += b->sc[s] * dot_codes(b->q + s * n, f->zero, code, n);
        if (f->has_min) msum += b->mn[s] * sum_codes(code, n);
    }
    acc = fmaf(f16_to_f32(b->d) * dx, (float)isum, acc);
    if (f->has_min) acc = fmaf(-(f16_to_f32(b->m) * dx), (float)msum, acc);
    return acc;
}

void linear_rows_ref(float *acc, const void *rows, size_t row_stride, uint32_t n_rows, quant_type type, uint32_t k,
                     const cpu_act *x, uint32_t col0, uint32_t n_col) {
    const code_form *f = code_form_of(type);
    const uint32_t n_block = k / code_block_elems(f);
    for (uint32_t r = 0; r < n_rows; r++) {
        const uint8_t *src = (const uint8_t *)rows + r * row_stride;
        for (uint32_t c = 0; c < n_col; c++) acc[c * PANEL_ROWS + r] = 0.0f;
        for (uint32_t at = 0; at < n_block; at++, src += f->bytes) {
            code_block b;
            f->read(&b, src);
            for (uint32_t c = 0; c < n_col; c++) {
                float *a = &acc[c * PANEL_ROWS + r];
                *a = (f->n_sub ? add_super_block : add_block_32)(*a, f, &b, x, at, col0 + c);
            }
        }
    }
}
