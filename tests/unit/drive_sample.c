/* Requests on standard input, answers on standard output, for the Python tests. A request is this header, then n_bias
 * pairs (id, bias), n_banned ids, n_history ids, n_vocab logits. Answer: the reason code in 32 bytes; then, when it is
 * "ok", the number of candidates with their ids and probabilities (double), and the ids drawn at positions 0 .. n_draws-1. */
#include "sample/chain.h"
#include "sample/sample.h"
#include "sample/softmax.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    uint32_t n_vocab, n_bias, n_banned, n_history, n_draws;
    int32_t top_k, repeat_last_n;
    float temperature, top_p, min_p, repeat, presence, frequency;
    uint32_t seed;
} request;

static void *take(size_t n, size_t elem) {
    void *p = calloc(n + 1, elem);
    if (!p || fread(p, elem, n, stdin) != n) exit(1);
    return p;
}

static void put(const void *p, size_t n) {
    if (fwrite(p, 1, n, stdout) != n) exit(1);
}

static void put_candidates(const float *logits, const request *r, const sample_params *p, const int32_t *history,
                           sample_scratch *s) {
    candidates c;
    bool finite;
    const float *x = chain_adjust(logits, r->n_vocab, p, history, r->n_history, s);
    chain_candidates(x, r->n_vocab, softmax_max(x, r->n_vocab, &finite), p, s, &c);
    put(&c.n, sizeof c.n);
    for (uint32_t i = 0; i < c.n; i++) {
        const int32_t id = (int32_t)candidate_id(&c, i);
        const double prob = (double)c.weight[i] / c.sum;
        put(&id, sizeof id);
        put(&prob, sizeof prob);
    }
}

static void answer(const request *r) {
    sample_bias *bias = take(r->n_bias, sizeof *bias);
    int32_t *banned = take(r->n_banned, sizeof *banned), *history = take(r->n_history, sizeof *history);
    float *logits = take(r->n_vocab, sizeof *logits);
    const sample_params p = {r->temperature,   r->top_k, r->top_p, r->min_p,  r->repeat, r->presence, r->frequency,
                             r->repeat_last_n, r->seed,  bias,     r->n_bias, banned,    r->n_banned};
    sample_scratch *s = sample_scratch_new(r->n_vocab);
    err e;
    sample_result out = {0};
    status code = s ? sample_check(&p, r->n_vocab, &e) : ERR_NOMEM;
    if (!code) code = sample_token(logits, r->n_vocab, &p, history, r->n_history, 0, s, &out, &e);
    char reason[32] = {0};
    snprintf(reason, sizeof reason, "%s", err_lookup(code)->code);
    put(reason, sizeof reason);
    if (!code && r->temperature > 0) put_candidates(logits, r, &p, history, s);
    for (uint32_t i = 0; !code && i < r->n_draws; i++) {
        code = sample_token(logits, r->n_vocab, &p, history, r->n_history, i, s, &out, &e);
        put(&out.id, sizeof out.id);
    }
    sample_scratch_free(s);
    free(bias), free(banned), free(history), free(logits);
}

int main(void) {
    request r;
    while (fread(&r, sizeof r, 1, stdin) == 1) answer(&r);
    return 0;
}
