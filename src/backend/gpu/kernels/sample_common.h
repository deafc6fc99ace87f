/* What the sampling kernels share: a job's values, the order of values, block-wide sums and maxima, f64 sums of sixteen. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_SAMPLE_COMMON_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_SAMPLE_COMMON_H

#include "backend/gpu/kernels/args_sample.h"
#include "backend/gpu/kernels/target.h"

#if defined(GPU_HOST)
#include "sample/exp_neg.h"
#else
#include <string.h>
#pragma push_macro("memcpy")
#define memcpy __builtin_memcpy
#pragma clang force_cuda_host_device begin
#include "sample/exp_neg.h"
#pragma clang force_cuda_host_device end
#pragma pop_macro("memcpy")
#endif

enum { SAMPLE_TEAMS = SAMPLE_BLOCK / TEAM, SAMPLE_HALVES = SAMPLE_BLOCK / 16 };

DEVICE const float *logits_of(const sample_args &a, uint32_t row) {
    return (const float *)((const uint8_t *)a.logits + (uint64_t)a.logits_stride * row);
}
DEVICE bool job_edits(const sample_job &job) { return job.n_edits != 0 || job.mask != SAMPLE_NO_MASK; }

/* The values a job draws from: the logits themselves where nothing changes them. */
DEVICE const float *values_of(const sample_args &a, const sample_job &job, uint32_t at) {
    return job_edits(job) ? a.x + (uint64_t)a.n_vocab * at : logits_of(a, job.row);
}

/* Unsigned, smaller for larger floats; +0 and -0 alike (sample/topk.c). And back. */
DEVICE uint32_t descending(float f) {
    const uint32_t b = as_bits(f + 0.0f);
    return b >> 31 ? b : b ^ 0x7FFFFFFFu;
}
DEVICE float ascending(uint32_t order) { return as_float(order >> 31 ? order : order ^ 0x7FFFFFFFu); }
DEVICE float key_value(uint64_t key) { return ascending((uint32_t)(key >> 32)); }

/* Which bin of the histogram a value lies in: 128 for each doubling of 1 + its distance from the maximum, so bins never order
 * two values the wrong way round. */
DEVICE uint32_t bin_of(float x, float max) {
    return min32((as_bits((max - x) + 1.0f) - 0x3F800000u) >> 16, SAMPLE_BINS - 1);
}

DEVICE double team_xor_d(double v, uint32_t mask) {
    const uint64_t b = __builtin_bit_cast(uint64_t, v);
    const uint32_t low = (uint32_t)team_xor((int32_t)(uint32_t)b, mask),
                   high = (uint32_t)team_xor((int32_t)(b >> 32), mask);
    return __builtin_bit_cast(double, (uint64_t)high << 32 | low);
}
/* The tree of sample/softmax.c over the sixteen sums of a half team; every lane gets it. */
DEVICE double half_team_sum_d(double v) {
    for (uint32_t d = 8; d > 0; d /= 2) v = v + team_xor_d(v, d);
    return v;
}
/* Total of totals, as softmax_total's: chunk c in sum c mod 16. The whole team gets it. */
DEVICE double team_total(const double *total, uint32_t n) {
    double sum = 0;
    for (uint32_t c = lane_in_team() & 15u; c < n; c += 16) sum = sum + total[c];
    return half_team_sum_d(sum);
}

struct sample_max {
    float v;
    uint32_t at;
};
DEVICE sample_max larger(sample_max a, sample_max b) { return b.v > a.v || (b.v == a.v && b.at < a.at) ? b : a; }
DEVICE sample_max team_max(sample_max m) {
    for (uint32_t d = 1; d < TEAM; d *= 2) {
        const float v = team_xor_f(m.v, d);
        m = larger(m, {v, (uint32_t)team_xor((int32_t)m.at, d)});
    }
    return m;
}
DEVICE uint32_t team_min(uint32_t v) {
    for (uint32_t d = 1; d < TEAM; d *= 2) v = min32(v, (uint32_t)team_xor((int32_t)v, d));
    return v;
}

/* Sum over the block of v, and in *before that of the threads before this one. team: shared, [SAMPLE_TEAMS]. */
DEVICE uint32_t block_scan(uint32_t v, uint32_t *before, uint32_t *team) {
    uint32_t sum = v, all = 0;
    for (uint32_t d = 1; d < TEAM; d *= 2) {
        const uint32_t left = (uint32_t)team_get((int32_t)sum, (lane_in_team() - d) & 31u);
        sum += lane_in_team() >= d ? left : 0;
    }
    barrier(); /* nobody reads the last result any more */
    if (lane_in_team() == TEAM - 1) team[team_in_block()] = sum;
    barrier();
    *before = sum - v;
    for (uint32_t i = 0; i < SAMPLE_TEAMS; i++) {
        *before += i < team_in_block() ? team[i] : 0;
        all += team[i];
    }
    return all;
}

/* The largest values of the whole row, from those of the blocks; each team does it for itself. */
DEVICE sample_part row_part(const sample_args &a, uint32_t at) {
    sample_part p = {-__builtin_inff(), -__builtin_inff(), ~0u, ~0u, ~0u, 0};
    const uint32_t b = lane_in_team(); /* SAMPLE_MAX_BLOCKS is no more than a team */
    if (b < a.n_blocks) p = a.part[at * SAMPLE_MAX_BLOCKS + b];
    const sample_max raw = team_max({p.raw, p.raw_at}), x = team_max({p.x, p.x_at});
    return {raw.v, x.v, raw.at, x.at, team_min(p.odd), 0};
}

#endif
