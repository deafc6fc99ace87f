/* Sampling, the last step: one block a job. The candidates (at most SAMPLE_CAP, or the whole vocabulary by chunks) are sorted,
 * cut by top-k, top-p and min-p, and one is drawn: sample/chain.c and sample/softmax.c, sum by sum in their order. */
#include "backend/gpu/kernels/sample_common.h"

SHARED uint64_t pick_key[SAMPLE_CAP];
SHARED double pick_total[SAMPLE_MAX_CHUNKS];
SHARED float pick_weight[SAMPLE_CHUNK];
SHARED uint32_t pick_team[SAMPLE_TEAMS];
SHARED uint32_t pick_index;

enum { NOWHERE = ~0u };

/* Where weights come from: candidates by key, or values by id. */
struct from_keys {
    float max, temperature;
    DEVICE float weight(const from_keys &f, uint32_t i) {
        return exp_neg((key_value(pick_key[i]) - f.max) / f.temperature);
    }
};
struct from_values {
    float max, temperature;
    const float *x;
    DEVICE float weight(const from_values &f, uint32_t i) { return exp_neg((f.x[i] - f.max) / f.temperature); }
};

/* --- sorting: bitonic, the next power of two of n keys; places without a key come last */
DEVICE void sort_keys(uint32_t n) {
    uint32_t size = 2;
    while (size < n) size *= 2;
    for (uint32_t i = n + thread_x(); i < size; i += SAMPLE_BLOCK) pick_key[i] = ~(uint64_t)0;
    for (uint32_t run = 2; run <= size; run *= 2)
        for (uint32_t far = run / 2; far > 0; far /= 2) {
            barrier();
            for (uint32_t t = thread_x(); t < size / 2; t += SAMPLE_BLOCK) {
                const uint32_t i = t / far * 2 * far + t % far, j = i + far;
                const uint64_t low = pick_key[i], high = pick_key[j];
                if ((low > high) == ((i & run) == 0)) pick_key[i] = high, pick_key[j] = low;
            }
        }
    barrier();
}

/* --- running sums. Totals of the chunks of n candidates into pick_total, a half team each. */
DEVICE void key_totals(const from_keys &f, uint32_t n) {
    const uint32_t half = thread_x() / 16, from = half * SAMPLE_CHUNK, end = min32(from + SAMPLE_CHUNK, n);
    double sum = 0;
    for (uint32_t i = from + (thread_x() & 15u); i < end; i += 16) sum = sum + (double)from_keys::weight(f, i);
    sum = half_team_sum_d(sum);
    barrier(); /* nobody reads the last totals any more */
    if ((thread_x() & 15u) == 0) pick_total[half] = sum;
    barrier();
}

struct walk_at {
    double sum;
    uint32_t i;
};

/* Adds v[0 .. n) to sum one by one until it is there (past: exceeds goal; else reaches it); i is NOWHERE when it never is. No
 * v is negative, so eight may be added before looking, then looked at again. */
template <typename T> DEVICE walk_at walk(const T *v, uint32_t n, double sum, double goal, bool past) {
    enum { STEP = 8 };
    uint32_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        double next = sum;
        T some[STEP];
        UNROLL for (uint32_t j = 0; j < STEP; j++) some[j] = v[i + j];
        UNROLL for (uint32_t j = 0; j < STEP; j++) next = next + (double)some[j];
        if (past ? next > goal : next >= goal) break;
        sum = next;
    }
    for (; i < n; i++) {
        const double next = sum + (double)v[i];
        if (past ? next > goal : next >= goal) return {sum, i};
        sum = next;
    }
    return {sum, NOWHERE};
}

/* The largest i below n whose weight is not 0, in [from, n); `from` when there is none. */
template <typename F> DEVICE uint32_t last_weight(const F &f, uint32_t from, uint32_t n) {
    uint32_t most = 0, before = 0;
    for (uint32_t i = from + thread_x(); i < n; i += SAMPLE_BLOCK) most = F::weight(f, i) != 0.0f ? i - from + 1 : most;
    most = ~team_min(~most);
    barrier();
    if (lane_in_team() == 0) pick_team[team_in_block()] = most;
    barrier();
    for (uint32_t i = 0; i < SAMPLE_TEAMS; i++) before = max32(before, pick_team[i]);
    return before ? from + before - 1 : from;
}

/* softmax_walk over n weights whose totals stand in pick_total; every thread gets the answer. Team 0 does the chains, all its
 * lanes the same. */
template <typename F> DEVICE uint32_t walk_all(const F &f, uint32_t n, double goal, bool past) {
    const uint32_t n_chunks = (n + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK;
    const walk_at w = walk(pick_total, n_chunks, 0.0, goal, past);
    if (w.i == NOWHERE) return NOWHERE; /* the same for all threads */
    const uint32_t from = w.i * SAMPLE_CHUNK, here = min32(SAMPLE_CHUNK, n - from);
    barrier();
    for (uint32_t i = thread_x(); i < here; i += SAMPLE_BLOCK) pick_weight[i] = F::weight(f, from + i);
    barrier();
    if (team_in_block() == 0) {
        const walk_at in = walk(pick_weight, here, w.sum, goal, past);
        if (thread_x() == 0) pick_index = in.i;
    }
    barrier();
    const uint32_t i = pick_index;
    return i == NOWHERE ? last_weight(f, from, from + here) : from + i;
}

template <typename F> DEVICE uint32_t draw(const F &f, uint32_t n, double u) {
    const double total = team_total(pick_total, (n + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK);
    const uint32_t i = walk_all(f, n, u * total, true);
    return i == NOWHERE ? last_weight(f, 0, n) : i;
}

/* --- cuts of the sorted candidates: how many are left; 0: more are needed than were brought together */
DEVICE uint32_t cut_top_p(const sample_args &a, const sample_job &job, uint32_t at, float max, sample_found found,
                          uint32_t n) {
    const from_keys f = {max, 1.0f};
    double goal;
    if (job.top_k == 0) {
        n = found.all == 1 ? found.n : found.n / SAMPLE_CHUNK * SAMPLE_CHUNK;
        goal = team_total(a.x_total + at * SAMPLE_MAX_CHUNKS, (a.n_vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK);
        key_totals(f, n);
    } else {
        key_totals(f, n);
        goal = team_total(pick_total, (n + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK);
    }
    const uint32_t last = walk_all(f, n, goal * (double)job.top_p, false);
    if (last != NOWHERE) return last + 1;
    return job.top_k == 0 && found.all != 1 ? 0 : n;
}

DEVICE uint32_t cut_min_p(float lowest, uint32_t n) {
    uint32_t above = 0, before;
    for (uint32_t i = thread_x(); i < n; i += SAMPLE_BLOCK) above += !(key_value(pick_key[i]) < lowest);
    return max32(1, block_scan(above, &before, pick_team));
}

/* The id drawn; NOWHERE: the host must. */
DEVICE uint32_t draw_candidate(const sample_args &a, const sample_job &job, uint32_t at, float max,
                               sample_found found) {
    uint32_t n = found.n;
    if (job.mode == SAMPLE_SORTED) {
        sort_keys(n);
        if (job.top_k) n = min32(n, job.top_k);
        if (job.top_p < 1.0f) n = cut_top_p(a, job, at, max, found, n);
        if (n == 0) return NOWHERE;
        n = cut_min_p(max + job.log_min_p, n);
    }
    const from_keys f = {max, job.temperature};
    key_totals(f, n);
    return (uint32_t)pick_key[draw(f, n, job.u)];
}

DEVICE uint32_t draw_from_all(const sample_args &a, const sample_job &job, uint32_t at, float max) {
    const double *total = a.x_total + at * SAMPLE_MAX_CHUNKS;
    const uint32_t n_chunks = (a.n_vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK;
    for (uint32_t i = thread_x(); i < n_chunks; i += SAMPLE_BLOCK) pick_total[i] = total[i];
    barrier();
    const from_values f = {max, job.temperature, values_of(a, job, at)};
    return draw(f, a.n_vocab, job.u);
}

DEVICE uint32_t pick_id(const sample_args &a, const sample_job &job, uint32_t at, const sample_part &p) {
    if (job.mode == SAMPLE_GREEDY) return p.x_at;
    if (job.mode == SAMPLE_ALL) return draw_from_all(a, job, at, p.x);
    const sample_found found = a.found[at];
    if (found.all == 2) return NOWHERE;
    for (uint32_t i = thread_x(); i < found.n; i += SAMPLE_BLOCK) pick_key[i] = a.key[(uint64_t)at * SAMPLE_CAP + i];
    barrier();
    return draw_candidate(a, job, at, p.x, found);
}

/* The best raw logits, best first. */
DEVICE sample_answer list_best(const sample_args &a, const sample_job &job, uint32_t at) {
    const sample_found found = a.found[at];
    const uint32_t n = min32(found.n, min32(job.top_k, SAMPLE_MAX_TOP));
    if (found.all == 2) return {0, 0, 0, 0, SAMPLE_TO_HOST, 0, 0};
    for (uint32_t i = thread_x(); i < found.n; i += SAMPLE_BLOCK) pick_key[i] = a.key[(uint64_t)at * SAMPLE_CAP + i];
    sort_keys(found.n);
    for (uint32_t i = thread_x(); i < n; i += SAMPLE_BLOCK) {
        const uint32_t id = (uint32_t)pick_key[i];
        a.top[at * SAMPLE_MAX_TOP + i] = {(int32_t)id, logits_of(a, job.row)[id]};
    }
    return {0, 0, 0, 0, SAMPLE_OK, n, 0};
}

DEVICE sample_answer answer(const sample_args &a, const sample_job &job, uint32_t at) {
    const float *logits = logits_of(a, job.row);
    const sample_part p = row_part(a, at);
    if (p.odd != ~0u) return {0, 0, logits[p.odd], (int32_t)p.odd, SAMPLE_ODD, 0, 0};
    if (job.mode == SAMPLE_TOP) return list_best(a, job, at);
    if (p.x == -__builtin_inff()) return {0, 0, 0, 0, SAMPLE_BANNED, 0, 0};
    const uint32_t id = pick_id(a, job, at, p);
    if (id == NOWHERE) return {0, 0, 0, 0, SAMPLE_TO_HOST, 0, 0};
    const double sum = team_total(a.raw_total + at * SAMPLE_MAX_CHUNKS, (a.n_vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK);
    return {sum, p.raw, logits[id], (int32_t)id, SAMPLE_OK, 0, 0};
}

KERNEL(sample_pick, sample_args, SAMPLE_BLOCK) {
    const uint32_t at = block_y();
    const sample_job job = a.job[at];
    if (job.mode == SAMPLE_NONE) return;
    const sample_answer out = answer(a, job, at);
    if (thread_x() == 0) a.answer[at] = out;
}
