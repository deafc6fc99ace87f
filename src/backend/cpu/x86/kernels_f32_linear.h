/* Float linear over sixteen lanes: tiles of LINEAR_ROWS rows x LINEAR_COLS columns stay in registers over the whole of k,
 * each output in sixteen partial sums, folded by the tree at the end. Included by kernels_f32.h.
 *
 * Rows are taken in blocks that stay in the L2 cache while all columns pass by, so each weight is moved once; with one column
 * it is a stream over the weights. */
#ifndef ROCMFORGE_BACKEND_CPU_X86_KERNELS_F32_LINEAR_H
#define ROCMFORGE_BACKEND_CPU_X86_KERNELS_F32_LINEAR_H

#include "backend/cpu/cpu_ops.h"

enum { LINEAR_BLOCK_BYTES = 256 * 1024, LINEAR_TILE_MAX = 16 /* accumulators of a tile */ };

typedef struct {
    float *y;
    size_t y_stride;
    const unsigned char *w;
    size_t w_stride;
    const float *x;
    size_t x_stride, k;
} linear_job;

INLINE lanes load_weights(const unsigned char *w, quant_type type, size_t i) {
    if (type == QUANT_F32) return lanes_load((const float *)(const void *)(w + i * 4));
    return type == QUANT_F16 ? lanes_load_f16(w + i * 2) : lanes_load_bf16(w + i * 2);
}

/* The last n < 16 weights of a row, the other lanes 0. */
INLINE lanes load_weights_part(const unsigned char *w, quant_type type, size_t i, size_t n) {
    unsigned char last[64] = {0};
    size_t size = type == QUANT_F32 ? 4 : 2;
    memcpy(last, w + i * size, n * size);
    return load_weights(last, type, 0);
}

/* Rows row .. row + n_r, columns col .. col + n_c; n_r, n_c and type are constants where this is called. */
INLINE void linear_tile(const linear_job *j, quant_type type, size_t row, size_t col, int n_r, int n_c) {
    const unsigned char *w = j->w + row * j->w_stride;
    const float *x = j->x + col * j->x_stride;
    lanes acc[LINEAR_TILE_MAX], wv[4];
    for (int t = 0; t < n_r * n_c; t++) acc[t] = lanes_zero();
    size_t i = 0;
    for (; i + 16 <= j->k; i += 16) {
        for (int r = 0; r < n_r; r++) wv[r] = load_weights(w + r * j->w_stride, type, i);
        for (int c = 0; c < n_c; c++) {
            lanes xv = lanes_load(x + c * j->x_stride + i);
            for (int r = 0; r < n_r; r++) acc[c * n_r + r] = lanes_fma(wv[r], xv, acc[c * n_r + r]);
        }
    }
    for (int t = 0; i < j->k && t < n_r * n_c; t++) {
        lanes wr = load_weights_part(w + t % n_r * j->w_stride, type, i, j->k - i);
        lanes xv = lanes_load_part(x + t / n_r * j->x_stride + i, j->k - i);
        acc[t] = lanes_fma_part(wr, xv, acc[t], j->k - i);
    }
    float *y = j->y + col * j->y_stride + row, sums[LINEAR_TILE_MAX];
    if (n_r * n_c % 4 == 0)
        for (int t = 0; t < n_r * n_c; t += 4) _mm_storeu_ps(sums + t, lanes_sum4(acc + t));
    else
        for (int t = 0; t < n_r * n_c; t++) sums[t] = lanes_sum(acc[t]);
    for (int t = 0; t < n_r * n_c; t++) y[t / n_r * j->y_stride + t % n_r] = sums[t];
}

/* Rows row .. end against n_c columns, n_r rows at a time. */
INLINE void linear_columns(const linear_job *j, quant_type type, size_t row, size_t end, size_t col, int n_r, int n_c) {
    for (; row + (size_t)n_r <= end; row += (size_t)n_r) linear_tile(j, type, row, col, n_r, n_c);
    for (; row < end; row++) linear_tile(j, type, row, col, 1, n_c);
}

INLINE void linear_typed(const linear_job *j, quant_type type, size_t n_rows, size_t n_col) {
    size_t step = LINEAR_BLOCK_BYTES / (j->w_stride ? j->w_stride : 1) / 4 * 4;
    step = step < 4 ? 4 : step;
    for (size_t row = 0; row < n_rows; row += step) {
        size_t end = n_rows - row < step ? n_rows : row + step, col = 0;
        for (; col + LINEAR_COLS <= n_col; col += LINEAR_COLS)
            linear_columns(j, type, row, end, col, LINEAR_ROWS, LINEAR_COLS);
        for (; col < n_col; col++) linear_columns(j, type, row, end, col, 4, 1); /* four streams of weights */
    }
}

static void linear_float_lanes(float *y, size_t y_stride, const void *w, quant_type type, size_t w_stride,
                               uint32_t n_rows, const float *x, size_t x_stride, uint32_t n_col, size_t k) {
    const linear_job j = {y, y_stride, w, w_stride, x, x_stride, k};
    if (type == QUANT_F32)
        linear_typed(&j, QUANT_F32, n_rows, n_col);
    else if (type == QUANT_F16)
        linear_typed(&j, QUANT_F16, n_rows, n_col);
    else
        linear_typed(&j, QUANT_BF16, n_rows, n_col);
}

#endif
