/* softmax_rows: y = exp(x - max) / sum, as softmax_ref. A block has a row. The maximum and the exponentials are everyone's; the
 * sixteen partial sums are sixteen lanes', who find the values of a stage in shared memory. Moves 12 n bytes, and 4 n again. */
#include "backend/gpu/kernels/args_attention.h"
#include "backend/gpu/kernels/canon.h"
#include "backend/gpu/kernels/target.h"

enum { STAGE = 4096, TEAMS = SOFTMAX_THREADS / TEAM };

DEVICE float row_max(const float *x, uint32_t n, float *team_max) {
    float m = -__builtin_inff();
    for (uint32_t i = thread_x(); i < n; i += SOFTMAX_THREADS) m = canon_max(m, x[i]);
    UNROLL
    for (uint32_t mask = 16; mask; mask /= 2) m = canon_max(m, team_xor_f(m, mask));
    if (lane_in_team() == 0) team_max[team_in_block()] = m;
    barrier();
    for (uint32_t t = 0; t < TEAMS; t++) m = canon_max(m, team_max[t]);
    return m;
}

KERNEL(softmax_rows, softmax_args, SOFTMAX_THREADS) {
    SHARED float e[STAGE];
    SHARED float team_max[TEAMS];
    SHARED float sum;
    const float *x = (const float *)((const uint8_t *)a.x + (uint64_t)block_x() * a.x_stride);
    float *y = (float *)((uint8_t *)a.y + (uint64_t)block_x() * a.y_stride);
    const float m = row_max(x, a.n, team_max);
    float part = 0.0f;
    for (uint32_t i0 = 0; i0 < a.n; i0 += STAGE) {
        const uint32_t n = min32(STAGE, a.n - i0);
        barrier();
        for (uint32_t i = thread_x(); i < n; i += SOFTMAX_THREADS) y[i0 + i] = e[i] = canon_exp(x[i0 + i] - m);
        barrier();
        if (thread_x() < 16)
            for (uint32_t i = thread_x(); i < n; i += 16) part = part + e[i];
    }
    if (team_in_block() == 0) {
        part = half_team_sum(part); /* of lanes 0 to 15; the others' sum is not looked at */
        if (thread_x() == 0) sum = part;
    }
    barrier();
    for (uint32_t i = thread_x(); i < a.n; i += SOFTMAX_THREADS) y[i] = y[i] / sum;
}
