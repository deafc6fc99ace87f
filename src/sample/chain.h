/* From logits to candidates and their weights: bias, penalties, top-k, top-p, min-p, temperature, in that order (the
 * meaning of each is llama.cpp's). Private to this room. */
#ifndef ROCMFORGE_SAMPLE_CHAIN_H
#define ROCMFORGE_SAMPLE_CHAIN_H

#include "sample/sample.h"
#include "sample/topk.h"

struct sample_scratch {
    uint32_t n_vocab;
    float *logit;   /* [n_vocab] after bias and penalties */
    float *weight;  /* [n_vocab] of the candidates */
    uint32_t *seen; /* [n_vocab] occurrences in the history; zero between calls */
    topk top;
};

typedef struct {
    uint32_t n;          /* at least 1 */
    const uint64_t *key; /* topk_index(key[i]) is the token; NULL: candidate i is token i */
    const float *weight; /* [n], 0 for what is banned; probability is weight / sum */
    double sum;          /* of the weights (softmax_total) */
} candidates;

static inline uint32_t candidate_id(const candidates *c, uint32_t i) { return c->key ? topk_index(c->key[i]) : i; }

/* Logits after bias and penalties: `logits` itself where there are none, otherwise s->logit. */
const float *chain_adjust(const float *logits, uint32_t n_vocab, const sample_params *p, const int32_t *history,
                          size_t n_history, sample_scratch *s);

/* x: adjusted logits whose largest is max, finite. */
void chain_candidates(const float *x, uint32_t n_vocab, float max, const sample_params *p, sample_scratch *s,
                      candidates *out);

#endif
