/* One fixed question to a model: 40 tokens in chunks of 32, then 4 single ones, then 64 at once (so that the kernels of single
 * tokens, of a few and of many all answer), and the logits after each step; then the last token again, for each of a few ways
 * to draw the next one (a device may draw by itself, exec.h), the last with a list of the best, which shows every candidate
 * that a device brings together for it. Two executors of the same model that compute alike give the same bits: the CPU's tiers
 * do, and GPUs do (backend/gpu/gpu.h). So what is allowed is no difference at all, whatever the weights' types. Uses the first
 * pages of the executor's cache, which nobody may hold. One thread. */
#ifndef ROCMFORGE_EXEC_PROBE_H
#define ROCMFORGE_EXEC_PROBE_H

#include "exec/exec.h"

enum { PROBE_PROMPT = 40, PROBE_CHUNK = 32, PROBE_DECODES = 4, PROBE_LONG = 64 };
enum {
    PROBE_TOKENS = PROBE_PROMPT + PROBE_DECODES + PROBE_LONG,
    PROBE_MAX_STEPS = PROBE_TOKENS,
    PROBE_DRAWS = 5,
    PROBE_TOP = 64
};

typedef struct { /* compared as bytes: all are members */
    int32_t id;  /* -1: nothing could be drawn */
    float logprob;
    uint32_t n_top; /* 0 but for the last draw */
    sample_top top[PROBE_TOP];
} probe_draw;

typedef struct {
    uint32_t n_steps, after[PROBE_MAX_STEPS]; /* tokens of the sequence at the end of each step */
    uint32_t n_vocab;
    float *logits; /* [n_steps][n_vocab] */
    probe_draw draw[PROBE_DRAWS];
} probe_answer;

/* max_tok: the most tokens a step of either executor takes; n_tok: tokens that the caches have room for. */
MUST_CHECK status probe_ask(probe_answer *a, exec *x, uint32_t max_tok, uint32_t n_tok, err *e);
void probe_free(probe_answer *a);

void probe_hash(const probe_answer *a, uint64_t out[2]);

typedef struct {
    uint64_t n_values, n_differ; /* bits; NaN equals NaN */
    double max_diff;             /* infinity: a number stands against a NaN */
    uint32_t first_after;        /* tokens after which the first difference came; 0: none */
} probe_difference;

probe_difference probe_compare(const probe_answer *a, const probe_answer *b, uint32_t first_step, uint32_t n_steps);

uint32_t probe_draws_differ(const probe_answer *a, const probe_answer *b); /* of PROBE_DRAWS */

/* The first layer whose keys or values of the probe's tokens differ between two caches of the same shape; -1: none does. */
MUST_CHECK status probe_first_layer(const probe_answer *a, exec *x, exec *y, int32_t *layer, err *e);

#endif
