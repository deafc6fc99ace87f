#include "sched/budget.h"

/* A gap three times the usual one is seen as a stall; what is aimed at leaves room for what was not foreseen: on two cores shared
 * with the clients 2.25 gave no shorter time to the first token of a long prompt than 1.6, and longer gaps. */
static const double STRETCH = 1.6;
static const double NO_STALL_US = 16000; /* nobody sees a gap this short: a GPU's steps may grow to it */
static const double NEW_SHARE = 0.25;    /* of a new figure in the running mean */

static uint32_t class_of(uint32_t n_decode) {
    uint32_t k = 0;
    while (k + 1 < BUDGET_CLASSES && (1u << k) < n_decode) k++;
    return k;
}

static void blend(double *mean, double v) { *mean = *mean > 0 ? *mean + NEW_SHARE * (v - *mean) : v; }

/* Of the nearest class below that was seen; else of the nearest above; 0: none was. */
static double decode_cost(const step_cost *c, uint32_t n_decode) {
    if (n_decode == 0) return 0;
    uint32_t k = class_of(n_decode);
    for (uint32_t i = k + 1; i-- > 0;)
        if (c->decode_us[i] > 0) return c->decode_us[i];
    for (uint32_t i = k + 1; i < BUDGET_CLASSES; i++)
        if (c->decode_us[i] > 0) return c->decode_us[i];
    return 0;
}

void step_cost_learn(step_cost *c, uint32_t n_decode, uint32_t n_prefill, int64_t us) {
    if (us <= 0 || (n_decode == 0 && n_prefill == 0)) return;
    if (n_prefill == 0) return blend(&c->decode_us[class_of(n_decode)], (double)us);
    double rest = (double)us - decode_cost(c, n_decode), least = (double)us / 8;
    blend(&c->token_us, (rest > least ? rest : least) / n_prefill);
}

uint32_t step_cost_budget(const step_cost *c, uint32_t n_decode, int64_t target_us, uint32_t most) {
    double alone = decode_cost(c, n_decode), aim = (double)target_us;
    double smooth = STRETCH * alone > NO_STALL_US ? STRETCH * alone : NO_STALL_US;
    if (alone > 0 && aim > smooth) aim = smooth;
    double room = aim - alone, n = BUDGET_LEAST;
    if (c->token_us > 0 && room > n * c->token_us) n = room / c->token_us;
    return n < most ? (uint32_t)n : most;
}
