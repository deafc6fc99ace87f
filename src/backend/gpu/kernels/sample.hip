/* Sampling, the passes over whole rows: adjusted values and maxima, totals and histogram, candidates brought together. The
 * draw itself is in sample_pick.hip. args_sample.h says how they follow each other; numbers are src/sample's, bit for bit. */
#include "backend/gpu/kernels/sample_common.h"

/* --- bias, bans, mask, penalties (sample/chain.c) */
DEVICE float clamped(float v) { return v > 3.402823466e38f ? 3.402823466e38f : v; }

DEVICE float penalised(float v, uint32_t seen, const sample_job &job) {
    if (v == -__builtin_inff()) return v;
    v = clamped(v <= 0 ? v * job.repeat : v / job.repeat);
    const float off = (float)seen * job.frequency + job.presence;
    v = clamped(v - off);
    return v < -3.402823466e38f ? -3.402823466e38f : v;
}

DEVICE float edited(float v, const sample_edit &e, const sample_job &job) {
    if (e.what & SAMPLE_EDIT_BIAS) v = clamped(v + e.bias);
    if (e.what & SAMPLE_EDIT_BAN) v = -__builtin_inff();
    return e.seen ? penalised(v, e.seen, job) : v;
}

/* This block's ids of x, changed. Their order does not matter: an id has one edit. */
DEVICE void adjust_range(const sample_args &a, const sample_job &job, float *x, const float *logits, uint32_t from,
                         uint32_t end) {
    const uint32_t *mask = (const uint32_t *)((const uint8_t *)a.masks + (uint64_t)a.mask_stride * (uint32_t)job.mask);
    for (uint32_t i = from + thread_x(); i < end; i += SAMPLE_BLOCK) {
        const bool open = job.mask == SAMPLE_NO_MASK || (mask[i / 32] >> i % 32 & 1u);
        x[i] = open ? logits[i] : -__builtin_inff();
    }
    barrier();
    for (uint32_t e = thread_x(); e < job.n_edits; e += SAMPLE_BLOCK) {
        const sample_edit edit = a.edit[job.first_edit + e];
        const uint32_t id = (uint32_t)edit.id;
        if (id >= from && id < end) x[id] = edited(x[id], edit, job);
    }
    barrier();
}

SHARED sample_part adjust_team[SAMPLE_TEAMS];

KERNEL(sample_adjust, sample_args, SAMPLE_BLOCK) {
    const uint32_t at = block_y();
    const sample_job job = a.job[at];
    if (job.mode == SAMPLE_NONE) return;
    const uint32_t from = block_x() * SAMPLE_RANGE, end = min32(from + SAMPLE_RANGE, a.n_vocab);
    const float *logits = logits_of(a, job.row);
    float *x = a.x + (uint64_t)a.n_vocab * at;
    sample_max raw = {-__builtin_inff(), from}, best = raw;
    uint32_t odd = ~0u;
    for (uint32_t i = from + thread_x(); i < end; i += SAMPLE_BLOCK) {
        const float v = logits[i];
        if ((as_bits(v) & 0x7fffffffu) >= 0x7f800000u) odd = min32(odd, i);
        raw = larger(raw, {v, i});
    }
    best = raw;
    if (job_edits(job)) {
        adjust_range(a, job, x, logits, from, end);
        best = {-__builtin_inff(), from};
        for (uint32_t i = from + thread_x(); i < end; i += SAMPLE_BLOCK) best = larger(best, {x[i], i});
    }
    raw = team_max(raw);
    best = team_max(best);
    odd = team_min(odd);
    if (lane_in_team() == 0) adjust_team[team_in_block()] = {raw.v, best.v, raw.at, best.at, odd, 0};
    barrier();
    if (thread_x() != 0) return;
    for (uint32_t i = 1; i < SAMPLE_TEAMS; i++) {
        const sample_part p = adjust_team[i];
        raw = larger(raw, {p.raw, p.raw_at});
        best = larger(best, {p.x, p.x_at});
        odd = min32(odd, p.odd);
    }
    a.part[at * SAMPLE_MAX_BLOCKS + block_x()] = {raw.v, best.v, raw.at, best.at, odd, 0};
}

/* --- totals by chunk: a half team each, lane l adds values l, l + 16, ... in order */
DEVICE bool needs_x_total(const sample_job &job) {
    return job.mode == SAMPLE_ALL || (job.mode == SAMPLE_SORTED && job.top_k == 0);
}
DEVICE bool needs_bins(const sample_job &job) { return job.mode == SAMPLE_SORTED || job.mode == SAMPLE_TOP; }

DEVICE double chunk_total(const float *x, uint32_t from, uint32_t end, float max, float temperature) {
    double sum = 0;
    for (uint32_t i = from + (thread_x() & 15u); i < end; i += 16)
        sum = sum + (double)exp_neg((x[i] - max) / temperature);
    return half_team_sum_d(sum);
}

SHARED uint32_t sum_bins[SAMPLE_BINS];
SHARED uint32_t sum_team[SAMPLE_TEAMS];

DEVICE void count_bins(const sample_args &a, const float *x, uint32_t at, uint32_t from, uint32_t end, float max) {
    for (uint32_t i = thread_x(); i < SAMPLE_BINS; i += SAMPLE_BLOCK) sum_bins[i] = 0;
    barrier();
    for (uint32_t i = from + thread_x(); i < end; i += SAMPLE_BLOCK)
        if (x[i] > -__builtin_inff())
            __scoped_atomic_fetch_add(&sum_bins[bin_of(x[i], max)], 1u, __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
    barrier();
    uint32_t *to = a.bins + (at * SAMPLE_MAX_BLOCKS + block_x()) * (SAMPLE_BINS / 2);
    for (uint32_t i = thread_x(); i < SAMPLE_BINS / 2; i += SAMPLE_BLOCK)
        to[i] = sum_bins[2 * i] | sum_bins[2 * i + 1] << 16;
}

DEVICE void count_listed(const sample_args &a, const float *x, uint32_t at, uint32_t from, uint32_t end, float lowest) {
    uint32_t n = 0, before;
    for (uint32_t i = from + thread_x(); i < end; i += SAMPLE_BLOCK) n += x[i] >= lowest;
    n = block_scan(n, &before, sum_team);
    if (thread_x() == 0) a.listed[at * SAMPLE_MAX_BLOCKS + block_x()] = n;
}

KERNEL(sample_sums, sample_args, SAMPLE_BLOCK) {
    const uint32_t at = block_y();
    const sample_job job = a.job[at];
    if (job.mode == SAMPLE_NONE) return;
    const uint32_t from = block_x() * SAMPLE_RANGE, end = min32(from + SAMPLE_RANGE, a.n_vocab);
    const uint32_t half = thread_x() / 16, first = from + half * SAMPLE_CHUNK, last = min32(first + SAMPLE_CHUNK, end);
    const uint32_t place = at * SAMPLE_MAX_CHUNKS + first / SAMPLE_CHUNK;
    const bool mine = first < end && (thread_x() & 15u) == 0;
    const sample_part p = row_part(a, at);
    const float *logits = logits_of(a, job.row), *x = values_of(a, job, at);
    if (job.mode != SAMPLE_TOP) {
        const double total = chunk_total(logits, first, last, p.raw, 1.0f);
        if (mine) a.raw_total[place] = total;
    }
    if (needs_x_total(job)) {
        const double total = chunk_total(x, first, last, p.x, job.mode == SAMPLE_ALL ? job.temperature : 1.0f);
        if (mine) a.x_total[place] = total;
    }
    if (needs_bins(job)) count_bins(a, x, at, from, end, p.x);
    if (job.mode == SAMPLE_LISTED) count_listed(a, x, at, from, end, p.x + job.log_min_p);
}

/* --- candidates: every block finds for itself how far down they reach, then where its own belong */
SHARED uint32_t collect_team[SAMPLE_TEAMS];
SHARED uint32_t collect_last, collect_n;

enum { BINS_EACH = SAMPLE_BINS / SAMPLE_BLOCK };

/* How many values of blocks [0, n_blocks) lie in this thread's bins, bin 4 t + j in n[j]. */
DEVICE void own_bins(const sample_args &a, uint32_t at, uint32_t n_blocks, uint32_t n[BINS_EACH]) {
    const uint32_t *bins = a.bins + at * SAMPLE_MAX_BLOCKS * (SAMPLE_BINS / 2) + thread_x() * (BINS_EACH / 2);
    for (uint32_t j = 0; j < BINS_EACH; j++) n[j] = 0;
    for (uint32_t b = 0; b < n_blocks; b++, bins += SAMPLE_BINS / 2)
        for (uint32_t j = 0; j < BINS_EACH; j++) n[j] += bins[j / 2] >> (j % 2 * 16) & 0xFFFFu;
}

/* The last bin that is taken, in collect_last, and how many values that makes, in collect_n (0: too many). With a wish for k
 * values: the first bin by which there are k, or all; without one: as many whole bins as there is room for. */
DEVICE uint32_t choose_bins(const sample_args &a, uint32_t at, uint32_t k) {
    uint32_t n[BINS_EACH], before;
    own_bins(a, at, a.n_blocks, n);
    if (thread_x() == 0) collect_last = 0, collect_n = 0;
    const uint32_t all = block_scan(n[0] + n[1] + n[2] + n[3], &before, collect_team);
    const uint32_t want = min32(k, all);
    for (uint32_t j = 0; j < BINS_EACH; j++) {
        const uint32_t upto = before + n[j], bin = thread_x() * BINS_EACH + j;
        const bool reaches = k ? upto >= want && before < want && upto <= SAMPLE_CAP
                               : upto <= SAMPLE_CAP && upto > before; /* the last of these counts */
        if (reaches && k) collect_last = bin, collect_n = upto;
        if (reaches && !k) {
            __scoped_atomic_fetch_max(&collect_n, upto, __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
            __scoped_atomic_fetch_max(&collect_last, bin, __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
        }
        before = upto;
    }
    barrier();
    return all;
}

/* Places in the list before this block's. */
DEVICE uint32_t taken_before(const sample_args &a, uint32_t at) {
    uint32_t n[BINS_EACH], sum = 0, before;
    own_bins(a, at, block_x(), n);
    for (uint32_t j = 0; j < BINS_EACH; j++) sum += thread_x() * BINS_EACH + j <= collect_last ? n[j] : 0;
    return block_scan(sum, &before, collect_team);
}

DEVICE uint32_t listed_before(const sample_args &a, uint32_t at, uint32_t n_blocks) {
    uint32_t n = 0;
    for (uint32_t b = 0; b < n_blocks; b++) n += a.listed[at * SAMPLE_MAX_BLOCKS + b];
    return n;
}

struct collect_rule { /* bins up to `last` of the distance from max; or values from `lowest` up */
    float max, lowest;
    uint32_t last;
    bool by_bins;
};
DEVICE bool takes(const collect_rule &r, float v) {
    return r.by_bins ? v > -__builtin_inff() && bin_of(v, r.max) <= r.last : v >= r.lowest;
}

enum { COLLECT_EACH = SAMPLE_RANGE / SAMPLE_BLOCK }; /* ids of a thread, a bit each */
DEVICE uint64_t key_of(float v, uint32_t id) { return (uint64_t)descending(v) << 32 | id; }

/* In order of ids: a thread looks at neighbours. */
DEVICE void gather_in_order(const sample_args &a, const float *x, const collect_rule &rule, uint64_t *to) {
    const uint32_t from = block_x() * SAMPLE_RANGE + thread_x() * COLLECT_EACH,
                   end = min32(from + COLLECT_EACH, a.n_vocab);
    uint32_t n = 0, at;
    for (uint32_t i = from; i < end; i++) n += takes(rule, x[i]);
    block_scan(n, &at, collect_team);
    for (uint32_t i = from; i < end; i++)
        if (takes(rule, x[i])) to[at++] = key_of(x[i], i);
}

/* In any order, for those that will be sorted: neighbours look at neighbouring ids. */
DEVICE void gather(const sample_args &a, const float *x, const collect_rule &rule, uint64_t *to) {
    const uint32_t from = block_x() * SAMPLE_RANGE + thread_x();
    uint32_t mine = 0, at;
    for (uint32_t j = 0; j < COLLECT_EACH; j++) {
        const uint32_t i = from + j * SAMPLE_BLOCK;
        if (i < a.n_vocab && takes(rule, x[i])) mine |= 1u << j;
    }
    block_scan((uint32_t)__builtin_popcount(mine), &at, collect_team);
    for (; mine; mine &= mine - 1) {
        const uint32_t i = from + (uint32_t)__builtin_ctz(mine) * SAMPLE_BLOCK;
        to[at++] = key_of(x[i], i);
    }
}

KERNEL(sample_collect, sample_args, SAMPLE_BLOCK) {
    const uint32_t at = block_y();
    const sample_job job = a.job[at];
    if (!needs_bins(job) && job.mode != SAMPLE_LISTED) return;
    const sample_part p = row_part(a, at);
    const float *x = values_of(a, job, at);
    uint32_t n, first, all;
    if (needs_bins(job)) {
        all = choose_bins(a, at, job.top_k);
        n = collect_n;
        first = taken_before(a, at);
    } else {
        n = all = listed_before(a, at, a.n_blocks);
        first = listed_before(a, at, block_x());
    }
    const bool fits = n > 0 && n <= SAMPLE_CAP;
    if (block_x() == 0 && thread_x() == 0) a.found[at] = {fits ? n : 0, fits ? (uint32_t)(n == all) : 2u};
    if (!fits) return;
    const collect_rule rule = {p.x, p.x + job.log_min_p, needs_bins(job) ? collect_last : 0u, needs_bins(job)};
    uint64_t *to = a.key + (uint64_t)at * SAMPLE_CAP + first;
    if (rule.by_bins)
        gather(a, x, rule, to);
    else
        gather_in_order(a, x, rule, to);
}
