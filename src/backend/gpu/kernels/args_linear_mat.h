/* Matrix forms of linear layers: kernels linear_mat_<type>, for prompts and big batches, and linear_mat_few_<type>, for a few
 * dozen columns; types as in the file names of ggml in small letters (q4_k, f16). One kernel serves ordinary layers and
 * experts.
 *
 * A launch: block = the form's threads, grid[0] = tiles of columns, grid[1] = tiles of rows of all parts (each part begins a
 * tile of its own), grid[2] = 1. With experts the tiles of columns are at most linear_mat_expert_tiles; blocks past what
 * `first` says do nothing. x rows and x_stride are multiples of 16 bytes. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_LINEAR_MAT_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_LINEAR_MAT_H

#include "backend/gpu/kernels/args_linear.h"

/* threads of a block; rows and columns of its tile */
enum { LINEAR_MAT_THREADS = 256, LINEAR_MAT_ROWS = 128, LINEAR_MAT_COLS = 64 };
enum { LINEAR_MAT_FEW_THREADS = 128, LINEAR_MAT_FEW_ROWS = 64, LINEAR_MAT_FEW_COLS = 16 };
enum { LINEAR_MAT_FLOAT_THREADS = 256, LINEAR_MAT_FLOAT_ROWS = 32, LINEAR_MAT_FLOAT_COLS = 32 };

/* One column of an expert's work: its input is segment x_row % n_seg of row x_row / n_seg of x, where a row of x has n_seg
 * segments of k values, quantised as one row; its result goes to row y_row of y (y_stride apart). */
typedef struct {
    uint32_t x_row, y_row;
} linear_pair;

/* pair 0: column c is row c of x and of y, `lin` says all. Else columns are gathered: lin has one part, of n_rows an expert,
 * and the experts' rows follow one another in its planes; columns first[e] .. first[e + 1] of `pair` are expert e's; lin.n_cols is not read, residual rows go by y_row. */
typedef struct {
    linear_args lin;
    GPU_PTR(const linear_pair) pair;
    GPU_PTR(const uint32_t) first; /* [n_expert + 1] */
    uint32_t n_expert, n_seg;      /* n_seg: 1 but for inputs of every slot its own */
} linear_mat_args;

/* Tiles of columns that n_pairs columns of n_expert experts can have. */
GPU_SHARED_INLINE uint32_t linear_mat_expert_tiles(uint32_t n_pairs, uint32_t n_expert, uint32_t tile_cols) {
    const uint32_t used = n_pairs < n_expert ? n_pairs : n_expert;
    return used + (n_pairs - used) / tile_cols;
}

#endif
