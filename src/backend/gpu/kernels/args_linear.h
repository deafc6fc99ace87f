/* Linear layers on the GPU: how weights and quantised activations lie in device memory, and the arguments of the kernels.
 *
 * Weights are repacked on their way up into planes, so that every load is aligned and codes meet the activations' bytes
 * without a shuffle; the codes and scales are the file's own. A weight has n_rows rows of k values. Plane p of row r begins at
 * plane[p] + r * stride[p]; planes begin at 256-byte boundaries, strides are multiples of 16.
 *
 *   plane 0, low bits. 8-bit types: a byte a value. 4, 5 and 6-bit types: 16 bytes for 32 values, word j (0..3) holds values
 *     4j .. 4j+3 in the low nibbles of its bytes, values 16+4j .. 16+4j+3 in the high nibbles. 2 and 3-bit types: 8 bytes for
 *     32 values, word g (0..1) holds values 16g+4j+b at bits 8b+2j (j, b 0..3): (word >> 2j) & 0x03030303.
 *     F32, F16, BF16: the row as filed.
 *   plane 1, high bits. 5 and 3-bit types: 4 bytes for 32 values, bit 8b+j (j 0..7) belongs to value 4j+b:
 *     ((word >> j) & 0x01010101). 6-bit: 8 bytes for 32 values, as the two-bit form of plane 0.
 *   plane 2, scales of sub-blocks, K types, for 256 values. Q4_K, Q5_K: 16 bytes, sc[8] mn[8]. Q2_K: 16 bytes, sc | mn << 4.
 *     Q3_K, Q6_K: 16 bytes, signed sc[16].
 *   plane 3, f16 scales. Blocks of 32: d, or d and m (Q4_1, Q5_1). K types, for 256 values: d, or d and dmin (Q2_K, Q4_K, Q5_K).
 *
 * The value of a code: Q4_0 q - 8, Q5_0 q - 16, Q8_0 q signed, Q3_K q - 4, Q6_K q - 32, others q. Formulas and the order of
 * every sum: backend/cpu/linear_ref.c, equal bit for bit.
 *
 * Quantised activations: a row is codes int8 [k] | sums i16 [k / 16] of each 16 codes | scales f32 [k / 32] (q8) or [k / 256]
 * (q8k); each part begins at a multiple of 16 bytes: gpu_act_sums, gpu_act_scales; rows are gpu_act_bytes apart or more. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_LINEAR_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_LINEAR_H

#include "backend/gpu/kernels/args.h"

enum { LINEAR_PLANES = 4, LINEAR_PARTS = 4 };

typedef struct {
    GPU_PTR(const uint8_t) plane[LINEAR_PLANES];
    uint32_t stride[LINEAR_PLANES];
    uint32_t n_rows;
    uint32_t y_column; /* where its results begin in a row of y */
} gpu_weight;

/* y[c][part.y_column + r] = dot(weight row r, x row c) (+ residual[c][the same column]); all parts of one type, one k. */
typedef struct {
    gpu_weight part[LINEAR_PARTS];
    GPU_PTR(const uint8_t) x;      /* rows of activations: quantised, or f32 for float weights */
    GPU_PTR(const float) residual; /* 0: none */
    GPU_PTR(float) y;
    uint32_t x_stride, residual_stride, y_stride; /* bytes from row to row */
    uint32_t k, n_cols, n_parts;                  /* n_cols: rows of x */
    uint32_t n_rows;                              /* of all parts together */
    uint32_t
        types; /* linear_vec1_mixed_k: the type of part p in bits 8p .. 8p+7, as quant_type counts; else not read */
} linear_args;

/* A gate and its up stacked, for one column, with what comes behind drawn in: silu(gate) * up (gelu: of gelu) quantised into
 * out, as quantize_swiglu does. Two parts of n rows each, n a multiple of scale_block; lin.y is the launch's own scratch memory.
 * The blocks of LINEAR_GATED_UNIT outputs count themselves in come[unit], 0 before and behind the launch; the last one quantises
 * the unit. */
typedef struct {
    linear_args lin;
    GPU_PTR(uint8_t) out;
    GPU_PTR(uint32_t) come;
    uint32_t gate, up; /* columns of lin.y */
    uint32_t n, scale_block, gelu, pad;
} linear_gated_args;

/* One weight for every expert: expert e's planes begin expert_stride[p] bytes after expert e - 1's. Row t of x meets the
 * experts route[t][slot]; y[t][slot * w.n_rows + r]. The vector kernels only: few tokens. */
typedef struct {
    gpu_weight w; /* of expert 0; n_rows of one expert; y_column 0 */
    uint64_t expert_stride[LINEAR_PLANES];
    GPU_PTR(const uint8_t) x;     /* rows of activations: quantised, or f32 */
    GPU_PTR(const uint8_t) route; /* rows of n_used {i32 expert, f32 weight} */
    GPU_PTR(float) y;
    uint32_t x_stride, route_stride, y_stride; /* bytes from row to row */
    uint32_t k, n_tok, n_used, n_expert;
    uint32_t per_slot; /* 1: a row of x is n_used inputs of k values, one a slot, quantised as one row of n_used * k */
} linear_expert_args;

/* Launch of the vector kernels: linear_vec1_<type> (one column), linear_vec4_<type> (up to 4 a block), linear_vec1_expert_,
 * linear_vec1_gated_, linear_vec1_mixed_k (one column, parts of several K types).
 * Grid: x: of every part, its rows by LINEAR_VEC_ROWS (vec4: LINEAR_VEC4_ROWS) or LINEAR_VEC_FLOAT_ROWS (F32, F16, BF16), rounded
 * up, added; y: columns by 1 or by 4, rounded up; experts: n_tok * n_used. Block: LINEAR_VEC1_THREADS, LINEAR_VEC4_THREADS;
 * the float ones LINEAR_VEC1_THREADS always. */
enum {
    LINEAR_VEC_ROWS = 8,
    LINEAR_VEC4_ROWS = 16,
    LINEAR_VEC_FLOAT_ROWS = 16,
    LINEAR_VEC1_THREADS = 128,
    LINEAR_VEC4_THREADS = 256,
    LINEAR_GATED_UNIT = 256
};

#if defined(__cplusplus) && !defined(GPU_HOST)
#define GPU_SHARED_INLINE static inline __attribute__((host, device))
#else
#define GPU_SHARED_INLINE static inline
#endif
GPU_SHARED_INLINE uint32_t gpu_act_sums(uint32_t k) { return (k + 15) & ~15u; }
GPU_SHARED_INLINE uint32_t gpu_act_scales(uint32_t k) { return gpu_act_sums(k) + ((k / 8 + 15) & ~15u); }
GPU_SHARED_INLINE uint32_t gpu_act_bytes(uint32_t k, uint32_t scale_block) {
    return gpu_act_scales(k) + ((k / scale_block * 4 + 15) & ~15u);
}

#endif
