/* Rows of f32 to int8 codes with their scales and sums, as the CPU makes them (backend/cpu/ref.c, quantize_ref). A team takes
 * a unit of 256 values (quantize_unit.h).
 *
 * The norm's sum of squares is sixteen partial sums, each one chain over the row: a block stages the row in shared memory and
 * sixteen lanes run the chains from there.
 * Moves: 4 bytes a value in (8 with two inputs), a little over 1 out. */
#include "args_quantize.h"
#include "quantize_unit.h"

enum { NORM_TILE = 8192, NORM_TEAMS = QUANTIZE_BLOCK / TEAM };

/* --- one value from one or two ------------------------------------------------------------------------------------------ */

enum quantize_op { PLAIN, SWIGLU, GEGLU };

DEVICE const float *row_of(const float *p, uint32_t stride) {
    return (const float *)((const uint8_t *)p + (uint64_t)stride * block_y());
}

DEVICE void put_row_unit(const quantize_args &a, const eight &e, uint32_t at) {
    put_unit_any(a.y + (uint64_t)a.y_stride * block_y(), e, at, a.k, a.scale_block);
}

template <quantize_op OP> DEVICE void quantize_tile(const quantize_args &a) {
    const uint32_t at = block_x() * QUANTIZE_TILE + thread_x() * EACH;
    eight e = {};
    if (at < a.k) {
        e = load_eight(row_of(a.a, a.a_stride) + at);
        if constexpr (OP != PLAIN) {
            const eight u = load_eight(row_of(a.b, a.b_stride) + at);
            UNROLL for (int i = 0; i < EACH; i++) e.v[i] =
                (OP == SWIGLU ? canon_silu(e.v[i]) : canon_gelu(e.v[i])) * u.v[i];
        }
    }
    put_row_unit(a, e, at);
}

KERNEL(quantize_rows, quantize_args, QUANTIZE_BLOCK) { quantize_tile<PLAIN>(a); }
KERNEL(quantize_swiglu, quantize_args, QUANTIZE_BLOCK) { quantize_tile<SWIGLU>(a); }
KERNEL(quantize_geglu, quantize_args, QUANTIZE_BLOCK) { quantize_tile<GEGLU>(a); }

/* --- norm ------------------------------------------------------------------------------------------------------------------ */

struct norm_shared {
    float x[NORM_TILE] __attribute__((aligned(16)));
    float factor[QUANTIZE_GROUPS]; /* 1 / sqrt(mean + eps) of each group */
};

/* Sum v^2 of v[lane mod 16], v[+16], ... below n on top of acc, an ascending chain. */
DEVICE float squares(float acc, const float *v, uint32_t n) {
    const uint32_t mine = thread_x() & 15;
    uint32_t i = mine;
    for (; i + 31 * 16 < n; i += 32 * 16) {
        float x[32];
        UNROLL for (uint32_t u = 0; u < 32; u++) x[u] = v[i + u * 16];
        UNROLL for (uint32_t u = 0; u < 32; u++) acc = fma32(x[u], x[u], acc);
    }
    for (; i < n; i += 16) acc = fma32(v[i], v[i], acc);
    return acc;
}

DEVICE float norm_factor(float acc, uint32_t n, float eps) {
    return 1.0f / canon_sqrt(half_team_sum(acc) / (float)n + eps);
}

/* One group a row, staged tile by tile; what is left staged is the last tile. */
DEVICE void norm_whole(norm_shared &s, const float *x, const quantize_args &a) {
    float acc = 0.0f;
    for (uint32_t at = 0; at < a.k; at += NORM_TILE) {
        const uint32_t n = min32(a.k - at, NORM_TILE);
        if (at) barrier();
#pragma unroll 4
        for (uint32_t i = thread_x() * 4; i < n; i += QUANTIZE_BLOCK * 4)
            *(word4 *)&s.x[i] = *(const word4 *)(x + at + i);
        barrier();
        if (team_in_block() == 0) acc = squares(acc, s.x, n);
    }
    const float f = norm_factor(acc, a.k, a.eps);
    if (thread_x() == 0) s.factor[0] = f;
}

/* Groups by half teams, from memory. */
DEVICE void norm_groups(norm_shared &s, const float *x, const quantize_args &a) {
    const uint32_t n = a.k / a.group;
    for (uint32_t g0 = 0; g0 < n; g0 += NORM_TEAMS * 2) {
        const uint32_t g = g0 + (thread_x() >> 4);
        const float acc = g < n ? squares(0.0f, x + (uint64_t)g * a.group, a.group) : 0.0f;
        const float f = norm_factor(acc, a.group, a.eps);
        if (g < n && (thread_x() & 15) == 0) s.factor[g] = f;
    }
}

/* Eight values times their factor and weight; they may lie in different groups. */
DEVICE void scale_eight(eight &e, const norm_shared &s, const quantize_args &a, uint32_t at) {
    if (a.group >= a.k) {
        const eight w = a.b ? load_eight(a.b + at) : eight{};
        UNROLL for (int i = 0; i < EACH; i++) {
            e.v[i] = e.v[i] * s.factor[0];
            if (a.b) e.v[i] = e.v[i] * w.v[i];
        }
        return;
    }
    UNROLL for (uint32_t i = 0; i < EACH; i++) {
        e.v[i] = e.v[i] * s.factor[(at + i) / a.group];
        if (a.b) e.v[i] = e.v[i] * a.b[(at + i) % a.group];
    }
}

KERNEL(quantize_norm, quantize_args, QUANTIZE_BLOCK) {
    SHARED norm_shared s;
    const float *x = row_of(a.a, a.a_stride);
    const bool whole = a.group >= a.k, staged = whole && a.k <= NORM_TILE;
    if (whole)
        norm_whole(s, x, a);
    else
        norm_groups(s, x, a);
    barrier();
    for (uint32_t unit = team_in_block() * UNIT; unit < a.k; unit += NORM_TEAMS * UNIT) {
        const uint32_t at = unit + lane_in_team() * EACH;
        eight e = {};
        if (at < a.k) {
            e = staged ? load_eight(&s.x[at]) : load_eight(x + at);
            scale_eight(e, s, a, at);
        }
        put_row_unit(a, e, at);
    }
}
