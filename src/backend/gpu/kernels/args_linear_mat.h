/* Matrix forms of linear layers: kernels linear_mat_<type>, for prompts and big batches, and linear_mat_few_<type>, for a few
 * dozen columns; types as in the file names of ggml in small letters (q4_k, f16). One kernel serves ordinary layers and
 * experts.
 *
 * A launch: block = the form's threads, grid[0] = tiles of columns, grid[1] = tiles of rows of all parts (each part begins a
 * tile of its own), grid[2] = 1. With experts the tiles of columns are at most linear_mat_expert_tiles; blocks past what
 * `first` says do nothing. x rows and x_stride are multiples of 16 bytes, all of x less
 * than 4 GiB. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_LINEAR_MAT_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_LINEAR_MAT_H

#include "backend/gpu/kernels/args_linear.h"

/* threads of a block; rows and columns of its tile */
enum { LINEAR_MAT_THREADS = 256, LINEAR_MAT_ROWS = 128, LINEAR_MAT_COLS = 64 };
enum { LINEAR_MAT_FEW_THREADS = 128, LINEAR_MAT_FEW_ROWS = 64, LINEAR_MAT_FEW_COLS = 16 };
enum { LINEAR_MAT_FLOAT_THREADS = 256, LINEAR_MAT_FLOAT_ROWS = 32, LINEAR_MAT_FLOAT_COLS = 32 };

/* pick 0: column c is row c of x and of y, `lin` says all. Else columns are gathered, by the lists of moe_lists (args_moe.h):
 * lin has one part, of n_rows an expert, and the experts' rows follow one another in its planes; columns first[e] ..
 * first[e + 1] of `pick` are expert e's. A pick is token * n_used + slot: the token's row of x (of its n_used inputs of k
 * values, quantised as one row, the slot's one if per_slot), the slot's n_rows values of the token's row of y. lin.n_cols is
 * not read, residual must be 0. */
typedef struct {
    linear_args lin;
    GPU_PTR(const uint32_t) pick;
    GPU_PTR(const uint32_t) first; /* [n_expert + 1] */
    uint32_t n_expert, n_used, per_slot, pad;
} linear_mat_args;

/* Tiles of columns that n_picks columns of n_expert experts can have. */
GPU_SHARED_INLINE uint32_t linear_mat_expert_tiles(uint32_t n_picks, uint32_t n_expert, uint32_t tile_cols) {
    const uint32_t used = n_picks < n_expert ? n_picks : n_expert;
    return used + (n_picks - used) / tile_cols;
}

#endif
