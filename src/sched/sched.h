/* The scheduler: owns the requests, their token logs and pages, and decides what each step computes: one token for every
 * running sequence first, then prompt chunks up to the step's budget. Everything needed to go on is here; the executor only
 * computes. One thread calls sched_step; requests are made, submitted, cancelled and freed by any thread. */
#ifndef ROCMFORGE_SCHED_SCHED_H
#define ROCMFORGE_SCHED_SCHED_H

#include "base/err.h"
#include "exec/exec.h"
#include "kv/kv.h"
#include "sample/sample.h"
#include "text/tokenizer.h"

#include <stdatomic.h>

typedef enum { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED } finish_reason;

typedef struct sched sched;
typedef struct sched_request sched_request;

typedef struct {
    int64_t prompt_us, predicted_us; /* from first chunk to first token; from there to the last */
    uint32_t n_prompt, n_predicted;
} sched_timings;

/* What happens to a request, on the scheduler's thread. Text is whole UTF-8 and may be empty for a token. */
typedef struct {
    void (*token)(void *user, int32_t id, float logprob, const sample_top *top, uint32_t n_top, const char *text,
                  size_t n);
    void (*logits)(void *user, uint32_t pos, const float *row, uint32_t n_vocab); /* NULL: not wanted */
    void (*prompt)(void *user, uint32_t done, uint32_t total);                    /* NULL: not wanted */
    void (*finished)(void *user, finish_reason why, const sched_timings *t);
    void (*failed)(void *user, const err *e);
} sched_events;

typedef struct {
    const int32_t *prompt; /* copied */
    size_t n_prompt;
    int64_t max_tokens;     /* to generate; -1: until the end or a full context */
    sample_params sampling; /* bias copied */
    bool ignore_eos;
    const char *const *stop; /* copied */
    size_t n_stop;
    uint32_t n_top;    /* alternatives with each token */
    bool special_text; /* control tokens as text */
    sched_events events;
    void *user;
} sched_params;

/* x and t are borrowed. context: most tokens of one sequence. */
MUST_CHECK status sched_open(sched **out, exec *x, const tokenizer *t, const exec_options *shape, uint32_t context,
                             err *e);
void sched_close(sched *s); /* requests still open are cancelled without an event */

/* Checks, copies and queues. The scheduler lets go of a request before its last event (finished or failed); from then on it
 * is the submitter's to free. Any thread. */
MUST_CHECK status sched_submit(sched *s, const sched_params *p, sched_request **out, err *e);
void sched_cancel(sched_request *r);       /* any thread, also a signal handler; seen before the next step */
void sched_request_free(sched_request *r); /* after its last event; NULL is fine */

bool sched_has_work(sched *s); /* any thread */
/* One step. Failures of one request are its `failed` event; an error returned here is the engine's end. */
MUST_CHECK status sched_step(sched *s, err *e);

#endif
