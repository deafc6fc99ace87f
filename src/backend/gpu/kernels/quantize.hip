/* Activations into int8: args_quantize.h. A lane has eight neighbouring values, a team 256: the greatest |x| of a block of 32
 * is four lanes' affair, that of 256 the whole team's; a sum of sixteen codes is two lanes'. The norm's sum of squares runs
 * in the reference's sixteen chains, in one team, over tiles in shared memory that the whole block brings in. */
#include "backend/gpu/kernels/args_quantize.h"
#include "backend/gpu/kernels/canon.h"
#include "backend/gpu/kernels/target.h"

enum { LANE_VALUES = 8 };

DEVICE const float *row_of(const float *p, uint32_t stride, uint32_t row) {
    return (const float *)((const uint8_t *)p + (uint64_t)stride * row);
}

DEVICE int32_t code_of(float x) {
    const float r = (x + EXP_MAGIC) - EXP_MAGIC; /* to the nearest integer, ties to even */
    return (int32_t)(r > 127.0f ? 127.0f : r < -127.0f ? -127.0f : r);
}

DEVICE uint32_t pack4(const int32_t *c) {
    return (uint32_t)(c[0] & 255) | (uint32_t)(c[1] & 255) << 8 | (uint32_t)(c[2] & 255) << 16 | (uint32_t)c[3] << 24;
}

/* Values i .. i + 8 of a row, x, are quantised; every lane of the team comes here, those with i >= k only to exchange. */
DEVICE void quantize_lane(const quantize_args &a, uint8_t *row, uint32_t i, const float x[LANE_VALUES]) {
    uint32_t amax = 0; /* of the bits: the order of |x|, with NaN above infinity */
    UNROLL for (int j = 0; j < LANE_VALUES; j++) amax = max32(amax, as_bits(x[j]) & 0x7fffffffu);
    amax = max32(amax, (uint32_t)team_xor((int32_t)amax, 1));
    amax = max32(amax, (uint32_t)team_xor((int32_t)amax, 2));
    if (a.scale_block == 256) UNROLL
        for (uint32_t mask = 4; mask < TEAM; mask *= 2) amax = max32(amax, (uint32_t)team_xor((int32_t)amax, mask));
    const float inv = 127.0f / as_float(amax);
    const bool finite = amax < 0x7f800000u, zero = amax == 0 || !finite || as_bits(inv) >= 0x7f800000u;
    const float scale = zero ? (finite ? 0.0f : __builtin_nanf("")) : as_float(amax) / 127.0f;
    int32_t code[LANE_VALUES], sum = 0;
    UNROLL for (int j = 0; j < LANE_VALUES; j++) {
        code[j] = zero ? 0 : code_of(x[j] * inv);
        sum += code[j];
    }
    sum += team_xor(sum, 1);
    if (i >= a.k) return;
    *(word2 *)(row + i) = word2{pack4(code), pack4(code + 4)};
    if (i % 16 == 0) *(int16_t *)(row + gpu_act_sums(a.k) + i / 8) = (int16_t)sum;
    if (i % a.scale_block == 0) *(float *)(row + gpu_act_scales(a.k) + i / a.scale_block * 4) = scale;
}

DEVICE void load_lane(float x[LANE_VALUES], const float *from, uint32_t i, uint32_t k) {
    UNROLL for (int j = 0; j < LANE_VALUES; j++) x[j] = i < k ? from[i + j] : 0.0f;
}

struct plain {
    static constexpr bool two = false;
    DEVICE float of(float a, float) { return a; }
};
struct swiglu {
    static constexpr bool two = true;
    DEVICE float of(float a, float b) { return canon_silu(a) * b; }
};
struct geglu {
    static constexpr bool two = true;
    DEVICE float of(float a, float b) { return canon_gelu(a) * b; }
};

template <typename F> DEVICE void quantize_tile(const quantize_args &a) {
    const uint32_t i = block_x() * QUANTIZE_TILE + thread_x() * LANE_VALUES;
    float x[LANE_VALUES], b[LANE_VALUES] = {};
    load_lane(x, row_of(a.a, a.a_stride, block_y()), i, a.k);
    if constexpr (F::two) load_lane(b, row_of(a.b, a.b_stride, block_y()), i, a.k);
    UNROLL for (int j = 0; j < LANE_VALUES; j++) x[j] = F::of(x[j], b[j]);
    quantize_lane(a, a.y + (uint64_t)a.y_stride * block_y(), i, x);
}

KERNEL(quantize_rows, quantize_args, QUANTIZE_BLOCK) { quantize_tile<plain>(a); }
KERNEL(quantize_swiglu, quantize_args, QUANTIZE_BLOCK) { quantize_tile<swiglu>(a); }
KERNEL(quantize_geglu, quantize_args, QUANTIZE_BLOCK) { quantize_tile<geglu>(a); }

/* --- the norm */
enum { CHAIN_TILE = 4096, CHAIN_STEP = 16 };
SHARED float norm_tile[CHAIN_TILE];
SHARED float norm_sum;

/* Chain `lane` over norm_tile[lane], [lane + 16], ... below n, loads ahead of the sums. */
DEVICE float square_chain(float part, uint32_t lane, uint32_t n) {
    uint32_t i = lane;
    for (; i + 16 * (CHAIN_STEP - 1) < n; i += 16 * CHAIN_STEP) {
        float v[CHAIN_STEP];
        UNROLL for (int j = 0; j < CHAIN_STEP; j++) v[j] = norm_tile[i + 16 * j];
        UNROLL for (int j = 0; j < CHAIN_STEP; j++) part = fma32(v[j], v[j], part);
    }
    for (; i < n; i += 16) part = fma32(norm_tile[i], norm_tile[i], part);
    return part;
}

DEVICE float sum_of_squares(const float *x, uint32_t n) {
    float part = 0.0f;
    for (uint32_t at = 0; at < n; at += CHAIN_TILE) {
        const uint32_t n_tile = min32(n - at, CHAIN_TILE);
        barrier(); /* nobody reads the tile before */
        for (uint32_t i = thread_x(); i < n_tile; i += QUANTIZE_BLOCK) norm_tile[i] = x[at + i];
        barrier();
        if (thread_x() < TEAM) part = square_chain(part, thread_x() & 15u, n_tile);
    }
    if (thread_x() < TEAM) {
        const float sum = half_team_sum(part);
        if (thread_x() == 0) norm_sum = sum;
    }
    barrier();
    return norm_sum;
}

KERNEL(quantize_norm, quantize_args, QUANTIZE_BLOCK) {
    const float *x = row_of(a.a, a.a_stride, block_y());
    for (uint32_t at = 0; at < a.k; at += a.group) {
        const float s = 1.0f / canon_sqrt(sum_of_squares(x + at, a.group) / (float)a.group + a.eps);
        for (uint32_t tile = 0; tile < a.group; tile += QUANTIZE_TILE) {
            const uint32_t i = tile + thread_x() * LANE_VALUES;
            float v[LANE_VALUES], w[LANE_VALUES];
            load_lane(v, x + at, i, a.group);
            load_lane(w, a.b, i, a.group);
            UNROLL for (int j = 0; j < LANE_VALUES; j++) v[j] = (v[j] * s) * w[j];
            quantize_lane(a, a.y + (uint64_t)a.y_stride * block_y(), i < a.group ? at + i : a.k, v);
        }
    }
}
