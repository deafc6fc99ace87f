/* Row-wise kernels: elementwise ops, norms, softmax, RoPE, rows looked up by id. args_rows.h says what each computes and its
 * grid. All are small beside the matmuls; what counts is that their sums run in the reference's order: sixteen partial sums
 * (index mod 16), each an ascending chain, and one tree (half_team_sum). */
#include "backend/gpu/kernels/args_rows.h"
#include "backend/gpu/kernels/canon.h"
#include "backend/gpu/kernels/target.h"

DEVICE const float *row_of(const float *p, uint32_t stride, uint32_t row) {
    return (const float *)((const uint8_t *)p + (uint64_t)stride * row);
}
DEVICE float *row_to(float *p, uint32_t stride, uint32_t row) {
    return (float *)((uint8_t *)p + (uint64_t)stride * row);
}

/* --- one value at a time: y[i] = f(a[i], b[i]). Neighbouring threads take neighbouring values. */
#define EACH(name, expression) \
    KERNEL(name, rows_args, ROWS_BLOCK) { \
        const uint32_t r = block_y(); \
        const float *pa = row_of(a.a, a.a_stride, r); \
        const float *pb = row_of(a.b, a.b_stride, r); \
        float *py = row_to(a.y, a.y_stride, r); \
        (void)pb; \
        for (uint32_t j = 0; j < ROWS_TILE / ROWS_BLOCK; j++) { \
            const uint32_t i = block_x() * ROWS_TILE + j * ROWS_BLOCK + thread_x(); \
            if (i < a.width) py[i] = expression; \
        } \
    }
EACH(rows_add, pa[i] + pb[i])
EACH(rows_mul, pa[i] * pb[i])
EACH(rows_scale, pa[i] * a.f)
EACH(rows_softcap, canon_softcap(pa[i], a.f))
EACH(rows_silu, canon_silu(pa[i]))
EACH(rows_gelu, canon_gelu(pa[i]))
EACH(rows_swiglu, canon_silu(pa[i]) * pb[i])
EACH(rows_geglu, canon_gelu(pa[i]) * pb[i])
#undef EACH

KERNEL(rows_copy, rows_args, ROWS_BLOCK) { /* bits, not numbers: ids pass too */
    const uint32_t *from = (const uint32_t *)row_of(a.a, a.a_stride, block_y());
    uint32_t *to = (uint32_t *)row_to(a.y, a.y_stride, block_y());
    for (uint32_t j = 0; j < ROWS_TILE / ROWS_BLOCK; j++) {
        const uint32_t i = block_x() * ROWS_TILE + j * ROWS_BLOCK + thread_x();
        if (i < a.width) to[i] = from[i];
    }
}

/* --- sums of a row: the block brings a tile into shared memory, the sixteen chains go over it, tile after tile. Every chain
 * is one lane's; both halves of team 0 do the same sixteen, so that its shuffles are whole. */
enum { CHAIN_TILE = 4096, CHAIN_STEP = 8 };
SHARED float chain_tile[CHAIN_TILE];
SHARED float chain_result;

struct chain_square { /* of x - less */
    DEVICE float add(float part, float x, float less) {
        const float d = x - less;
        return fma32(d, d, part);
    }
};
struct chain_plain {
    DEVICE float add(float part, float x, float) { return part + x; }
};

/* One chain over tile[lane], tile[lane + 16], ... below n, a few loads ahead of the sums. */
template <typename OP> DEVICE float chain_over(float part, uint32_t lane, uint32_t n, float less) {
    uint32_t i = lane;
    for (; i + 16 * (CHAIN_STEP - 1) < n; i += 16 * CHAIN_STEP) {
        float v[CHAIN_STEP];
        UNROLL for (int j = 0; j < CHAIN_STEP; j++) v[j] = chain_tile[i + 16 * j];
        UNROLL for (int j = 0; j < CHAIN_STEP; j++) part = OP::add(part, v[j], less);
    }
    for (; i < n; i += 16) part = OP::add(part, chain_tile[i], less);
    return part;
}

/* Sum of x[0 .. n), or of its squares, by the sixteen chains, known to every thread afterwards. */
template <typename OP> DEVICE float chain_sum(const float *x, uint32_t n, float less) {
    const uint32_t t = thread_x();
    float part = 0.0f;
    for (uint32_t at = 0; at < n; at += CHAIN_TILE) {
        const uint32_t n_tile = min32(n - at, CHAIN_TILE);
        barrier(); /* nobody reads the tile before */
        for (uint32_t i = t; i < n_tile; i += ROWS_BLOCK) chain_tile[i] = x[at + i];
        barrier();
        if (t < TEAM) part = chain_over<OP>(part, t & 15u, n_tile, less);
    }
    if (t < TEAM) {
        const float sum = half_team_sum(part);
        if (t == 0) chain_result = sum;
    }
    barrier();
    return chain_result;
}

KERNEL(rows_rms_norm, rows_args, ROWS_BLOCK) {
    const uint32_t n = a.group, at = block_x() * n;
    const float *x = row_of(a.a, a.a_stride, block_y()) + at;
    float *y = row_to(a.y, a.y_stride, block_y()) + at;
    const float sum = chain_sum<chain_square>(x, n, 0.0f);
    const float s = 1.0f / canon_sqrt(sum / (float)n + a.f);
    for (uint32_t i = thread_x(); i < n; i += ROWS_BLOCK) y[i] = a.b ? (x[i] * s) * a.b[i] : x[i] * s;
}

/* A half team for each group: all loads are 64 bytes wide, no shared memory. Halves without a group repeat the last one's
 * sums and write nothing. */
KERNEL(rows_rms_norm_small, rows_args, ROWS_BLOCK) {
    const uint32_t n = a.group, per_row = a.width / n, last = a.n_rows * per_row - 1;
    const uint32_t want = block_x() * ROWS_SMALL_GROUPS + thread_x() / 16, g = min32(want, last),
                   lane = thread_x() & 15u;
    const float *x = row_of(a.a, a.a_stride, g / per_row) + g % per_row * n;
    float *y = row_to(a.y, a.y_stride, g / per_row) + g % per_row * n;
    float part = 0.0f;
    for (uint32_t i = lane; i < n; i += 16) part = fma32(x[i], x[i], part);
    const float s = 1.0f / canon_sqrt(half_team_sum(part) / (float)n + a.f);
    for (uint32_t i = lane; i < n && want == g; i += 16) y[i] = a.b ? (x[i] * s) * a.b[i] : x[i] * s;
}

KERNEL(rows_layer_norm, rows_args, ROWS_BLOCK) {
    const uint32_t n = a.width;
    const float *x = row_of(a.a, a.a_stride, block_y());
    float *y = row_to(a.y, a.y_stride, block_y());
    const float mean = chain_sum<chain_plain>(x, n, 0.0f) / (float)n;
    const float var = chain_sum<chain_square>(x, n, mean);
    const float s = 1.0f / canon_sqrt(var / (float)n + a.f);
    for (uint32_t i = thread_x(); i < n; i += ROWS_BLOCK) y[i] = fma32((x[i] - mean) * s, a.b[i], a.c[i]);
}

/* The order of a maximum does not matter: where a NaN is, every result is NaN; and the sign of a zero is lost in exp. */
KERNEL(rows_softmax, rows_args, ROWS_BLOCK) {
    SHARED float team_max[ROWS_BLOCK / TEAM];
    const uint32_t n = a.width, t = thread_x();
    const float *x = row_of(a.a, a.a_stride, block_y());
    float *y = row_to(a.y, a.y_stride, block_y());
    float m = -__builtin_inff();
    for (uint32_t i = t; i < n; i += ROWS_BLOCK) m = canon_max(m, x[i]);
    for (uint32_t d = 1; d < TEAM; d *= 2) m = canon_max(m, team_xor_f(m, d));
    if (lane_in_team() == 0) team_max[team_in_block()] = m;
    barrier();
    for (uint32_t i = 0; i < ROWS_BLOCK / TEAM; i++) m = canon_max(m, team_max[i]);
    for (uint32_t i = t; i < n; i += ROWS_BLOCK) y[i] = canon_exp(x[i] - m);
    const float sum = chain_sum<chain_plain>(y, n, 0.0f);
    for (uint32_t i = t; i < n; i += ROWS_BLOCK) y[i] = y[i] / sum;
}

/* --- RoPE: a thread for each pair of values of a head, turned or passed on */
DEVICE void rope_pair(float *y, const float *x, const float *table, uint32_t i, uint32_t n_rot, uint32_t neox) {
    const uint32_t half = n_rot / 2;
    const uint32_t i0 = i >= half || !neox ? 2 * i : i, i1 = i >= half || !neox ? 2 * i + 1 : i + half;
    const float x0 = x[i0], x1 = x[i1];
    if (i < half) {
        const float c = table[2 * i], s = table[2 * i + 1];
        y[i0] = x0 * c - x1 * s;
        y[i1] = x0 * s + x1 * c;
    } else {
        y[i0] = x0;
        y[i1] = x1;
    }
}

KERNEL(rows_rope, rows_args, ROWS_BLOCK) {
    const uint32_t r = block_y(), pairs = a.head_dim / 2;
    const float *x = row_of(a.a, a.a_stride, r), *table = row_of(a.b, a.b_stride, r);
    float *y = row_to(a.y, a.y_stride, r);
    for (uint32_t j = 0; j < ROWS_TILE / ROWS_BLOCK; j++) {
        const uint32_t i = block_x() * ROWS_TILE + j * ROWS_BLOCK + thread_x();
        if (i >= a.n_head * pairs) continue;
        const uint32_t at = i / pairs * a.head_dim;
        rope_pair(y + at, x + at, table, i % pairs, a.n_rot, a.neox);
    }
}

/* --- rows by id. An id that is none gives NaN, which no later check lets pass. */
DEVICE uint32_t id_of(const int32_t *id, uint32_t stride, uint32_t row) {
    return (uint32_t) * (const int32_t *)((const uint8_t *)id + (uint64_t)stride * row);
}

KERNEL(rows_take, rows_take_args, ROWS_BLOCK) {
    const uint32_t id = id_of(a.id, a.id_stride, block_y());
    const float *x = row_of(a.x, a.x_stride, min32(id, a.n_x - 1));
    float *y = row_to(a.y, a.y_stride, block_y());
    for (uint32_t j = 0; j < ROWS_TILE / ROWS_BLOCK; j++) {
        const uint32_t i = block_x() * ROWS_TILE + j * ROWS_BLOCK + thread_x();
        if (i < a.width) y[i] = id < a.n_x ? x[i] : __builtin_nanf("");
    }
}
