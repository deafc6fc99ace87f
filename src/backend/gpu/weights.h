/* Weights on their way up: from a tensor's rows as filed to the planes that the kernels read (kernels/args_linear.h draws
 * them). Codes and scales are the file's own, only their places change: packing loses nothing and rounds nothing.
 * Pure functions of memory the caller owns; any thread, rows may be cut among threads as they like. */
#ifndef ROCMFORGE_BACKEND_GPU_WEIGHTS_H
#define ROCMFORGE_BACKEND_GPU_WEIGHTS_H

#include "backend/gpu/kernels/args_linear.h"
#include "quant/quant.h"

#include <stdbool.h>
#include <stddef.h>

enum { GPU_PLANE_ALIGN = 256 };

typedef struct {
    quant_type type;
    uint32_t k;                     /* values of a row */
    uint32_t row_bytes;             /* of a row as filed */
    uint32_t stride[LINEAR_PLANES]; /* bytes of a row in each plane, a multiple of 16; 0: the type has no such plane */
} gpu_weight_planes;

/* false: a type without kernels, or k is no multiple of its block or too large for 32-bit strides. */
bool gpu_weight_shape(gpu_weight_planes *out, quant_type type, uint64_t k);

/* Where each plane of n_rows rows begins in one block of memory, multiples of GPU_PLANE_ALIGN, and the block's size. Experts
 * stand one after another as more rows. false: it does not fit 64 bits. */
bool gpu_weight_layout(const gpu_weight_planes *w, uint64_t n_rows, uint64_t at[LINEAR_PLANES], uint64_t *n_bytes);

/* Rows as filed, w->row_bytes each, one after another at src (any alignment), into the planes: dst[p] is where the first of
 * them begins in plane p (8-byte aligned; not looked at where stride[p] is 0). Writes n_rows * stride[p] bytes of each, gaps
 * at the ends of rows as zeros. */
void gpu_weight_pack_rows(const gpu_weight_planes *w, uint8_t *const dst[LINEAR_PLANES], const void *src,
                          size_t n_rows);

#endif
