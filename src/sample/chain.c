#include "sample/chain.h"

#include "base/fmath.h"
#include "sample/softmax.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool penalises(const sample_params *p) {
    return p->repeat_last_n != 0 && (p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0);
}

/* A sum that overflowed stays a number, so that two of them never make a NaN; -infinity means banned. */
static float clamped(float v) { return v > FLT_MAX ? FLT_MAX : v; }

static void add_bias(float *x, uint32_t n, const sample_params *p) {
    for (size_t i = 0; i < p->n_bias; i++)
        if ((uint32_t)p->bias[i].id < n) x[p->bias[i].id] = clamped(x[p->bias[i].id] + p->bias[i].bias);
    for (size_t i = 0; i < p->n_banned; i++)
        if ((uint32_t)p->banned[i] < n) x[p->banned[i]] = -INFINITY;
}

/* Repetition divides a positive logit and multiplies a negative one, once however often the token was seen; frequency is
 * taken off per occurrence, presence once. */
static float penalised(float v, uint32_t seen, const sample_params *p) {
    if (v == -INFINITY) return v;
    v = clamped(v <= 0 ? v * p->repeat_penalty : v / p->repeat_penalty);
    const float off = (float)seen * p->frequency_penalty + p->presence_penalty;
    v = clamped(v - off);
    return v < -FLT_MAX ? -FLT_MAX : v; /* unlikely, not banned */
}

static void add_penalties(float *x, uint32_t n, const sample_params *p, const int32_t *history, size_t n_history,
                          uint32_t *seen) {
    size_t window = n_history;
    if (p->repeat_last_n > 0 && (size_t)p->repeat_last_n < window) window = (size_t)p->repeat_last_n;
    const int32_t *last = history + (n_history - window);
    for (size_t i = 0; i < window; i++)
        if ((uint32_t)last[i] < n) seen[last[i]]++;
    for (size_t i = 0; i < window; i++) {
        if ((uint32_t)last[i] >= n || seen[last[i]] == 0) continue;
        x[last[i]] = penalised(x[last[i]], seen[last[i]], p);
        seen[last[i]] = 0;
    }
}

const float *chain_adjust(const float *logits, uint32_t n_vocab, const sample_params *p, const int32_t *history,
                          size_t n_history, sample_scratch *s) {
    const bool penalties = penalises(p) && n_history > 0;
    if (!p->n_bias && !p->n_banned && !penalties) return logits;
    memcpy(s->logit, logits, n_vocab * sizeof *logits);
    add_bias(s->logit, n_vocab, p);
    if (penalties) add_penalties(s->logit, n_vocab, p, history, n_history, s->seen);
    return s->logit;
}

static void gather(float *dst, const float *x, const uint64_t *key, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) dst[i] = x[topk_index(key[i])];
}

/* Weights of the first n (sorted) candidates at temperature 1, into s->weight. */
static void plain_weights(const float *x, uint32_t n, float max, sample_scratch *s) {
    gather(s->weight, x, s->top.key, n);
    softmax_weights(s->weight, s->weight, n, max, 1.0f);
}

/* top-p over n candidates already sorted in s->top.key: the shortest prefix whose probability is at least top_p. */
static uint32_t top_p_of(const float *x, uint32_t n, float max, float top_p, sample_scratch *s) {
    plain_weights(x, n, max, s);
    const uint32_t last = softmax_walk(s->weight, n, softmax_total(s->weight, n) * (double)top_p, false);
    return last == SOFTMAX_NONE ? n : last + 1;
}

/* top-p over the whole vocabulary: only as many are sorted as are needed, tried by growing powers. Each number tried is whole
 * chunks or all there is, so that the answer is that of sorting them all. */
static uint32_t top_p_of_all(const float *x, uint32_t n_vocab, float max, float top_p, sample_scratch *s) {
    const double goal = softmax_sum(x, n_vocab, max) * (double)top_p;
    for (uint64_t k = SOFTMAX_CHUNK;; k *= 8) {
        const bool all = k >= n_vocab;
        const uint32_t n = topk_select(&s->top, x, n_vocab, all ? n_vocab : (uint32_t)k);
        plain_weights(x, n, max, s);
        const uint32_t last = softmax_walk(s->weight, n, goal, false);
        if (last != SOFTMAX_NONE) return last + 1;
        if (all) return n;
    }
}

/* Neither top-k nor top-p: nothing needs an order, candidates stay in order of their ids. */
static uint32_t min_p_of_all(const float *x, uint32_t n_vocab, float lowest, uint64_t *key) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (x[i] >= lowest) key[n++] = i;
    return n;
}

void chain_candidates(const float *x, uint32_t n_vocab, float max, const sample_params *p, sample_scratch *s,
                      candidates *out) {
    const bool sorts = p->top_k > 0 || p->top_p<1, cuts = p->min_p> 0;
    const float lowest = cuts ? max + (float)rf_log((double)p->min_p) : -INFINITY; /* p_i >= min_p * p_max, as logits */
    uint32_t n = n_vocab;
    if (p->top_k > 0) {
        n = topk_select(&s->top, x, n_vocab, (uint32_t)p->top_k);
        if (p->top_p < 1) n = top_p_of(x, n, max, p->top_p, s);
    } else if (p->top_p < 1) {
        n = top_p_of_all(x, n_vocab, max, p->top_p, s);
    } else if (cuts) {
        n = min_p_of_all(x, n_vocab, lowest, s->top.key);
    }
    if (sorts && cuts)
        while (n > 1 && x[topk_index(s->top.key[n - 1])] < lowest) n--;
    out->n = n;
    out->key = sorts || cuts ? s->top.key : NULL;
    if (out->key) gather(s->weight, x, out->key, n);
    softmax_weights(s->weight, out->key ? s->weight : x, n, max, p->temperature);
    out->weight = s->weight;
    out->sum = softmax_total(s->weight, n);
}
