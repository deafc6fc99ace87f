/* A scheduler on a tiny model, stepped by the test itself: what happens in which step is the test's to say, whatever the
 * clock does. And what its requests were told. */
#ifndef ROCMFORGE_TESTS_SCHED_RIG_H
#define ROCMFORGE_TESTS_SCHED_RIG_H

#include "sched/sched_own.h"
#include "tiny_gguf.h"

enum { RIG_PAGE = 16, RIG_CONTEXT = 640, TOLD_MOST = RIG_CONTEXT };

typedef struct {
    uint32_t ubatch, parallel, rows, pages; /* 0: 128, 4, parallel, `parallel` contexts */
    sched_options opt;                      /* context and parallel are filled in */
} rig_shape;

typedef struct {
    char path[TINY_PATH];
    gguf *file;
    tokenizer *text;
    exec *x;
    exec_options shape;
    sched *s;
} sched_rig;

void sched_rig_open(sched_rig *r, const rig_shape *shape); /* one tiny model for all of a program's rigs */
void sched_rig_close(sched_rig *r);
void sched_rig_end(void); /* removes the model's file */

/* All that a request reported; `prompt_calls` with what the first and the last of them said. */
typedef struct {
    int32_t id[TOLD_MOST];
    float logprob[TOLD_MOST];
    uint32_t n_ids, n_rows, prompt_calls, first_done, last_done, n_ends;
    char text[2048];
    size_t n_text;
    float sum;            /* of logits, in order */
    float mean[64];       /* of an embedding */
    finish_reason finish; /* FINISH_NONE: failed */
    err failed;
    sched_timings t;
    sched_request *q;      /* until it ended */
    uint32_t cancel_after; /* tokens; 0: never */
} told;

sched_params rig_params(const int32_t *prompt, size_t n_prompt, int64_t max_tokens); /* greedy, no special tokens */
void rig_submit(sched_rig *r, sched_params p, told *t); /* t is started anew, but for cancel_after */
void rig_step(sched_rig *r);
uint32_t rig_run(sched_rig *r); /* until there is no work; steps it took */
void rig_want_logits(sched_params *p);
void rig_want_embedding(sched_params *p);
sched_stats rig_stats(sched_rig *r);

void assert_told_equal(const told *a, const told *b); /* ids, log-probabilities, text, rows, end */

/* n tokens of text, by seed and position: two lists with one seed begin alike. */
void rig_tokens(int32_t *out, uint32_t n, uint64_t seed);

#endif
