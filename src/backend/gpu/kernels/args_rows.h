/* Row kernels: one launch does one op on rows [n_rows, width]; formulas and the order of every sum are those of
 * backend/cpu/ref.c. Rows lie a byte stride apart (a multiple of 4), so views need no copy; stride 0 is one row for all (a
 * weight vector). y may be an input of the same rows. Blocks are 256 threads, ROWS_BLOCK.
 *
 *   kernel                             y                                                          grid
 *   rows_add, rows_mul                 a + b, a * b                                               tiles(width), n_rows
 *   rows_scale, rows_softcap           a * f, f * tanh(a / f)                                     the same
 *   rows_silu, rows_gelu, rows_copy    of a (copy: any 4-byte values)                             the same
 *   rows_swiglu, rows_geglu            silu(a) * b, gelu(a) * b                                   the same
 *   rows_rms_norm                      b: weights [group], 0: none; group: values of a norm, width a multiple of it; f: eps
 *                                                                                                 width / group, n_rows
 *   rows_rms_norm_small                the same bits, half a team for each group: for groups up to ROWS_SMALL_GROUP
 *                                                              ceil(n_rows * (width / group) / ROWS_SMALL_GROUPS), 1
 *   rows_layer_norm                    b, c: weight and bias; f: eps                              1, n_rows
 *   rows_softmax                       of the row                                                 1, n_rows
 *   rows_rope                          b: rows of cos, sin per pair; n_head heads of head_dim values, the first n_rot of each
 *                                      turned; neox 1: pairs (i, i + n_rot / 2), 0: (2i, 2i + 1)  tiles(width / 2), n_rows
 *   rows_take (rows_take_args)         row id[r] of x; ids are i32, id_stride bytes apart; an id outside [0, n_x) gives NaN.
 *                                      For take_rows, and for rope tables: x holds a row of cosines and sines for every
 *                                      position (rope_table.c), ids are the positions             tiles(width), n_rows
 *   rows_get (rows_get_args)           row id[r] of a weight, decoded: the bits of src/quant      tiles(k), n_rows
 *
 * tiles(n) = ceil(n / ROWS_TILE). */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_ROWS_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_ROWS_H

#include "backend/gpu/kernels/args_linear.h"

enum { ROWS_BLOCK = 256, ROWS_TILE = 1024, ROWS_SMALL_GROUP = 512, ROWS_SMALL_GROUPS = 16 };

typedef struct {
    GPU_PTR(const float) a;
    GPU_PTR(const float) b;
    GPU_PTR(const float) c;
    GPU_PTR(float) y;
    uint32_t a_stride, b_stride, c_stride, y_stride; /* bytes */
    uint32_t n_rows, width, group;
    float f;
    uint32_t n_head, head_dim, n_rot, neox;
} rows_args;

typedef struct {
    GPU_PTR(const float) x;
    GPU_PTR(const int32_t) id;
    GPU_PTR(float) y;
    uint32_t x_stride, id_stride, y_stride; /* bytes */
    uint32_t n_x, n_rows, width;
} rows_take_args;

typedef struct {
    gpu_weight w; /* w.n_rows: ids from there on give NaN */
    GPU_PTR(const int32_t) id;
    GPU_PTR(float) y;
    uint32_t id_stride, y_stride; /* bytes */
    uint32_t n_rows, k;
    uint32_t type; /* quant_type of the weight */
    uint32_t pad;
} rows_get_args;

#endif
