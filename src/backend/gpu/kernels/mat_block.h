/* The body of the matrix kernels: a block makes ROWS x COLS outputs, walking k in stages of 128 values.
 *
 *   global memory --mat_fetch--> registers --mat_stage--> shared memory --mat_multiply--> sums in registers --mat_write--> y
 *
 * While a stage is multiplied the next one's bytes are under way. Weights become signed bytes once a block (mat_form.h); what
 * belongs to rows or columns alone (scales as f32, sums of codes) is made then too. The order of every f32 sum is that of
 * cpu/linear_ref.c: a lane owns its outputs over all of k. What a type with minima adds for a super-block,
 * sum_s mn[s] * asum[s], is one more small tile product: asum is cut into signed bytes, asum = 64 hi + lo.
 *
 * Shared memory: at most 30 KiB, so that two blocks fit where there are 64 KiB. Moves, for R x C outputs: weights once for
 * every COLS columns, activations once for every ROWS rows, mostly from cache. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_MAT_BLOCK_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_MAT_BLOCK_H

#include "mat_form.h"
#include "mat_place.h"
#include "tile.h"

enum { STAGE = 128, STAGE_BLOCKS = STAGE / 32 };

template <class F_, int ROWS_, int COLS_, int THREADS_> struct mat_shape {
    typedef F_ F;
    enum { ROWS = ROWS_, COLS = COLS_, THREADS = THREADS_, WAVES = THREADS / WAVE };
    enum { WAVES_X = COLS >= 32 ? 2 : 1, WAVES_W = WAVES / WAVES_X };         /* how waves share the block's tiles */
    enum { MT = ROWS / TILE / WAVES_W, NT = COLS / TILE / WAVES_X };          /* tiles of a wave */
    enum { W_LOADS = ROWS * STAGE_BLOCKS / THREADS, X_LOADS = COLS * TILE_CHUNKS / THREADS }; /* of a thread, a stage */
    enum { SCALES = F::SUPER ? 1 : STAGE_BLOCKS };                            /* f32 scales of a row in shared memory */
    static_assert(W_LOADS * THREADS == ROWS * STAGE_BLOCKS && X_LOADS * THREADS == COLS * TILE_CHUNKS, "whole loads");
    static_assert(MT * WAVES_W * TILE == ROWS && NT * WAVES_X * TILE == COLS, "whole tiles");
    static_assert(ROWS + 2 * COLS <= THREADS, "one thread a row, two a column");
};

template <class S> struct mat_shared {
    enum { SUPER = S::F::SUPER, MIN = S::F::MIN, SMALL = SUPER && (MIN || S::F::SUB != 0) };
    word4 w[S::ROWS * TILE_CHUNKS], x[S::COLS * TILE_CHUNKS];
    word4 small[SMALL ? S::ROWS : 1];                                     /* plane 2, for Q2_K only the minima */
    word4 lo[SMALL && MIN ? S::COLS : 1], hi[SMALL && MIN ? S::COLS : 1]; /* sums of codes, where `small` has minima */
    float d[S::SCALES][S::ROWS], m[MIN ? S::SCALES : 1][S::ROWS];
    float dx[S::SCALES][S::COLS], xs[MIN && !SUPER ? S::SCALES : 1][S::COLS]; /* xs: dx * sum of codes */
};

/* A thread's pieces of a stage, and where they come from. `side`: the first ROWS threads have a row's scales, the next
 * 2 COLS half a column's. */
template <class S> struct mat_fetched {
    mat_raw<typename S::F> w[S::W_LOADS];
    word4 x[S::X_LOADS], side;
    uint32_t side2;
};
/* In bytes from where the tile's rows begin in their planes, and from x: less than 4 GiB. */
template <class S> struct mat_sources {
    uint32_t low[S::W_LOADS], high[S::W_LOADS], scales[S::W_LOADS], x[S::X_LOADS], side, side2;
};

template <class S> struct mat_sums {
    float f[S::MT][S::NT][TILE_SUMS];
    tile_regs i[S::F::SUPER ? S::MT : 1][S::F::SUPER ? S::NT : 1];
};

/* Half `h` of a column's scales and sums: for super-blocks eight sums, and the scale of both halves; else two blocks' scales
 * and sums. */
template <class S> DEVICE void mat_column_source(mat_sources<S> &src, const mat_place &p, const linear_mat_args &a, uint32_t i) {
    uint32_t slot;
    const uint32_t row = mat_x_row(p, a, i >> 1, &slot), per_scale = S::F::SUPER ? 256 : 32;
    src.side = row + gpu_act_sums(p.width) + slot * (p.k / 8) + (S::F::SUPER ? (i & 1) * 16 : 0);
    src.side2 = row + gpu_act_scales(p.width) + slot * (p.k / per_scale * 4);
}

template <class S> DEVICE void mat_open(mat_sources<S> &src, mat_place &p, const linear_mat_args &a) {
    const uint32_t t = thread_x(), last = p.w.n_rows - 1 - p.row0; /* of the tile's rows; what is past it reads it again */
    UNROLL for (int i = 0; i < LINEAR_PLANES; i++) p.w.plane[i] += (uint64_t)p.row0 * p.w.stride[i];
    UNROLL for (int i = 0; i < S::W_LOADS; i++) {
        const uint32_t row = min32(t / STAGE_BLOCKS + i * (S::THREADS / STAGE_BLOCKS), last);
        src.low[i] = row * p.w.stride[0];
        src.high[i] = row * p.w.stride[1];
        src.scales[i] = row * p.w.stride[2];
    }
    UNROLL for (int i = 0; i < S::X_LOADS; i++) {
        uint32_t slot;
        src.x[i] = mat_x_row(p, a, t / TILE_CHUNKS + i * (S::THREADS / TILE_CHUNKS), &slot);
        src.x[i] += slot * p.k;
    }
    if (t < S::ROWS) {
        src.side = min32(t, last) * p.w.stride[2];
        src.side2 = min32(t, last) * p.w.stride[3];
    } else {
        mat_column_source<S>(src, p, a, min32(t - S::ROWS, 2 * S::COLS - 1));
    }
}

/* Scales of super-block `at`. */
template <class S> DEVICE void mat_fetch_super(mat_fetched<S> &f, const mat_sources<S> &src, const mat_place &p, uint32_t at) {
    typedef typename S::F F;
    if (thread_x() < S::ROWS) {
        const uint8_t *d = p.w.plane[3] + at * (F::MIN ? 4 : 2) + src.side2;
        if constexpr (F::MIN || F::SUB != 0) f.side = *(const word4 *)(p.w.plane[2] + at * 16 + src.side);
        f.side2 = F::MIN ? *(const uint32_t *)d : *(const uint16_t *)d;
    } else {
        if constexpr (F::MIN) f.side = *(const word4 *)(p.x + at * 32 + src.side);
        f.side2 = *(const uint32_t *)(p.x + at * 4 + src.side2);
    }
}

/* Scales of a stage's four blocks; a column's half has two. */
template <class S> DEVICE void mat_fetch_blocks(mat_fetched<S> &f, const mat_sources<S> &src, const mat_place &p, uint32_t stage) {
    typedef typename S::F F;
    if (thread_x() < S::ROWS) {
        if constexpr (F::MIN) f.side = *(const word4 *)(p.w.plane[3] + stage * 16 + src.side2);
        if constexpr (!F::MIN) {
            const word2 v = *(const word2 *)(p.w.plane[3] + stage * 8 + src.side2);
            f.side[0] = v[0], f.side[1] = v[1];
        }
        return;
    }
    UNROLL for (uint32_t i = 0; i < 2; i++) {
        const uint32_t block = min32(stage * STAGE_BLOCKS + ((thread_x() - S::ROWS) & 1) * 2 + i, p.k / 32 - 1);
        f.side[i] = *(const uint32_t *)(p.x + src.side2 + block * 4);
        if constexpr (F::MIN) f.side[2 + i] = *(const uint32_t *)(p.x + src.side + block * 4);
    }
}

template <class S> DEVICE void mat_fetch(mat_fetched<S> &f, const mat_sources<S> &src, const mat_place &p, uint32_t stage) {
    typedef typename S::F F;
    const uint32_t t = thread_x(), last = p.k / 32 - 1, block = stage * STAGE_BLOCKS + t % STAGE_BLOCKS;
    const uint32_t chunk = stage * TILE_CHUNKS + t % TILE_CHUNKS;
    UNROLL for (int i = 0; i < S::W_LOADS; i++)
        mat_load<F>(f.w[i], p.w.plane, src.low[i], src.high[i], src.scales[i], F::SUPER ? block : min32(block, last));
    UNROLL for (int i = 0; i < S::X_LOADS; i++)
        f.x[i] = *(const word4 *)(p.x + (src.x[i] + (F::SUPER ? chunk : min32(chunk, 2 * last + 1)) * 16));
    if constexpr (!F::SUPER) mat_fetch_blocks<S>(f, src, p, stage);
    if constexpr (F::SUPER) {
        if (stage % 2 == 0) mat_fetch_super<S>(f, src, p, stage / 2);
    }
}

/* Sums of codes of eight or, of a pair of sixteens, four sub-blocks as two signed bytes each, at their minima's places. */
template <class S> DEVICE void mat_stage_sums(mat_shared<S> &s, const word4 &sums, uint32_t col, uint32_t half) {
    uint32_t lo[2] = {0, 0}, hi[2] = {0, 0};
    UNROLL for (uint32_t i = 0; i < 4; i++) {
        const int32_t a = (int16_t)sums[i], b = (int16_t)(sums[i] >> 16);
        if constexpr (S::F::SUB == 0) {
            lo[i >> 1] |= (uint32_t)((a & 63) | (b & 63) << 8) << 16 * (i & 1);
            hi[i >> 1] |= ((uint32_t)(a >> 6 & 255) | (uint32_t)(b >> 6 & 255) << 8) << 16 * (i & 1);
        } else {
            lo[0] |= (uint32_t)((a + b) & 63) << 8 * i;
            hi[0] |= (uint32_t)((a + b) >> 6 & 255) << 8 * i;
        }
    }
    uint32_t *to_lo = (uint32_t *)&s.lo[col], *to_hi = (uint32_t *)&s.hi[col];
    if constexpr (S::F::SUB == 0) {
        to_lo[2 * half] = lo[0], to_lo[2 * half + 1] = lo[1];
        to_hi[2 * half] = hi[0], to_hi[2 * half + 1] = hi[1];
    } else { /* the first eight bytes of plane 2 are scales: they meet zeros */
        to_lo[half] = 0, to_lo[2 + half] = lo[0];
        to_hi[half] = 0, to_hi[2 + half] = hi[0];
    }
}

template <class S> DEVICE void mat_stage_super(mat_shared<S> &s, const mat_fetched<S> &f) {
    typedef typename S::F F;
    const uint32_t t = thread_x(), i = t - S::ROWS;
    if (t < S::ROWS) {
        if constexpr (F::MIN || F::SUB != 0) s.small[t] = F::SUB != 0 ? f.side : f.side >> 4 & 0x0f0f0f0fu;
        s.d[0][t] = from_f16((uint16_t)f.side2);
        if constexpr (F::MIN) s.m[0][t] = from_f16((uint16_t)(f.side2 >> 16));
    } else if (i < 2 * S::COLS) {
        if (i % 2 == 0) s.dx[0][i >> 1] = as_float(f.side2);
        if constexpr (F::MIN) mat_stage_sums<S>(s, f.side, i >> 1, i & 1);
    }
}

template <class S> DEVICE void mat_stage_blocks(mat_shared<S> &s, const mat_fetched<S> &f) {
    typedef typename S::F F;
    const uint32_t t = thread_x(), i = t - S::ROWS;
    if (t < S::ROWS) {
        UNROLL for (uint32_t b = 0; b < STAGE_BLOCKS; b++) {
            if constexpr (F::MIN) s.m[b][t] = from_f16((uint16_t)(f.side[b] >> 16));
            s.d[b][t] = from_f16((uint16_t)(F::MIN ? f.side[b] : f.side[b >> 1] >> 16 * (b & 1)));
        }
    } else if (i < 2 * S::COLS) {
        UNROLL for (uint32_t j = 0; j < 2; j++) {
            const uint32_t b = (i & 1) * 2 + j;
            const float dx = as_float(f.side[j]);
            s.dx[b][i >> 1] = dx;
            if constexpr (F::MIN)
                s.xs[b][i >> 1] = dx * (float)((int16_t)f.side[2 + j] + (int16_t)(f.side[2 + j] >> 16));
        }
    }
}

template <class S> DEVICE void mat_stage(mat_shared<S> &s, const mat_fetched<S> &f, uint32_t stage) {
    typedef typename S::F F;
    const uint32_t t = made_here(thread_x());
    UNROLL for (int i = 0; i < S::W_LOADS; i++) {
        const uint32_t row = t / STAGE_BLOCKS + i * (S::THREADS / STAGE_BLOCKS), chunk = t % STAGE_BLOCKS * 2;
        word4 v[2];
        mat_unpack<F>(v, f.w[i]);
        s.w[tile_at<TILE_CODES>(row, chunk)] = v[0];
        s.w[tile_at<TILE_CODES>(row, chunk + 1)] = v[1];
    }
    UNROLL for (int i = 0; i < S::X_LOADS; i++) {
        const uint32_t row = t / TILE_CHUNKS + i * (S::THREADS / TILE_CHUNKS);
        s.x[tile_at<TILE_CODES>(row, t % TILE_CHUNKS)] = f.x[i];
    }
    if constexpr (!F::SUPER) mat_stage_blocks<S>(s, f);
    if constexpr (F::SUPER) {
        if (stage % 2 == 0) mat_stage_super<S>(s, f);
    }
}

/* First row and first column of this wave in the block. */
template <class S> DEVICE uint32_t mat_wave_row(uint32_t t) { return t / WAVE / S::WAVES_X * (S::MT * TILE); }
template <class S> DEVICE uint32_t mat_wave_col(uint32_t t) { return t / WAVE % S::WAVES_X * (S::NT * TILE); }

template <class S> struct mat_operands {
    tile_w w[S::MT];
    tile_x x[S::NT];
};
template <class S> DEVICE void mat_operands_load(mat_operands<S> &o, const mat_shared<S> &s, uint32_t t, uint32_t chunk) {
    UNROLL for (int m = 0; m < S::MT; m++) o.w[m] = tile_load_w<TILE_CODES>(t % WAVE, s.w, mat_wave_row<S>(t) + m * TILE, chunk);
    UNROLL for (int n = 0; n < S::NT; n++) o.x[n] = tile_load_x<TILE_CODES>(t % WAVE, s.x, mat_wave_col<S>(t) + n * TILE, chunk);
}

/* sums += scale of each row, byte `at` of its word, times the tile's sums */
DEVICE void mat_add_scaled(tile_regs &sum, const tile_regs &c, const uint32_t *words, uint32_t at) {
    UNROLL for (int w = 0; w < TILE_W; w++) {
        const int32_t sc = (int8_t)(words[w] >> 8 * at);
        UNROLL for (int x = 0; x < TILE_X; x++) sum[w * TILE_X + x] = mad24(c[w * TILE_X + x], sc, sum[w * TILE_X + x]);
    }
}

/* A stage of a super-block: integers only. half: which of its two stages. */
template <class S> DEVICE void mat_multiply_super(mat_sums<S> &a, const mat_shared<S> &s, uint32_t t, uint32_t half) {
    typedef typename S::F F;
    enum { WORDS = F::SUB == 16 ? 2 : 1 }; /* scales of a row in a stage */
    uint32_t sc[S::MT][WORDS][TILE_W];
    UNROLL for (int m = 0; m < S::MT; m++)
        UNROLL for (int w = 0; w < TILE_W; w++)
            UNROLL for (int i = 0; i < WORDS && F::SUB != 0; i++) {
                const uint32_t *row = (const uint32_t *)&s.small[mat_wave_row<S>(t) + m * TILE + tile_row(t % WAVE, w)];
                sc[m][i][w] = row[half * WORDS + i];
            }
    UNROLL for (uint32_t b = 0; b < STAGE_BLOCKS; b++) {
        mat_operands<S> o;
        mat_operands_load<S>(o, s, t, 2 * b);
        UNROLL for (int m = 0; m < S::MT; m++) {
            UNROLL for (int n = 0; n < S::NT; n++) {
                const tile_regs zero = tile_fill(0);
                if constexpr (F::SUB == 0) a.i[m][n] = tile_mma(a.i[m][n], o.w[m], o.x[n]);
                if constexpr (F::SUB == 32) mat_add_scaled(a.i[m][n], tile_mma(zero, o.w[m], o.x[n]), sc[m][0], b);
                if constexpr (F::SUB == 16) {
                    const uint32_t at = 2 * b % 4;
                    mat_add_scaled(a.i[m][n], tile_mma_half<0>(zero, o.w[m], o.x[n]), sc[m][b / 2], at);
                    mat_add_scaled(a.i[m][n], tile_mma_half<1>(zero, o.w[m], o.x[n]), sc[m][b / 2], at + 1);
                }
            }
            tile_step_end();
        }
    }
}

/* sum_s mn[s] * asum[s] of a tile */
template <class S> DEVICE tile_regs mat_minimum(const mat_shared<S> &s, uint32_t t, uint32_t row0, uint32_t col0) {
    const tile_w mn = tile_load_w<TILE_SMALL>(t % WAVE, s.small, row0, 0);
    const tile_regs zero = tile_fill(0);
    const tile_regs lo = tile_mma_half<0>(zero, mn, tile_load_x<TILE_SMALL>(t % WAVE, s.lo, col0, 0));
    const tile_regs hi = tile_mma_half<0>(zero, mn, tile_load_x<TILE_SMALL>(t % WAVE, s.hi, col0, 0));
    return lo + hi * 64;
}

/* The end of a super-block: its integers go into the f32 sums. */
template <class S> DEVICE void mat_finish_super(mat_sums<S> &a, const mat_shared<S> &s, uint32_t t) {
    typedef typename S::F F;
    UNROLL for (int m = 0; m < S::MT; m++)
        UNROLL for (int n = 0; n < S::NT; n++) {
            const uint32_t row0 = mat_wave_row<S>(t) + m * TILE, col0 = mat_wave_col<S>(t) + n * TILE;
            tile_regs least = tile_fill(0);
            if constexpr (F::MIN) least = mat_minimum<S>(s, t, row0, col0);
            UNROLL for (int w = 0; w < TILE_W; w++)
                UNROLL for (int x = 0; x < TILE_X; x++) {
                    const int i = w * TILE_X + x;
                    const uint32_t row = row0 + tile_row(t % WAVE, w);
                    const float dx = s.dx[0][col0 + tile_col(t % WAVE, x)];
                    const int32_t isum = F::SIGN < 0 ? -a.i[m][n][i] : a.i[m][n][i];
                    a.f[m][n][i] = fma32(s.d[0][row] * dx, (float)isum, a.f[m][n][i]);
                    if constexpr (F::MIN) a.f[m][n][i] = fma32(-(s.m[0][row] * dx), (float)least[i], a.f[m][n][i]);
                }
            a.i[m][n] = tile_fill(0);
        }
}

/* One block of 32 of the stage. */
template <class S> DEVICE void mat_multiply_block(mat_sums<S> &a, const mat_shared<S> &s, uint32_t t, uint32_t b) {
    typedef typename S::F F;
    mat_operands<S> o;
    mat_operands_load<S>(o, s, t, 2 * b);
    UNROLL for (int m = 0; m < S::MT; m++)
        UNROLL for (int n = 0; n < S::NT; n++) {
            const tile_regs c = tile_mma(tile_fill(TILE_FLOAT_ZERO), o.w[m], o.x[n]);
            UNROLL for (int w = 0; w < TILE_W; w++)
                UNROLL for (int x = 0; x < TILE_X; x++) {
                    const int i = w * TILE_X + x;
                    const uint32_t row = mat_wave_row<S>(t) + m * TILE + tile_row(t % WAVE, w);
                    const uint32_t col = mat_wave_col<S>(t) + n * TILE + tile_col(t % WAVE, x);
                    a.f[m][n][i] = fma32(s.d[b][row] * s.dx[b][col], tile_float(c[i]), a.f[m][n][i]);
                    if constexpr (F::MIN) a.f[m][n][i] = fma32(s.m[b][row], s.xs[b][col], a.f[m][n][i]);
                }
        }
}

template <class S> DEVICE void mat_multiply(mat_sums<S> &a, const mat_shared<S> &s, uint32_t stage, uint32_t n_block) {
    const uint32_t t = made_here(thread_x());
    if constexpr (S::F::SUPER) {
        mat_multiply_super<S>(a, s, t, stage % 2);
        if (stage % 2 == 1) mat_finish_super<S>(a, s, made_here(t));
    } else {
        UNROLL for (uint32_t b = 0; b < STAGE_BLOCKS; b++)
            if (stage * STAGE_BLOCKS + b < n_block) mat_multiply_block<S>(a, s, t, b);
    }
}

template <class S> DEVICE void mat_write(const mat_sums<S> &sums, const mat_place &p, const linear_mat_args &a) {
    const uint32_t t = made_here(thread_x());
    const uint8_t *residual = (const uint8_t *)a.lin.residual;
    UNROLL for (int n = 0; n < S::NT; n++)
        UNROLL for (int x = 0; x < TILE_X; x++) {
            const uint32_t col = p.col0 + mat_wave_col<S>(t) + n * TILE + tile_col(t % WAVE, x);
            if (col >= p.n_cols) continue;
            float *y = mat_y(p, a, col);
            const float *add = (const float *)(residual + (uint64_t)col * a.lin.residual_stride) + p.w.y_column;
            UNROLL for (int m = 0; m < S::MT; m++)
                UNROLL for (int w = 0; w < TILE_W; w++) {
                    const uint32_t row = p.row0 + mat_wave_row<S>(t) + m * TILE + tile_row(t % WAVE, w);
                    const float v = sums.f[m][n][w * TILE_X + x];
                    if (row < p.w.n_rows) y[row] = residual ? v + add[row] : v;
                }
        }
}

template <class S> DEVICE void mat_run(mat_shared<S> &s, const linear_mat_args &args) {
    mat_place p;
    if (!mat_find<S>(p, args)) return; /* the whole block */
    const uint32_t n_block = p.k / 32, n_stage = (p.k + STAGE - 1) / STAGE;
    mat_sources<S> src;
    mat_fetched<S> f;
    mat_sums<S> a;
    mat_open<S>(src, p, args);
    mat_fetch<S>(f, src, p, 0);
    UNROLL for (int m = 0; m < S::MT; m++)
        UNROLL for (int n = 0; n < S::NT; n++) {
            UNROLL for (int i = 0; i < TILE_SUMS; i++) a.f[m][n][i] = 0.0f;
            if constexpr (S::F::SUPER) a.i[m][n] = tile_fill(0);
        }
    _Pragma("unroll 1") for (uint32_t stage = 0; stage < n_stage; stage++) {
        barrier();
        mat_stage<S>(s, f, stage);
        barrier();
        if (stage + 1 < n_stage) mat_fetch<S>(f, src, p, stage + 1);
        mat_multiply<S>(a, s, stage, n_block);
    }
    mat_write<S>(a, p, args);
}

template <class F> DEVICE void mat_many(const linear_mat_args &a) {
    typedef mat_shape<F, LINEAR_MAT_ROWS, LINEAR_MAT_COLS, LINEAR_MAT_THREADS> S;
    SHARED mat_shared<S> s;
    mat_run<S>(s, a);
}
template <class F> DEVICE void mat_few(const linear_mat_args &a) {
    typedef mat_shape<F, LINEAR_MAT_FEW_ROWS, LINEAR_MAT_FEW_COLS, LINEAR_MAT_FEW_THREADS> S;
    SHARED mat_shared<S> s;
    mat_run<S>(s, a);
}

#endif
