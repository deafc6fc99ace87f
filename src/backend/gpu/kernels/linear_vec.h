/* Quantised linear for few columns: y = W x, weights read once. The device code of linear_vec.hip and its variants.
 *
 * A team has R rows of the weight and C columns, a lane 32 neighbouring values in each step of 1024. A batch is so many steps
 * that all its weights are under way at once. Activations are staged in shared memory, a part of k at a time.
 *
 *   integers   each lane: its blocks' sums. K types: added over the 8 lanes of a super-block, by exchanges that leave lane
 *              8 g + steps * p + t with output i + p, super-block 4 t + g of the batch
 *   chain      every lane writes its blocks' factors to shared memory; lane v of the team runs output v's chain, one or two
 *              fma a block, in ascending k. Blocks past the end are +0 * -0: the identity of a sum.
 *
 * Moves: the weight's planes once, and per block of 8 rows the activations (from caches). */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_LINEAR_VEC_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_LINEAR_VEC_H

#include "linear_part.h"
#include "vec_form.h"

/* C columns, R rows of a team. */
template <vec_type T, uint32_t R, uint32_t C> struct vec_shared {
    typedef vec_form<T> F;
    static constexpr uint32_t rows = C == 1 ? LINEAR_VEC_ROWS : LINEAR_VEC4_ROWS, teams = rows / R;
    static constexpr uint32_t threads = teams * TEAM, outs = R * C;
    static constexpr uint32_t steps = C == 1 ? LOADS_AHEAD : 2, batch = steps * TEAM; /* blocks of 32 values */
    static constexpr uint32_t stage = C == 1 ? 256 : F::super ? 128 : 64;             /* blocks of 32 values a column */
    static constexpr uint32_t flush = F::super ? batch / 8 : C == 1 ? 2 * TEAM : TEAM; /* blocks in a chain */
    static constexpr uint32_t factors = F::min ? 4 : 2;
    static constexpr bool tight =
        C == 1 && (T == Q3_K || T == Q5_K || T == Q6_K); /* more than 96 registers otherwise */
    word4 lo[C][stage], hi[C][stage];                    /* codes 0-15 and 16-31 of each block */
    int32_t sum[C][stage];
    float scale[C][F::super ? stage / 8 : stage];
    float chain[teams][flush * outs * factors] __attribute__((aligned(16)));
};

/* What a block works on, the same for all its lanes. Pointers to the first of its rows. */
struct vec_job {
    gpu_weight w;                      /* planes from the first row on; n_rows: how many there are */
    const uint8_t *code, *sum, *scale; /* activations of the first column; x_stride apart */
    const uint8_t *residual;           /* 0: none */
    uint8_t *y;
    uint32_t x_stride, residual_stride, y_stride; /* bytes */
    uint32_t n_blocks, n_cols;                    /* of 32 values; columns, at most C */
};

/* --- activations ---------------------------------------------------------------------------------------------------------- */

/* v, for a kernel short of registers: made anew where it stands, not kept. */
template <class S> DEVICE uint32_t here(uint32_t v) { return S::tight ? opaque(v) : v; }

/* A lane's share of a stage, on its way to shared memory. */
template <vec_type T, uint32_t R, uint32_t C> struct vec_stage {
    typedef vec_shared<T, R, C> S;
    static constexpr uint32_t each = S::stage * C / S::threads;
    word4 lo[each], hi[each];
    int32_t sum[each];
    float scale[each];
};

template <vec_type T, uint32_t R, uint32_t C>
DEVICE void stage_load(vec_stage<T, R, C> &g, const vec_job &j, uint32_t block0) {
    typedef vec_shared<T, R, C> S;
    typedef vec_form<T> F;
    UNROLL for (uint32_t i = 0; i < g.each; i++) {
        const uint32_t at = i * S::threads + here<S>(thread_x()), c = at / S::stage, block = block0 + at % S::stage;
        if (c >= j.n_cols || block >= j.n_blocks) continue;
        const uint64_t column = (uint64_t)c * j.x_stride;
        const uint8_t *code = j.code + column + block * 32;
        g.lo[i] = *(const word4 *)code;
        g.hi[i] = *(const word4 *)(code + 16);
        if constexpr (F::sums) g.sum[i] = *(const int32_t *)(j.sum + column + block * 4);
        if constexpr (!F::super)
            g.scale[i] = *(const float *)(j.scale + column + block * 4);
        else if (block % 8 == 0)
            g.scale[i] = *(const float *)(j.scale + column + block / 2);
    }
}

template <vec_type T, uint32_t R, uint32_t C>
DEVICE void stage_store(vec_shared<T, R, C> &s, const vec_stage<T, R, C> &g, const vec_job &j, uint32_t block0) {
    typedef vec_shared<T, R, C> S;
    typedef vec_form<T> F;
    UNROLL for (uint32_t i = 0; i < g.each; i++) {
        const uint32_t all = i * S::threads + here<S>(thread_x()), c = all / S::stage, at = all % S::stage;
        if (c >= j.n_cols || block0 + at >= j.n_blocks) continue;
        s.lo[c][at] = g.lo[i];
        s.hi[c][at] = g.hi[i];
        if constexpr (F::sums) s.sum[c][at] = F::sub16 ? g.sum[i] : (int16_t)g.sum[i] + (g.sum[i] >> 16);
        if constexpr (!F::super)
            s.scale[c][at] = g.scale[i];
        else if (at % 8 == 0)
            s.scale[c][at / 8] = g.scale[i];
    }
}

/* --- chains --------------------------------------------------------------------------------------------------------------- */

/* Output `out`'s block `at` in the chain: acc = fma(a, b, acc), with a minimum then acc = fma(c, d, acc). Two blocks of two
 * factors lie together, so that either way one load takes four. */
template <vec_type T, uint32_t R, uint32_t C>
DEVICE void chain_put(float *chain, uint32_t out, uint32_t at, float a, float b, float c, float d) {
    typedef vec_shared<T, R, C> S;
    if constexpr (S::factors == 4) {
        float *to = chain + (at * S::outs + out) * 4;
        *(word4 *)to = word4{as_bits(a), as_bits(b), as_bits(c), as_bits(d)};
    } else {
        float *to = chain + ((at / 2 * S::outs + out) * 2 + at % 2) * 2;
        *(word2 *)to = word2{as_bits(a), as_bits(b)};
    }
}

template <vec_type T, uint32_t R, uint32_t C> DEVICE float chain_run(const float *chain, uint32_t out, float acc) {
    typedef vec_shared<T, R, C> S;
    constexpr uint32_t n = S::factors == 4 ? S::flush : S::flush / 2;
#pragma unroll 4
    for (uint32_t i = 0; i < n; i++) {
        const word4 f = *(const word4 *)(chain + (i * S::outs + out) * 4);
        acc = fma32(as_float(f.x), as_float(f.y), acc);
        acc = fma32(as_float(f.z), as_float(f.w), acc);
    }
    return acc;
}

/* Sums of two or four steps over the eight lanes of a super-block, so that every lane is left with another sum: first the
 * steps are spread over lanes, then N outputs side by side. See the file's head. */
template <uint32_t STEPS, uint32_t N> DEVICE int32_t spread_sum(const int32_t s[N][STEPS]) {
    static_assert(STEPS * N <= 8, "a lane for each");
    int32_t v[STEPS * N];
    UNROLL for (uint32_t i = 0; i < STEPS * N; i++) v[i] = s[i / STEPS][i % STEPS];
    UNROLL for (uint32_t mask = 1; mask < 8; mask *= 2) {
        const bool upper = thread_x() & mask;
        const uint32_t n = STEPS * N / mask; /* values still to be spread */
        if (n < 2) {
            v[0] = wrap_add(v[0], team_xor(v[0], mask));
            continue;
        }
        UNROLL for (uint32_t i = 0; i < n / 2; i++) v[i] =
            wrap_add(upper ? v[2 * i + 1] : v[2 * i], team_xor(upper ? v[2 * i] : v[2 * i + 1], mask));
    }
    return v[0];
}

/* Of a lane after spread_sum<STEPS, N>: its super-block in the batch, and its output. */
template <uint32_t STEPS> DEVICE uint32_t spread_block() {
    return (lane_in_team() & (STEPS - 1)) * 4 + (lane_in_team() >> 3);
}
template <uint32_t STEPS, uint32_t N> DEVICE uint32_t spread_out() { return (lane_in_team() & 7) / STEPS & (N - 1); }

/* --- a block's rows ------------------------------------------------------------------------------------------------------- */

template <vec_type T, uint32_t R, uint32_t C> struct vec_lane_state {
    typedef vec_shared<T, R, C> S;
    static constexpr uint32_t side =
        S::outs < 8 / S::steps ? S::outs : 8 / S::steps; /* outputs side by side in spread_sum */
    const uint8_t *plane[LINEAR_PLANES];                 /* of the batch, the first of the block's rows */
    uint32_t stride[LINEAR_PLANES], row[R];              /* rows of the lane's team, from the planes' on */
    vec_raw<T> w[R][S::steps];
    uint32_t d[R]; /* K types: d and dmin of the lane's own super-block of the batch */
    float acc;     /* lanes below R * C: the output's chain */
};

template <vec_type T, uint32_t R, uint32_t C> DEVICE vec_place place_of(const vec_lane_state<T, R, C> &l, uint32_t r) {
    vec_place p;
    vec_lane<T>(p, l.stride, here<vec_shared<T, R, C>>(l.row[r]), lane_in_team());
    return p;
}

/* d of the super-block that spread_sum leaves with this lane. C 1: of the lane's row alone. */
template <vec_type T, uint32_t R, uint32_t C> DEVICE void load_d(vec_lane_state<T, R, C> &l, uint32_t n_super) {
    typedef vec_form<T> F;
    typedef vec_lane_state<T, R, C> L;
    const uint32_t mine = spread_block<L::S::steps>();
    UNROLL for (uint32_t r = 0; r < (C == 1 ? 1 : R); r++) {
        uint32_t row = l.row[r];
        if (C == 1 && R == 2 && spread_out<L::S::steps, L::side>()) row = l.row[R - 1];
        const uint8_t *d = l.plane[3] + (here<typename L::S>(row) * l.stride[3] + mine * F::scale);
        l.d[r] = 0;
        if (mine < n_super) l.d[r] = F::min ? *(const uint32_t *)d : *(const uint16_t *)d;
    }
}

/* The batch's weights, n blocks of 32 of them: all under way at once. What is past the end is zeros. */
template <vec_type T, uint32_t R, uint32_t C> DEVICE void load_batch(vec_lane_state<T, R, C> &l, uint32_t n) {
    typedef vec_shared<T, R, C> S;
    if (n >= S::batch) {
        vec_place place[R];
        UNROLL for (uint32_t r = 0; r < R; r++) place[r] = place_of<T, R, C>(l, r);
        UNROLL for (uint32_t t = 0; t < S::steps; t++) UNROLL for (uint32_t r = 0; r < R; r++)
            vec_load<T>(l.w[r][t], l.plane, place[r], t * TEAM);
        if constexpr (S::tight) keep_order();
    } else {
        UNROLL for (uint32_t t = 0; t < S::steps; t++) {
            UNROLL for (uint32_t r = 0; r < R; r++) l.w[r][t] = {};
            if (t * TEAM + lane_in_team() >= n) continue;
            UNROLL for (uint32_t r = 0; r < R; r++) vec_load<T>(l.w[r][t], l.plane, place_of<T, R, C>(l, r), t * TEAM);
        }
    }
    if constexpr (vec_form<T>::super) load_d<T, R, C>(l, n / 8);
}

/* The integer sums of step t, blocks block0 .. of the weight, staged from `staged` on. */
template <vec_type T, uint32_t R, uint32_t C>
DEVICE void step_sums(int32_t isum[R * C][vec_shared<T, R, C>::steps], int32_t msum[R * C][vec_shared<T, R, C>::steps],
                      const vec_shared<T, R, C> &s, const vec_lane_state<T, R, C> &l, const vec_job &j, uint32_t staged,
                      uint32_t t) {
    const uint32_t at = staged + lane_in_team();
    if constexpr (vec_shared<T, R, C>::tight) { /* row by row */
        const word4 lo = s.lo[0][at], hi = s.hi[0][at];
        const int32_t asum = vec_form<T>::sums ? s.sum[0][at] : 0;
        UNROLL for (uint32_t r = 0; r < R; r++) {
            uint32_t q[8];
            vec_codes<T>(q, l.w[r][t]);
            vec_sums<T>(isum[r][t], msum[r][t], q, l.w[r][t], lo, hi, asum);
            keep_order();
        }
        return;
    }
    uint32_t q[R][8];
    UNROLL for (uint32_t r = 0; r < R; r++) vec_codes<T>(q[r], l.w[r][t]);
    UNROLL for (uint32_t c = 0; c < C; c++) {
        if (c >= j.n_cols) break;
        const word4 lo = s.lo[c][at], hi = s.hi[c][at];
        const int32_t asum = vec_form<T>::sums ? s.sum[c][at] : 0;
        UNROLL for (uint32_t r = 0; r < R; r++)
            vec_sums<T>(isum[r * C + c][t], msum[r * C + c][t], q[r], l.w[r][t], lo, hi, asum);
        keep_order();
    }
}

/* K types: a batch's sums into the chain. Outputs run over columns, then rows. */
template <vec_type T, uint32_t R, uint32_t C>
DEVICE void super_factors(vec_shared<T, R, C> &s, vec_lane_state<T, R, C> &l, const vec_job &j,
                          const int32_t isum[R * C][vec_shared<T, R, C>::steps],
                          const int32_t msum[R * C][vec_shared<T, R, C>::steps], uint32_t block0, uint32_t staged) {
    typedef vec_form<T> F;
    typedef vec_lane_state<T, R, C> L;
    constexpr uint32_t steps = L::S::steps, side = L::side;
    static_assert(C == 1 || C % side == 0, "side by side: one row's columns");
    const uint32_t mine = spread_block<steps>(), second = spread_out<steps, side>();
    const bool in = block0 / 8 + mine < j.n_blocks / 8, puts = (lane_in_team() & 7) < steps * side;
    UNROLL for (uint32_t i = 0; i < L::S::outs; i += side) {
        keep_order();
        const int32_t sum = spread_sum<steps, side>(isum + i);
        keep_order();
        const int32_t min = F::min ? spread_sum<steps, side>(msum + i) : 0;
        const uint32_t out = i + second, dm = l.d[C == 1 ? 0 : i / C];
        const float dx = s.scale[C == 1 ? 0 : out % C][staged / 8 + mine];
        const float d = from_f16((uint16_t)dm) * dx, m = -(from_f16((uint16_t)(dm >> 16)) * dx);
        if (puts)
            chain_put<T, R, C>(s.chain[team_in_block()], out, mine, in ? d : 0.0f, in ? (float)sum : -0.0f,
                               in ? m : 0.0f, in ? (float)min : -0.0f);
    }
}

/* Blocks of 32: a step's sums into the chain. */
template <vec_type T, uint32_t R, uint32_t C>
DEVICE void block_factors(vec_shared<T, R, C> &s, const vec_lane_state<T, R, C> &l, const vec_job &j,
                          const int32_t isum[R * C][vec_shared<T, R, C>::steps], uint32_t block0, uint32_t staged,
                          uint32_t t) {
    typedef vec_form<T> F;
    const uint32_t lane = lane_in_team(), at = staged + lane;
    const bool in = block0 + lane < j.n_blocks;
    UNROLL for (uint32_t c = 0; c < C; c++) {
        const float dx = s.scale[c][at], sum = F::min ? dx * (float)s.sum[c][at] : 0.0f;
        UNROLL for (uint32_t r = 0; r < R; r++) {
            const uint32_t dm = l.w[r][t].sub;
            const float d = from_f16((uint16_t)dm) * dx, m = F::min ? from_f16((uint16_t)(dm >> 16)) : 0.0f;
            const float i = (float)isum[r * C + c][t];
            chain_put<T, R, C>(s.chain[team_in_block()], r * C + c,
                               t * TEAM % (uint32_t)vec_shared<T, R, C>::flush + lane, in ? d : 0.0f, in ? i : -0.0f,
                               in ? m : 0.0f, in ? sum : -0.0f);
        }
    }
}

template <vec_type T, uint32_t R, uint32_t C>
DEVICE void run_chains(vec_shared<T, R, C> &s, vec_lane_state<T, R, C> &l) {
    team_sync();
    if (lane_in_team() < R * C) l.acc = chain_run<T, R, C>(s.chain[team_in_block()], lane_in_team(), l.acc);
    team_sync();
}

template <vec_type T, uint32_t R, uint32_t C>
DEVICE void vec_batch(vec_shared<T, R, C> &s, vec_lane_state<T, R, C> &l, const vec_job &j, uint32_t block0,
                      uint32_t staged) {
    typedef vec_shared<T, R, C> S;
    int32_t isum[R * C][vec_shared<T, R, C>::steps] = {}, msum[R * C][vec_shared<T, R, C>::steps] = {};
    UNROLL for (uint32_t t = 0; t < S::steps; t++) {
        const uint32_t at = t * TEAM;
        step_sums<T, R, C>(isum, msum, s, l, j, staged + at, t);
        if constexpr (!vec_form<T>::super) {
            block_factors<T, R, C>(s, l, j, isum, block0 + at, staged + at, t);
            if ((at + TEAM) % S::flush == 0 && block0 + at + TEAM - S::flush < j.n_blocks) run_chains<T, R, C>(s, l);
        }
    }
    if constexpr (vec_form<T>::super) {
        super_factors<T, R, C>(s, l, j, isum, msum, block0, staged);
        run_chains<T, R, C>(s, l);
    }
}

/* Lane v of a team has output v: row v / C of the team, column v % C. */
template <vec_type T, uint32_t R, uint32_t C> DEVICE void vec_store(const vec_job &j, float acc) {
    const uint32_t lane = lane_in_team(), row = team_in_block() * R + lane / C, c = lane % C;
    if (lane >= R * C || row >= j.w.n_rows || c >= j.n_cols) return;
    const uint64_t col = c;
    if (j.residual) acc = acc + *(const float *)(j.residual + col * j.residual_stride + row * 4);
    *(float *)(j.y + col * j.y_stride + row * 4) = acc;
}

template <vec_type T, uint32_t R, uint32_t C> DEVICE void vec_begin(vec_lane_state<T, R, C> &l, const vec_job &j) {
    UNROLL for (uint32_t r = 0; r < R; r++) { /* rows past the end read the first one and store nothing */
        const uint32_t row = team_in_block() * R + r;
        l.row[r] = row < j.w.n_rows ? row : 0;
    }
    UNROLL for (int p = 0; p < LINEAR_PLANES; p++) {
        l.plane[p] = j.w.plane[p];
        l.stride[p] = j.w.stride[p];
    }
    l.acc = 0.0f;
}

template <vec_type T, uint32_t R, uint32_t C> DEVICE void vec_run(vec_shared<T, R, C> &s, const vec_job &j) {
    typedef vec_shared<T, R, C> S;
    vec_lane_state<T, R, C> l;
    vec_begin<T, R, C>(l, j);
    for (uint32_t block0 = 0; block0 < j.n_blocks; block0 += S::batch) {
        const uint32_t staged = block0 % S::stage;
        if (staged == 0) { /* the activations' loads before the weights', which take longer */
            vec_stage<T, R, C> g;
            stage_load<T, R, C>(g, j, block0);
            load_batch<T, R, C>(l, j.n_blocks - block0);
            if (block0) barrier();
            stage_store<T, R, C>(s, g, j, block0);
            barrier();
        } else {
            load_batch<T, R, C>(l, j.n_blocks - block0);
        }
        vec_batch<T, R, C>(s, l, j, block0, staged);
        vec_advance<T>(l.plane, S::batch);
    }
    vec_store<T, R, C>(j, l.acc);
}

/* Moves a weight's planes to row `first`, n_rows of it left, at most rows_of_block. */
DEVICE void vec_from_row(gpu_weight &w, uint32_t first, uint32_t rows_of_block) {
    UNROLL for (int p = 0; p < LINEAR_PLANES; p++) w.plane[p] += (uint64_t)first * w.stride[p];
    w.n_rows = min32(w.n_rows - first, rows_of_block);
}

template <vec_type T, uint32_t R, uint32_t C> DEVICE void linear_vec(vec_shared<T, R, C> &s, const linear_args &a) {
    vec_job j;
    const uint32_t first = linear_vec_part(j.w, a, s.rows), col0 = block_y() * C;
    const uint64_t column = (uint64_t)(j.w.y_column + first) * 4;
    if (first >= j.w.n_rows || col0 >= a.n_cols) return; /* all lanes: no such block was asked for */
    vec_from_row(j.w, first, s.rows);
    j.code = a.x + (uint64_t)col0 * a.x_stride;
    j.sum = j.code + gpu_act_sums(a.k);
    j.scale = j.code + gpu_act_scales(a.k);
    j.residual = a.residual ? (const uint8_t *)a.residual + (uint64_t)col0 * a.residual_stride + column : nullptr;
    j.y = (uint8_t *)a.y + (uint64_t)col0 * a.y_stride + column;
    j.x_stride = a.x_stride;
    j.residual_stride = a.residual_stride;
    j.y_stride = a.y_stride;
    j.n_blocks = a.k / 32;
    j.n_cols = min32(a.n_cols - col0, C);
    vec_run<T, R, C>(s, j);
}

/* One column, one expert: block_y is the row of the step times n_used plus the slot. */
template <vec_type T, uint32_t R> DEVICE void linear_vec_expert(vec_shared<T, R, 1> &s, const linear_expert_args &a) {
    const uint32_t tok = block_y() / a.n_used, slot = block_y() % a.n_used, first = block_x() * LINEAR_VEC_ROWS;
    vec_job j = {};
    j.w = a.w;
    if (first >= j.w.n_rows || tok >= a.n_tok) return;
    const uint32_t expert = linear_expert_at(a, tok, slot);
    j.y = (uint8_t *)a.y + (uint64_t)tok * a.y_stride + ((uint64_t)slot * j.w.n_rows + first) * 4;
    UNROLL for (int p = 0; p < LINEAR_PLANES; p++) j.w.plane[p] += expert * a.expert_stride[p];
    vec_from_row(j.w, first, LINEAR_VEC_ROWS);
    const uint32_t width = a.per_slot ? a.k * a.n_used : a.k, from = a.per_slot ? a.k * slot : 0;
    const uint8_t *x = a.x + (uint64_t)tok * a.x_stride;
    j.code = x + from;
    j.sum = x + gpu_act_sums(width) + from / 8;
    j.scale = x + gpu_act_scales(width) + from / (vec_form<T>::super ? 256 : 32) * 4;
    j.n_blocks = a.k / 32;
    j.n_cols = 1;
    vec_run<T, R, 1>(s, j);
}

#endif
