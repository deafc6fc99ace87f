/* Recurrent-state kernels; formulas and the order of every sum are those of backend/cpu/ref_recurrent.h. A step holds any number
 * of sequences side by side: each names its rows of the step and its slot, the place of its state. States live in one block,
 * slot after slot, and are read and written once a step; between, they stay in registers. Rows lie a byte stride apart.
 *
 *   kernel           grid, blocks of RECURRENT_BLOCK
 *   recurrent_conv   ceil(width / RECURRENT_BLOCK), n_seq                a thread for each channel
 *   recurrent_ssm    ceil(n_head * d_head / RECURRENT_ROWS), n_seq       sixteen lanes for each value, n_state <= RECURRENT_STATE
 *   recurrent_delta  ceil(n_head * d_v / RECURRENT_ROWS), n_seq          the same, d_k <= RECURRENT_STATE
 *
 * Each moves its inputs and results once, and the state twice: 8 bytes times n_state a value for ssm. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_RECURRENT_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_RECURRENT_H

#include "backend/gpu/kernels/args.h"

enum { RECURRENT_BLOCK = 256, RECURRENT_ROWS = RECURRENT_BLOCK / 16, RECURRENT_TAPS = 8, RECURRENT_STATE = 256 };

typedef struct {
    uint32_t first, n_tok; /* rows of the step, neighbours, in order */
    uint32_t slot;
    uint32_t fresh; /* 1: the state before is zero */
} recurrent_seq;

typedef struct {
    GPU_PTR(const recurrent_seq) seq;
    GPU_PTR(const float) x;
    GPU_PTR(const float) w;    /* [width, n_tap] */
    GPU_PTR(const float) bias; /* [width], or 0 */
    GPU_PTR(float) state;      /* [slots][n_tap - 1][width] */
    GPU_PTR(float) y;
    uint32_t x_stride, y_stride; /* bytes */
    uint32_t width, n_tap;       /* n_tap 1 .. RECURRENT_TAPS */
    uint32_t silu, pad;
} recurrent_conv_args;

typedef struct {
    GPU_PTR(const recurrent_seq) seq;
    GPU_PTR(const float) x;
    GPU_PTR(const float) dt;
    GPU_PTR(const float) a;
    GPU_PTR(const float) b;
    GPU_PTR(const float) c;
    GPU_PTR(const float) d; /* [n_head], or 0 */
    GPU_PTR(float) state;   /* [slots][n_head * d_head][n_state] */
    GPU_PTR(float) y;
    uint32_t x_stride, dt_stride, b_stride, c_stride, y_stride; /* bytes */
    uint32_t n_head, d_head, n_state, n_group, a_per_state;
} recurrent_ssm_args;

typedef struct {
    GPU_PTR(const recurrent_seq) seq;
    GPU_PTR(const float) q;
    GPU_PTR(const float) k;
    GPU_PTR(const float) v;
    GPU_PTR(const float) g;
    GPU_PTR(const float) beta;
    GPU_PTR(float) state; /* [slots][n_head * d_v][d_k] */
    GPU_PTR(float) y;
    uint32_t q_stride, k_stride, v_stride, g_stride, beta_stride, y_stride; /* bytes */
    uint32_t n_head, n_key_head, d_k, d_v;
} recurrent_delta_args;

#endif
