/* From rows of f32 to quantised activations (args_linear.h has their layout), alone or behind what makes the row:
 *
 *   quantize_q8, quantize_q8k                  x
 *   swiglu_quantize_q8, swiglu_quantize_q8k    silu(x) * x2
 *   geglu_quantize_q8, geglu_quantize_q8k      gelu(x) * x2
 *   norm_quantize_q8, norm_quantize_q8k        (x * (1 / sqrt(mean(x^2) + eps))) * x2, for each group of values
 *
 * Grid: norm_quantize: x: rows; block NORM_QUANTIZE_THREADS. Others: x: values of a row by QUANTIZE_VALUES, rounded up;
 * y: rows; block QUANTIZE_THREADS. Addresses and strides are multiples of 16, n of the scale's block. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_QUANTIZE_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_QUANTIZE_H

#include "args_linear.h"

enum {
    QUANTIZE_THREADS = 256,
    QUANTIZE_VALUES = 2048,
    NORM_QUANTIZE_THREADS = 512,
    NORM_QUANTIZE_GROUPS = 1024 /* of a row, at most */
};

typedef struct {
    GPU_PTR(const float) x;
    GPU_PTR(const float) x2; /* norm: weights of a group, 0: ones */
    GPU_PTR(uint8_t) y;
    uint32_t x_stride, x2_stride, y_stride; /* bytes from row to row */
    uint32_t n, n_rows;                     /* values of a row */
    uint32_t group;                         /* norm only: values that have one mean; divides n */
    float eps;                              /* norm only */
    uint32_t pad;
} quantize_args;

#endif
