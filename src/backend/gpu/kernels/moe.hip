/* Mixture of experts beside the matmuls: routing, lists of rows by expert, the weighted sum. args_moe.h says what each
 * computes; the order of every choice and sum is backend/cpu/cpu_moe.c's. */
#include "backend/gpu/kernels/args_moe.h"
#include "backend/gpu/kernels/canon.h"
#include "backend/gpu/kernels/target.h"

DEVICE const moe_slot *slots_of(const moe_slot *p, uint32_t stride, uint32_t tok) {
    return (const moe_slot *)((const uint8_t *)p + (uint64_t)stride * tok);
}
DEVICE const float *floats_of(const float *p, uint32_t stride, uint32_t tok) {
    return (const float *)((const uint8_t *)p + (uint64_t)stride * tok);
}

/* --- routing: a team a token. Every team of the block runs the same number of rounds, so that barriers are met by all. */
SHARED float route_score[MOE_ROUTE_TOKENS][MOE_MAX_EXPERTS];
SHARED float route_chosen[MOE_ROUTE_TOKENS][MOE_MAX_USED];
SHARED int32_t route_expert[MOE_ROUTE_TOKENS][MOE_MAX_USED];

/* softmax of v[0 .. n) in shared memory, as backend/cpu/ref.c; the sixteen chains run in both halves of the team. */
DEVICE void team_softmax(float *v, uint32_t n) {
    const uint32_t lane = lane_in_team();
    float m = -__builtin_inff(), part = 0.0f;
    for (uint32_t i = lane; i < n; i += TEAM) m = canon_max(m, v[i]);
    for (uint32_t d = 1; d < TEAM; d *= 2) m = canon_max(m, team_xor_f(m, d));
    for (uint32_t i = lane; i < n; i += TEAM) v[i] = canon_exp(v[i] - m);
    barrier();
    for (uint32_t i = lane & 15u; i < n; i += 16) part = part + v[i];
    const float sum = half_team_sum(part);
    barrier();
    for (uint32_t i = lane; i < n; i += TEAM) v[i] = v[i] / sum;
    barrier();
}

struct route_best {
    float score;
    uint32_t at; /* ~0: none */
};

/* The greater score, the lower index among equals, NaN last. */
DEVICE route_best better(route_best a, route_best b) {
    if (a.at == ~0u || b.at == ~0u) return a.at == ~0u ? b : a;
    const bool a_nan = a.score != a.score, b_nan = b.score != b.score;
    if (a_nan != b_nan) return a_nan ? b : a;
    if (a.score > b.score) return a;
    if (b.score > a.score) return b;
    return a.at < b.at ? a : b;
}

/* The best of the scores whose bit in `taken` (of the lane that looks at them) is 0, known to the whole team. */
DEVICE route_best team_best(const float *score, uint32_t n, uint32_t taken) {
    route_best best = {0.0f, ~0u};
    for (uint32_t i = lane_in_team(), j = 0; i < n; i += TEAM, j++)
        if (!(taken >> j & 1u)) best = better(best, {score[i], i});
    for (uint32_t d = 1; d < TEAM; d *= 2) {
        const float score_there = team_xor_f(best.score, d);
        best = better(best, {score_there, (uint32_t)team_xor((int32_t)best.at, d)});
    }
    return best;
}

DEVICE bool team_all_finite(const float *x, uint32_t n) {
    int32_t odd = 0;
    for (uint32_t i = lane_in_team(); i < n; i += TEAM) odd |= (as_bits(x[i]) & 0x7fffffffu) >= 0x7f800000u;
    for (uint32_t d = 1; d < TEAM; d *= 2) odd |= team_xor(odd, d);
    return !odd;
}

DEVICE float route_weight(const moe_route_args &a, float chosen, float sum) {
    const float w = a.renormalise ? chosen / sum : chosen;
    return a.scale != 0.0f ? w * a.scale : w;
}

KERNEL(moe_route, moe_route_args, MOE_BLOCK) {
    const uint32_t team = team_in_block(), lane = lane_in_team();
    const uint32_t want = block_x() * MOE_ROUTE_TOKENS + team, tok = min32(want, a.n_tok - 1);
    const float *logits = floats_of(a.logits, a.logits_stride, tok);
    float *score = route_score[team], *chosen = route_chosen[team];
    for (uint32_t i = lane; i < a.n_expert; i += TEAM) score[i] = logits[i];
    barrier();
    if (!a.softmax_after) team_softmax(score, a.n_expert);
    uint32_t taken = 0;
    for (uint32_t s = 0; s < a.n_used; s++) {
        const route_best best = team_best(score, a.n_expert, taken);
        if (best.at % TEAM == lane) {
            taken |= 1u << best.at / TEAM;
            chosen[s] = best.score;
            route_expert[team][s] = (int32_t)best.at;
        }
    }
    barrier();
    if (a.softmax_after) team_softmax(chosen, a.n_used);
    float sum = 0.0f;
    for (uint32_t s = 0; s < a.n_used; s++) sum += chosen[s];
    if (sum < 6.103515625e-5f) sum = 6.103515625e-5f; /* as the CPU's: against division by 0 */
    const bool finite = team_all_finite(logits, a.n_expert);
    moe_slot *out = (moe_slot *)slots_of(a.route, a.route_stride, tok);
    for (uint32_t s = lane; s < a.n_used && want == tok; s += TEAM) {
        out[s].expert = route_expert[team][s];
        out[s].weight = finite ? route_weight(a, chosen[s], sum) : __builtin_nanf("");
    }
}

/* --- lists: the block of an expert counts what goes to those before it, then gathers its own in order */
SHARED uint32_t list_team[MOE_BLOCK / TEAM];

/* Sum over the block of v, and in *before that of the threads before this one. */
DEVICE uint32_t block_scan(uint32_t v, uint32_t *before) {
    uint32_t sum = v, all = 0;
    for (uint32_t d = 1; d < TEAM; d *= 2) {
        const uint32_t left = (uint32_t)team_get((int32_t)sum, (lane_in_team() - d) & 31u);
        sum += lane_in_team() >= d ? left : 0;
    }
    barrier(); /* nobody reads the last result any more */
    if (lane_in_team() == TEAM - 1) list_team[team_in_block()] = sum;
    barrier();
    *before = sum - v;
    for (uint32_t i = 0; i < MOE_BLOCK / TEAM; i++) {
        *before += i < team_in_block() ? list_team[i] : 0;
        all += list_team[i];
    }
    return all;
}

DEVICE uint32_t expert_of(const moe_lists_args &a, uint32_t pick) {
    return (uint32_t)slots_of(a.route, a.route_stride, pick / a.n_used)[pick % a.n_used].expert;
}

KERNEL(moe_lists, moe_lists_args, MOE_BLOCK) {
    const uint32_t e = block_x(), n = a.n_tok * a.n_used;
    uint32_t less = 0, before;
    for (uint32_t i = thread_x(); i < n; i += MOE_BLOCK) less += expert_of(a, i) < e;
    uint32_t at = block_scan(less, &before);
    if (thread_x() == 0) a.first[e] = at;
    if (thread_x() == 0 && e == a.n_expert - 1) a.first[a.n_expert] = n;
    for (uint32_t from = 0; from < n; from += MOE_BLOCK) {
        const uint32_t i = from + thread_x();
        const uint32_t mine = i < n && expert_of(a, i) == e;
        const uint32_t found = block_scan(mine, &before);
        if (mine) a.pick[at + before] = i;
        at += found;
    }
}

/* --- the weighted sum, one value a thread, slots ascending */
KERNEL(moe_combine, moe_combine_args, MOE_BLOCK) {
    const uint32_t tok = block_y();
    const float *x = floats_of(a.x, a.x_stride, tok);
    const moe_slot *slot = slots_of(a.route, a.route_stride, tok);
    float *y = (float *)floats_of(a.y, a.y_stride, tok);
    for (uint32_t j = 0; j < MOE_TILE / MOE_BLOCK; j++) {
        const uint32_t i = block_x() * MOE_TILE + j * MOE_BLOCK + thread_x();
        if (i >= a.width) continue;
        float sum = x[i] * slot[0].weight;
        for (uint32_t s = 1; s < a.n_used; s++) sum = sum + x[(uint64_t)s * a.width + i] * slot[s].weight;
        y[i] = sum;
    }
}
