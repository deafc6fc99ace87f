/* y = W x of many columns, F32, F16 and BF16 weights, f32 inputs: each output is sixteen partial sums (k mod 16), each one
 * ascending fma chain, and the tree, as cpu/ref_linear.c says. Matrix instructions would add in another order: none here.
 *
 * A block makes 32 x 32 outputs in stages of 64 values, widened to f32 in shared memory. Sixteen lanes make 8 x 8 of them, lane
 * j the sums of k mod 16 = j. args_linear_mat.h says how to launch. */
#include "mat_place.h"

enum { FLOAT_STAGE = 64, FLOAT_PITCH = FLOAT_STAGE + 2, FLOAT_SIDE = 8, FLOAT_GROUPS = LINEAR_MAT_FLOAT_COLS / FLOAT_SIDE };
enum float_type { F32, F16, BF16 };

struct float_shape {
    enum { ROWS = LINEAR_MAT_FLOAT_ROWS, COLS = LINEAR_MAT_FLOAT_COLS, THREADS = LINEAR_MAT_FLOAT_THREADS };
};
static_assert((int)float_shape::THREADS * 4 == (int)float_shape::ROWS * (int)float_shape::COLS, "8 x 8 by sixteen lanes");

struct float_shared {
    float w[float_shape::ROWS][FLOAT_PITCH], x[float_shape::COLS][FLOAT_PITCH];
};

template <float_type T> DEVICE float float_at(const uint8_t *row, uint32_t i) {
    if (T == F32) return ((const float *)row)[i];
    const uint16_t h = ((const uint16_t *)row)[i];
    return T == F16 ? from_f16(h) : from_bf16(h);
}

/* Values [k0, k0 + n) of rows and columns; thread t has value t % 64 of every fourth. */
template <float_type T>
DEVICE void float_stage(float_shared &s, const mat_place &p, const linear_mat_args &a, uint32_t k0, uint32_t n) {
    const uint32_t at = thread_x() % FLOAT_STAGE;
    if (at >= n) return;
    for (uint32_t r = thread_x() / FLOAT_STAGE; r < float_shape::ROWS; r += float_shape::THREADS / FLOAT_STAGE) {
        const uint64_t row = min32(p.row0 + r, p.w.n_rows - 1);
        s.w[r][at] = float_at<T>(p.w.plane[0] + row * p.w.stride[0], k0 + at);
    }
    for (uint32_t c = thread_x() / FLOAT_STAGE; c < float_shape::COLS; c += float_shape::THREADS / FLOAT_STAGE) {
        uint32_t slot;
        const uint32_t row = mat_x_row(p, a, c, &slot);
        s.x[c][at] = *(const float *)(p.x + row + (uint64_t)(slot * p.k + k0 + at) * 4);
    }
}

/* One value for each partial sum. */
DEVICE void float_step(float acc[FLOAT_SIDE][FLOAT_SIDE], const float_shared &s, uint32_t row, uint32_t col, uint32_t at) {
    float w[FLOAT_SIDE];
    UNROLL for (uint32_t r = 0; r < FLOAT_SIDE; r++) w[r] = s.w[row + r][at];
    UNROLL for (uint32_t c = 0; c < FLOAT_SIDE; c++) {
        const float x = s.x[col + c][at];
        UNROLL for (uint32_t r = 0; r < FLOAT_SIDE; r++) acc[r][c] = fma32(w[r], x, acc[r][c]);
    }
}

/* The sums of sixteen lanes; each output is written by one of them. */
DEVICE void float_write(float acc[FLOAT_SIDE][FLOAT_SIDE], const mat_place &p, const linear_mat_args &a, uint32_t row,
                        uint32_t col) {
    UNROLL for (uint32_t c = 0; c < FLOAT_SIDE; c++) {
        const uint32_t at = p.col0 + col + c;
        float mine = 0.0f;
        UNROLL for (uint32_t r = 0; r < FLOAT_SIDE; r++) {
            const float sum = half_team_sum(acc[r][c]);
            if (thread_x() % 16 == r) mine = sum;
        }
        const uint32_t out = p.row0 + row + thread_x() % 16;
        if (thread_x() % 16 >= FLOAT_SIDE || at >= p.n_cols || out >= p.w.n_rows) continue;
        if (a.lin.residual) {
            const uint8_t *add = (const uint8_t *)a.lin.residual + (uint64_t)at * a.lin.residual_stride;
            mine = mine + ((const float *)add)[p.w.y_column + out];
        }
        mat_y(p, a, at)[out] = mine;
    }
}

template <float_type T> DEVICE void float_run(const linear_mat_args &a) {
    SHARED float_shared s;
    mat_place p;
    if (!mat_find<float_shape>(p, a)) return; /* the whole block */
    const uint32_t lane = thread_x() % 16, group = thread_x() / 16;
    const uint32_t row = group / FLOAT_GROUPS * FLOAT_SIDE, col = group % FLOAT_GROUPS * FLOAT_SIDE;
    float acc[FLOAT_SIDE][FLOAT_SIDE] = {};
    for (uint32_t k0 = 0; k0 < p.k; k0 += FLOAT_STAGE) {
        const uint32_t n = min32(p.k - k0, FLOAT_STAGE);
        barrier();
        float_stage<T>(s, p, a, k0, n);
        barrier();
        for (uint32_t at = lane; at < n; at += 16) float_step(acc, s, row, col, at);
    }
    float_write(acc, p, a, row, col);
}

KERNEL(linear_mat_f32, linear_mat_args, LINEAR_MAT_FLOAT_THREADS) { float_run<F32>(a); }
KERNEL(linear_mat_f16, linear_mat_args, LINEAR_MAT_FLOAT_THREADS) { float_run<F16>(a); }
KERNEL(linear_mat_bf16, linear_mat_args, LINEAR_MAT_FLOAT_THREADS) { float_run<BF16>(a); }
