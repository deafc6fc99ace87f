/* Which tile of which weight a block of the matrix kernels makes, and where its columns' inputs and results lie. S: the
 * tile's ROWS and COLS. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_MAT_PLACE_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_MAT_PLACE_H

#include "backend/gpu/kernels/args_linear_mat.h"
#include "target.h"

struct mat_place {
    gpu_weight w;
    const uint8_t *x;
    const uint32_t *pick; /* of column 0; 0: column c is row c */
    uint32_t row0, col0, n_cols, k, width;
};

/* Row tile `at` of all parts; false: there is none. */
template <class S> DEVICE bool mat_find_rows(mat_place &p, const linear_args &a, uint32_t at) {
    for (uint32_t i = 0; i < a.n_parts; i++) {
        const uint32_t n = (a.part[i].n_rows + S::ROWS - 1) / S::ROWS;
        if (at < n) {
            p.w = a.part[i];
            p.row0 = at * S::ROWS;
            return true;
        }
        at -= n;
    }
    return false;
}

/* Tile `at` of the columns of all experts; false: there is none. */
template <class S> DEVICE bool mat_find_expert(mat_place &p, const linear_mat_args &a, uint32_t at) {
    uint32_t from = a.first[0];
    for (uint32_t e = 0; e < a.n_expert; e++) {
        const uint32_t to = a.first[e + 1], n = (to - from + S::COLS - 1) / S::COLS;
        if (at < n) {
            UNROLL for (int i = 0; i < LINEAR_PLANES; i++) p.w.plane[i] += (uint64_t)e * p.w.n_rows * p.w.stride[i];
            p.pick = a.pick + from;
            p.col0 = at * S::COLS;
            p.n_cols = to - from;
            return true;
        }
        at -= n;
        from = to;
    }
    return false;
}

template <class S> DEVICE bool mat_find(mat_place &p, const linear_mat_args &a) {
    if (!mat_find_rows<S>(p, a.lin, block_y())) return false;
    p.x = a.lin.x;
    p.k = a.lin.k;
    p.width = a.per_slot ? a.n_used * a.lin.k : a.lin.k;
    p.pick = 0;
    p.col0 = block_x() * S::COLS;
    p.n_cols = a.lin.n_cols;
    return a.pick ? mat_find_expert<S>(p, a, block_x()) : p.col0 < p.n_cols;
}

/* Row of x that column col0 + i has, in bytes from x, and which of the row's inputs; past the last column: the last one's. */
DEVICE uint32_t mat_x_row(const mat_place &p, const linear_mat_args &a, uint32_t i, uint32_t *slot) {
    const uint32_t col = min32(p.col0 + i, p.n_cols - 1);
    const uint32_t pick = p.pick ? p.pick[col] : 0;
    *slot = a.per_slot ? pick % a.n_used : 0;
    return (p.pick ? pick / a.n_used : col) * a.lin.x_stride;
}

/* Where column col's results begin. */
DEVICE float *mat_y(const mat_place &p, const linear_mat_args &a, uint32_t col) {
    const uint32_t pick = p.pick ? p.pick[col] : 0, tok = p.pick ? pick / a.n_used : col;
    float *y = (float *)((uint8_t *)a.lin.y + (uint64_t)tok * a.lin.y_stride) + p.w.y_column;
    return p.pick ? y + (uint64_t)(pick % a.n_used) * p.w.n_rows : y;
}

#endif
