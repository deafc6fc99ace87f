/* Layers with a state instead of a cache: causal convolution, selective scan, gated delta rule (args_recurrent.h). Tokens of a
 * sequence follow one another, so a sequence's work is parallel over channels, or over the rows of its state: each row, up to
 * RECURRENT_STATE values, is spread over the sixteen lanes of a half team, value i at lane i mod 16, which is also the order of
 * the canonical sum. */
#include "backend/gpu/kernels/args_recurrent.h"
#include "backend/gpu/kernels/canon.h"
#include "backend/gpu/kernels/target.h"

enum { PER_LANE = RECURRENT_STATE / 16 };

DEVICE const float *token_row(const float *p, uint32_t stride, uint32_t row) {
    return (const float *)((const uint8_t *)p + (uint64_t)stride * row);
}
DEVICE float *token_row_to(float *p, uint32_t stride, uint32_t row) {
    return (float *)((uint8_t *)p + (uint64_t)stride * row);
}

KERNEL(recurrent_conv, recurrent_conv_args, RECURRENT_BLOCK) {
    const recurrent_seq q = a.seq[block_y()];
    const uint32_t c = block_x() * RECURRENT_BLOCK + thread_x(), n_old = a.n_tap - 1;
    if (c >= a.width) return;
    float *state = a.state + (uint64_t)q.slot * n_old * a.width + c;
    float w[RECURRENT_TAPS], x[RECURRENT_TAPS]; /* from the last tap backwards: x[0] is the newest */
    UNROLL for (uint32_t j = 0; j < RECURRENT_TAPS; j++) {
        w[j] = j < a.n_tap ? a.w[(uint64_t)c * a.n_tap + (n_old - j)] : 0.0f;
        x[j] = j >= 1 && j < a.n_tap && !q.fresh ? state[(uint64_t)(n_old - j) * a.width] : 0.0f;
    }
    const float bias = a.bias ? a.bias[c] : 0.0f;
    for (uint32_t t = 0; t < q.n_tok; t++) {
        x[0] = token_row(a.x, a.x_stride, q.first + t)[c];
        float y = bias;
        UNROLL for (int j = RECURRENT_TAPS - 1; j >= 0; j--) y = (uint32_t)j < a.n_tap ? fma32(w[j], x[j], y) : y;
        token_row_to(a.y, a.y_stride, q.first + t)[c] = a.silu ? canon_silu(y) : y;
        UNROLL for (int j = RECURRENT_TAPS - 1; j >= 1; j--) x[j] = x[j - 1];
    }
    UNROLL for (uint32_t j = 1; j < RECURRENT_TAPS; j++) {
        if (j < a.n_tap) state[(uint64_t)(n_old - j) * a.width] = x[j];
    }
}

/* The row of a state that this half team keeps. Half teams without a row of their own repeat the last one's work, so that all
 * lanes of a team meet in its shuffles, and write nothing. */
struct state_row {
    float s[PER_LANE];
    float *home;
    uint32_t row, n, lane;
    bool own;
};

DEVICE void take_row(state_row &r, float *block, uint32_t slot, uint32_t n_rows, uint32_t n, bool fresh) {
    const uint32_t want = block_x() * RECURRENT_ROWS + thread_x() / 16;
    r.row = min32(want, n_rows - 1);
    r.own = want < n_rows;
    r.lane = thread_x() & 15u;
    r.n = n;
    r.home = block + ((uint64_t)slot * n_rows + r.row) * n;
    UNROLL for (uint32_t j = 0; j < PER_LANE; j++) {
        const uint32_t i = j * 16 + r.lane;
        r.s[j] = i < n && !fresh ? r.home[i] : 0.0f;
    }
}

DEVICE void put_row(const state_row &r) {
    UNROLL for (uint32_t j = 0; j < PER_LANE; j++) {
        const uint32_t i = j * 16 + r.lane;
        if (i < r.n && r.own) r.home[i] = r.s[j];
    }
}

/* Sum over the row of s[i] * v[i], known to all sixteen lanes. */
DEVICE float row_dot(const state_row &r, const float *v) {
    float part = 0.0f;
    UNROLL for (uint32_t j = 0; j < PER_LANE; j++) {
        const uint32_t i = j * 16 + r.lane;
        if (i < r.n) part = fma32(r.s[j], v[i], part);
    }
    return half_team_sum(part);
}

KERNEL(recurrent_ssm, recurrent_ssm_args, RECURRENT_BLOCK) {
    const recurrent_seq q = a.seq[block_y()];
    state_row r;
    take_row(r, a.state, q.slot, a.n_head * a.d_head, a.n_state, q.fresh);
    const uint32_t h = r.row / a.d_head, group = h / (a.n_head / a.n_group) * a.n_state;
    const float *rate = a.a + (a.a_per_state ? (uint64_t)h * a.n_state : h);
    for (uint32_t t = q.first; t < q.first + q.n_tok; t++) {
        const float dt = token_row(a.dt, a.dt_stride, t)[h], x = token_row(a.x, a.x_stride, t)[r.row], in = dt * x;
        const float *b = token_row(a.b, a.b_stride, t) + group;
        const float same = a.a_per_state ? 0.0f : canon_exp(dt * rate[0]);
        UNROLL for (uint32_t j = 0; j < PER_LANE; j++) {
            const uint32_t i = j * 16 + r.lane;
            if (i < r.n) r.s[j] = fma32(r.s[j], a.a_per_state ? canon_exp(dt * rate[i]) : same, in * b[i]);
        }
        const float sum = row_dot(r, token_row(a.c, a.c_stride, t) + group);
        if (r.own && r.lane == 0) token_row_to(a.y, a.y_stride, t)[r.row] = a.d ? fma32(a.d[h], x, sum) : sum;
    }
    put_row(r);
}

KERNEL(recurrent_delta, recurrent_delta_args, RECURRENT_BLOCK) {
    const recurrent_seq q = a.seq[block_y()];
    state_row r;
    take_row(r, a.state, q.slot, a.n_head * a.d_v, a.d_k, q.fresh);
    const uint32_t h = r.row / a.d_v, key = h / (a.n_head / a.n_key_head) * a.d_k;
    for (uint32_t t = q.first; t < q.first + q.n_tok; t++) {
        const float *k = token_row(a.k, a.k_stride, t) + key;
        const float decay = canon_exp(token_row(a.g, a.g_stride, t)[h]);
        UNROLL for (uint32_t j = 0; j < PER_LANE; j++) r.s[j] = r.s[j] * decay;
        const float u = (token_row(a.v, a.v_stride, t)[r.row] - row_dot(r, k)) * token_row(a.beta, a.beta_stride, t)[h];
        UNROLL for (uint32_t j = 0; j < PER_LANE; j++) {
            const uint32_t i = j * 16 + r.lane;
            if (i < r.n) r.s[j] = fma32(u, k[i], r.s[j]);
        }
        const float y = row_dot(r, token_row(a.q, a.q_stride, t) + key);
        if (r.own && r.lane == 0) token_row_to(a.y, a.y_stride, t)[r.row] = y;
    }
    put_row(r);
}
