/* Logits + parameters + position -> token. Pure functions: the random number is rng_unit(seed, position), the history of
 * tokens is the caller's, so a request can be continued anywhere with the same result. Order and meaning as llama.cpp's
 * default chain: logit bias (and ignore-eos as a bias of -inf), penalties, top-k, top-p, min-p, temperature, draw.
 * Temperature 0 (or below) is greedy: the highest logit, the lowest id among equals, after bias and penalties.
 * Scratch is a caller-owned `sample_scratch` sized once for a vocabulary: sampling allocates nothing. One thread per scratch. */
#ifndef ROCMFORGE_SAMPLE_SAMPLE_H
#define ROCMFORGE_SAMPLE_SAMPLE_H

#include "base/err.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int32_t id;
    float bias; /* -INFINITY bans the token */
} sample_bias;

typedef struct {
    float temperature;       /* 0.8; <= 0 greedy */
    int32_t top_k;           /* 40; <= 0 off */
    float top_p;             /* 0.95; 1 off */
    float min_p;             /* 0.05; 0 off */
    float repeat_penalty;    /* 1 off */
    float presence_penalty;  /* 0 off */
    float frequency_penalty; /* 0 off */
    int32_t repeat_last_n;   /* 64; 0 off, -1 the whole history given */
    uint64_t seed;
    const sample_bias *bias; /* borrowed */
    size_t n_bias;
    const int32_t *banned; /* ids that may not be drawn (ignore-eos); borrowed */
    size_t n_banned;
} sample_params;

sample_params sample_defaults(void); /* the figures above */
MUST_CHECK status sample_check(const sample_params *p, uint32_t n_vocab,
                               err *e); /* ERR_RANGE naming the field, ERR_TOKEN */

typedef struct {
    int32_t id;
    float
        logprob; /* natural log of the softmax of the raw logits (before bias, penalties, truncation and temperature) */
} sample_top;

typedef struct {
    int32_t id;
    float logprob;   /* as above, of the chosen token */
    sample_top *top; /* caller's array of n_top, filled best first; NULL when n_top is 0 */
    uint32_t n_top;  /* in: how many are asked for; out: how many there are */
} sample_result;

typedef struct sample_scratch sample_scratch;
sample_scratch *sample_scratch_new(uint32_t n_vocab); /* NULL: out of memory */
void sample_scratch_free(sample_scratch *s);

/* logits: [n_vocab], read only. history: the last tokens of the sequence, oldest first (prompt included, as llama.cpp).
 * pos: position of the token being drawn. ERR_NUMBERS when a logit is NaN or +-infinity. */
MUST_CHECK status sample_token(const float *logits, uint32_t n_vocab, const sample_params *p, const int32_t *history,
                               size_t n_history, uint64_t pos, sample_scratch *s, sample_result *out, err *e);

/* Stop strings that may span tokens. Feed it the text as it is produced; it passes on what can no longer be part of a stop
 * string and says when one was met (nothing of it is passed on). */
typedef struct stop_matcher stop_matcher;
MUST_CHECK status stop_matcher_new(stop_matcher **out, const char *const *stops, size_t n,
                                   err *e); /* n 0: passes all */
void stop_matcher_free(stop_matcher *m);
/* Appends to `out` what may be shown now. Returns the index of the stop string that was met, or -1. */
int stop_matcher_push(stop_matcher *m, const char *text, size_t n, strbuf *out);
void stop_matcher_flush(stop_matcher *m, strbuf *out); /* at the end: what was held back was no stop string after all */

#endif
