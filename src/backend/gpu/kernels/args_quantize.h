/* Activations into int8, with what makes them drawn in (backend/cpu/ref.c, quantize_ref): args_linear.h draws a quantised row.
 *
 *   kernel             what is quantised                                        grid                              block
 *   quantize_rows      a                                                        ceil(k / QUANTIZE_TILE), n_rows   QUANTIZE_BLOCK
 *   quantize_swiglu    silu(a) * b                                              the same
 *   quantize_geglu     gelu(a) * b                                              the same
 *   quantize_norm      rms_norm(a, b), groups of `group` values (all of the row, or a part of it), eps
 *                                                                               1, n_rows                         QUANTIZE_BLOCK
 *
 * scale_block: 32 (q8) or 256 (q8k); k a multiple of it. Rows of a and b are byte strides apart, multiples of 16 as the addresses
 * are; b of quantize_norm is one row of weights [group], 0: ones; it takes at most QUANTIZE_GROUPS groups a row. Moves 4 bytes in (8 for two inputs) and 1.3 out a value. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_QUANTIZE_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_QUANTIZE_H

#include "backend/gpu/kernels/args_linear.h"

enum { QUANTIZE_BLOCK = 256, QUANTIZE_TILE = 2048, QUANTIZE_GROUPS = 1024 };

typedef struct {
    GPU_PTR(const float) a;
    GPU_PTR(const float) b;
    GPU_PTR(uint8_t) y;
    uint32_t a_stride, b_stride, y_stride; /* bytes from row to row */
    uint32_t k, scale_block, group;
    float eps;
    uint32_t pad;
} quantize_args;

#endif
