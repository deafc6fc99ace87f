#include "sample/sample.h"

#include "base/fmath.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sample/chain.h"
#include "sample/softmax.h"

#include <assert.h>
#include <math.h>

sample_params sample_defaults(void) {
    return (sample_params){
        .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1, .repeat_last_n = 64};
}

static status check_unit(const char *name, float v, err *e) {
    return v >= 0 && v <= 1 ? OK : fail(e, ERR_RANGE, "%s is %g; it must be between 0 and 1", name, (double)v);
}

static status check_finite(const char *name, float v, err *e) {
    return isfinite(v) ? OK : fail(e, ERR_RANGE, "%s is %g; it must be a finite number", name, (double)v);
}

static status check_token(const char *name, int32_t id, uint32_t n_vocab, err *e) {
    if (id >= 0 && (uint32_t)id < n_vocab) return OK;
    return fail(e, ERR_TOKEN, "%s: token %d is not in the vocabulary of %u", name, id, n_vocab);
}

static status check_ids(const sample_params *p, uint32_t n_vocab, err *e) {
    status s = OK;
    for (size_t i = 0; !s && i < p->n_bias; i++) {
        s = check_token("logit_bias", p->bias[i].id, n_vocab, e);
        if (!s && (isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY))
            s = fail(e, ERR_RANGE, "logit_bias of token %d is %g; it must be a finite number or -infinity",
                     p->bias[i].id, (double)p->bias[i].bias);
    }
    for (size_t i = 0; !s && i < p->n_banned; i++) s = check_token("banned", p->banned[i], n_vocab, e);
    return s;
}

status sample_check(const sample_params *p, uint32_t n_vocab, err *e) {
    status s = check_finite("temperature", p->temperature, e);
    if (!s) s = check_unit("top_p", p->top_p, e);
    if (!s) s = check_unit("min_p", p->min_p, e);
    if (!s) s = check_finite("presence_penalty", p->presence_penalty, e);
    if (!s) s = check_finite("frequency_penalty", p->frequency_penalty, e);
    if (!s && !(p->repeat_penalty > 0 && isfinite(p->repeat_penalty) && isfinite(1 / p->repeat_penalty)))
        s = fail(e, ERR_RANGE, "repeat_penalty is %g; it must be a finite number above 0", (double)p->repeat_penalty);
    if (!s && p->repeat_last_n < -1)
        s = fail(e, ERR_RANGE, "repeat_last_n is %d; it must be -1 (all), 0 (off) or more", p->repeat_last_n);
    return s ? s : check_ids(p, n_vocab, e);
}

sample_scratch *sample_scratch_new(uint32_t n_vocab) {
    sample_scratch *s = mem_zalloc(sizeof *s);
    if (!s) return NULL;
    s->n_vocab = n_vocab;
    s->logit = mem_array(n_vocab, sizeof *s->logit);
    s->weight = mem_array(n_vocab, sizeof *s->weight);
    s->seen = mem_array(n_vocab, sizeof *s->seen);
    if (topk_init(&s->top, n_vocab) && s->logit && s->weight && s->seen) return s;
    sample_scratch_free(s);
    return NULL;
}

void sample_scratch_free(sample_scratch *s) {
    if (!s) return;
    mem_free(s->logit);
    mem_free(s->weight);
    mem_free(s->seen);
    topk_free(&s->top);
    mem_free(s);
}

static uint32_t index_of(const float *x, float v) {
    uint32_t i = 0;
    while (x[i] != v) i++;
    return i;
}

/* The first candidate at which the running sum passes u * sum; where rounding leaves it short, the last. Candidates of weight
 * 0 are never met. */
static uint32_t draw(const candidates *c, double u) {
    uint32_t i = softmax_walk(c->weight, c->n, u * c->sum, true);
    if (i == SOFTMAX_NONE)
        for (i = c->n - 1; i > 0 && c->weight[i] == 0;) i--;
    return candidate_id(c, i);
}

static void fill_logprobs(const float *logits, uint32_t n_vocab, float max, sample_scratch *s, sample_result *out) {
    const double log_sum = rf_log(softmax_sum(logits, n_vocab, max));
    out->logprob = (float)((double)logits[out->id] - (double)max - log_sum);
    if (out->n_top == 0) return;
    out->n_top = topk_select(&s->top, logits, n_vocab, out->n_top);
    for (uint32_t i = 0; i < out->n_top; i++) {
        const uint32_t id = topk_index(s->top.key[i]);
        out->top[i].id = (int32_t)id;
        out->top[i].logprob = (float)((double)logits[id] - (double)max - log_sum);
    }
}

static status refuse_numbers(const float *logits, uint32_t n_vocab, uint64_t pos, err *e) {
    uint32_t i = 0;
    while (i + 1 < n_vocab && isfinite(logits[i])) i++;
    return fail(e, ERR_NUMBERS, "position %llu: the logit of token %u is %g", (unsigned long long)pos, i,
                (double)logits[i]);
}

status sample_token(const float *logits, uint32_t n_vocab, const sample_params *p, const int32_t *history,
                    size_t n_history, uint64_t pos, sample_scratch *s, sample_result *out, err *e) {
    assert(n_vocab > 0 && n_vocab <= s->n_vocab);
    bool finite;
    const float max = softmax_max(logits, n_vocab, &finite);
    if (!finite) return refuse_numbers(logits, n_vocab, pos, e);
    const float *x = chain_adjust(logits, n_vocab, p, history, n_history, s);
    const float best = x == logits ? max : softmax_max(x, n_vocab, &finite);
    if (best == -INFINITY) return fail(e, ERR_RANGE, "position %llu: every token is banned", (unsigned long long)pos);
    if (p->temperature <= 0) {
        out->id = (int32_t)index_of(x, best);
    } else {
        candidates c;
        chain_candidates(x, n_vocab, best, p, s, &c);
        out->id = (int32_t)draw(&c, rng_unit(p->seed, pos));
    }
    fill_logprobs(logits, n_vocab, max, s, out);
    return OK;
}
