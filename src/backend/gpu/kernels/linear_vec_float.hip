/* Float linear for few columns: y = W x with F32, F16 or BF16 rows, weights read once. Sixteen partial sums (k mod 16), each one
 * ascending fma chain from +0, and the tree (backend/cpu/ref_linear.c).
 *
 * Eight lanes have a row: lane q the sums 2 q and 2 q + 1, so that it loads neighbours in pairs; a team has four rows, a block
 * sixteen. FLOAT_AHEAD steps of 16 values are under way before the first is used. x is staged in shared memory.
 * Moves: the weight once, and per block of 16 rows x (from caches). */
#include "linear_part.h"

enum float_type { F32, F16, BF16 };
enum { FLOAT_AHEAD = 16, FLOAT_TEAMS = LINEAR_VEC1_THREADS / TEAM, FLOAT_ROWS = LINEAR_VEC_FLOAT_ROWS / FLOAT_TEAMS };

template <uint32_t C> struct float_shared {
    static constexpr uint32_t stage = C == 1 ? 4096 : 2048; /* values of a column, a multiple of 16 * FLOAT_AHEAD */
    float x[C][stage] __attribute__((aligned(16)));
};

struct float_job {
    const uint8_t *row;      /* of the lane: its eight lanes share it */
    const uint8_t *x;        /* first column */
    const uint8_t *residual; /* of the lane's row, first column; 0: none */
    uint8_t *y;              /* likewise */
    uint32_t x_stride, residual_stride, y_stride, k, n_cols;
    bool stores;
};

template <float_type T> struct float_pair { word2 bits; /* F16, BF16: both in x */ };

template <float_type T> DEVICE void pair_load(float_pair<T> &p, const uint8_t *row, uint32_t i) {
    if constexpr (T == F32)
        p.bits = *(const word2 *)(row + (uint64_t)i * 4);
    else
        p.bits.x = *(const uint32_t *)(row + (uint64_t)i * 2);
}

template <float_type T> DEVICE float pair_value(const float_pair<T> &p, bool second) {
    if constexpr (T == F32) return as_float(second ? p.bits.y : p.bits.x);
    const uint16_t h = (uint16_t)(second ? p.bits.x >> 16 : p.bits.x);
    return T == F16 ? from_f16(h) : from_bf16(h);
}

template <float_type T> DEVICE float value_at(const uint8_t *row, uint32_t i) {
    if constexpr (T == F32) return *(const float *)(row + (uint64_t)i * 4);
    const uint16_t h = *(const uint16_t *)(row + (uint64_t)i * 2);
    return T == F16 ? from_f16(h) : from_bf16(h);
}

template <uint32_t C> DEVICE void float_stage(float_shared<C> &s, const float_job &j, uint32_t k0, uint32_t n) {
    UNROLL for (uint32_t c = 0; c < C; c++) {
        if (c >= j.n_cols) break;
        const float *x = (const float *)(j.x + (uint64_t)c * j.x_stride) + k0;
        for (uint32_t i = thread_x(); i < n; i += LINEAR_VEC1_THREADS) s.x[c][i] = x[i];
    }
}

/* Sixteen values of each column at `at` of what is staged. */
template <float_type T, uint32_t C>
DEVICE void float_step(float acc[C][2], const float_shared<C> &s, const float_pair<T> &w, uint32_t at) {
    UNROLL for (uint32_t c = 0; c < C; c++) {
        const word2 x = *(const word2 *)&s.x[c][at];
        acc[c][0] = fma32(pair_value<T>(w, false), as_float(x.x), acc[c][0]);
        acc[c][1] = fma32(pair_value<T>(w, true), as_float(x.y), acc[c][1]);
    }
}

/* n values from k0 on, which are staged. */
template <float_type T, uint32_t C>
DEVICE void float_span(float acc[C][2], const float_shared<C> &s, const float_job &j, uint32_t k0, uint32_t n) {
    const uint32_t mine = (lane_in_team() & 7) * 2;
    uint32_t at = 0;
    for (; at + 16 * FLOAT_AHEAD <= n; at += 16 * FLOAT_AHEAD) {
        float_pair<T> w[FLOAT_AHEAD];
        UNROLL for (uint32_t u = 0; u < FLOAT_AHEAD; u++) pair_load<T>(w[u], j.row, k0 + at + 16 * u + mine);
        UNROLL for (uint32_t u = 0; u < FLOAT_AHEAD; u++) float_step<T, C>(acc, s, w[u], at + 16 * u + mine);
    }
    for (; at + 16 <= n; at += 16) {
        float_pair<T> w;
        pair_load<T>(w, j.row, k0 + at + mine);
        float_step<T, C>(acc, s, w, at + mine);
    }
    UNROLL for (uint32_t e = 0; e < 2; e++) { /* the last k % 16 */
        const uint32_t i = at + mine + e;
        if (i >= n) break;
        const float w = value_at<T>(j.row, k0 + i);
        UNROLL for (uint32_t c = 0; c < C; c++) acc[c][e] = fma32(w, s.x[c][i], acc[c][e]);
    }
}

/* canon_sum16 over eight lanes of two sums each. */
DEVICE float eight_lane_sum(float even, float odd) {
    even = even + team_xor_f(even, 4);
    odd = odd + team_xor_f(odd, 4);
    even = even + team_xor_f(even, 2);
    odd = odd + team_xor_f(odd, 2);
    even = even + team_xor_f(even, 1);
    odd = odd + team_xor_f(odd, 1);
    return even + odd;
}

template <float_type T, uint32_t C> DEVICE void float_run(float_shared<C> &s, const float_job &j) {
    float acc[C][2] = {};
    for (uint32_t k0 = 0; k0 < j.k; k0 += s.stage) {
        const uint32_t n = min32(j.k - k0, s.stage);
        if (k0) barrier();
        float_stage<C>(s, j, k0, n);
        barrier();
        float_span<T, C>(acc, s, j, k0, n);
    }
    UNROLL for (uint32_t c = 0; c < C; c++) {
        float sum = eight_lane_sum(acc[c][0], acc[c][1]);
        if (!j.stores || c >= j.n_cols) continue;
        if (j.residual) sum = sum + *(const float *)(j.residual + (uint64_t)c * j.residual_stride);
        *(float *)(j.y + (uint64_t)c * j.y_stride) = sum;
    }
}

/* The lane's row of a weight, `first` the block's first. Rows past the end read the first and store nothing. */
DEVICE uint32_t float_row(float_job &j, const gpu_weight &w, uint32_t first) {
    const uint32_t row = first + team_in_block() * FLOAT_ROWS + (lane_in_team() >> 3),
                   in = row < w.n_rows ? row : first;
    j.row = w.plane[0] + (uint64_t)in * w.stride[0];
    j.stores = row < w.n_rows && (lane_in_team() & 7) == 0;
    return in;
}

template <float_type T, uint32_t C> DEVICE void linear_float(float_shared<C> &s, const linear_args &a) {
    float_job j = {};
    gpu_weight w;
    const uint32_t first = linear_vec_part(w, a, LINEAR_VEC_FLOAT_ROWS), col0 = block_y() * C;
    if (first >= w.n_rows || col0 >= a.n_cols) return; /* all lanes: no such block was asked for */
    const uint64_t column = ((uint64_t)w.y_column + float_row(j, w, first)) * 4;
    j.x = a.x + (uint64_t)col0 * a.x_stride;
    j.residual = a.residual ? (const uint8_t *)a.residual + (uint64_t)col0 * a.residual_stride + column : nullptr;
    j.y = (uint8_t *)a.y + (uint64_t)col0 * a.y_stride + column;
    j.x_stride = a.x_stride;
    j.residual_stride = a.residual_stride;
    j.y_stride = a.y_stride;
    j.k = a.k;
    j.n_cols = min32(a.n_cols - col0, C);
    float_run<T, C>(s, j);
}

template <float_type T> DEVICE void linear_float_expert(float_shared<1> &s, const linear_expert_args &a) {
    const uint32_t tok = block_y() / a.n_used, slot = block_y() % a.n_used, first = block_x() * LINEAR_VEC_FLOAT_ROWS;
    if (first >= a.w.n_rows || tok >= a.n_tok) return;
    float_job j = {};
    const uint32_t row = float_row(j, a.w, first);
    j.row += linear_expert_at(a, tok, slot) * a.expert_stride[0];
    j.x = a.x + (uint64_t)tok * a.x_stride + (a.per_slot ? (uint64_t)slot * a.k * 4 : 0);
    j.y = (uint8_t *)a.y + (uint64_t)tok * a.y_stride + ((uint64_t)slot * a.w.n_rows + row) * 4;
    j.k = a.k;
    j.n_cols = 1;
    float_run<T, 1>(s, j);
}

KERNEL(linear_vec1_f32, linear_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<1> s;
    linear_float<F32, 1>(s, a);
}
KERNEL(linear_vec1_f16, linear_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<1> s;
    linear_float<F16, 1>(s, a);
}
KERNEL(linear_vec1_bf16, linear_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<1> s;
    linear_float<BF16, 1>(s, a);
}

KERNEL(linear_vec4_f32, linear_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<4> s;
    linear_float<F32, 4>(s, a);
}
KERNEL(linear_vec4_f16, linear_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<4> s;
    linear_float<F16, 4>(s, a);
}
KERNEL(linear_vec4_bf16, linear_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<4> s;
    linear_float<BF16, 4>(s, a);
}

KERNEL(linear_vec1_expert_f32, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<1> s;
    linear_float_expert<F32>(s, a);
}
KERNEL(linear_vec1_expert_f16, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<1> s;
    linear_float_expert<F16>(s, a);
}
KERNEL(linear_vec1_expert_bf16, linear_expert_args, LINEAR_VEC1_THREADS) {
    SHARED float_shared<1> s;
    linear_float_expert<BF16>(s, a);
}
