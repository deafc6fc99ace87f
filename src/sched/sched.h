/* The scheduler: owns the requests, their token logs and pages, and decides what each step computes: one token for every
 * running sequence first, then prompt chunks up to the step's budget. Everything needed to go on is here; the executor only
 * computes. One thread calls sched_step; requests are made, submitted, cancelled and freed by any thread.
 *
 * A request waits until a place in the batch and pages for its prompt are free; the oldest goes first. Its beginning is taken
 * from the prefix index (kv/prefix.h), or from the folder (kv/disk.h), the rest is computed in chunks. When pages run out the
 * index gives up what nobody uses, then the newest request is put back to the head of the queue (its tokens stay; it is
 * computed again later: equal bits, so the same text). Requests with a prompt that another is just computing wait for it. */
#ifndef ROCMFORGE_SCHED_SCHED_H
#define ROCMFORGE_SCHED_SCHED_H

#include "base/err.h"
#include "exec/exec.h"
#include "kv/disk.h"
#include "kv/kv.h"
#include "kv/prefix.h"
#include "sample/sample.h"
#include "text/tokenizer.h"

#include <stdatomic.h>

typedef enum { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED } finish_reason;

typedef struct sched sched;
typedef struct sched_request sched_request;

enum { SCHED_WAIT_QUEUE = 1, SCHED_WAIT_KV = 2, SCHED_WAIT_BATCH = 4, SCHED_WAIT_PREFIX = 8 };

typedef struct {
    int64_t queue_us;                /* from submission until it was let in */
    int64_t prompt_us, predicted_us; /* from first chunk to first token; from there to the last */
    uint32_t n_prompt, n_predicted, n_cached, n_preempted;
    unsigned waited_for; /* SCHED_WAIT_ bits */
    int32_t stop;        /* which stop string ended it; -1: none */
    uint32_t n_left;     /* tokens that the device left to the CPU to draw */
    const char *left;    /* ... and why, the last time; static */
} sched_timings;

/* What happens to a request, on the scheduler's thread. Text is whole UTF-8 and may be empty for a token. */
typedef struct {
    void (*token)(void *user, int32_t id, float logprob, const sample_top *top, uint32_t n_top, const char *text,
                  size_t n);
    void (*logits)(void *user, uint32_t pos, const float *row, uint32_t n_vocab); /* NULL: not wanted */
    void (*embedding)(void *user, const float *row, uint32_t n_embd);             /* NULL: not wanted; or the scores */
    void (*prompt)(void *user, uint32_t done, uint32_t total); /* NULL: not wanted; first when it is let in */
    void (*finished)(void *user, finish_reason why, const sched_timings *t);
    void (*failed)(void *user, const err *e);
} sched_events;

typedef enum { POOL_MEAN, POOL_CLS, POOL_LAST } sched_pooling; /* of all hidden states, the first, the last */

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
    bool no_cache;
    int64_t timeout_us;    /* from submission; 0: none. Past it: failed with ERR_TIMEOUT */
    sched_pooling pooling; /* of an embedding */
    bool scores;           /* of an embedding: what the rank head makes of that state (not with POOL_MEAN) */
    sched_events events;
    void *user;
} sched_params;

typedef enum { CHUNK_ADAPTIVE, CHUNK_FIXED, CHUNK_NONE } chunk_strategy;

typedef struct {
    uint32_t context;  /* most tokens of one sequence */
    uint32_t parallel; /* most sequences that run */
    uint32_t queue;    /* requests beyond `parallel`: submission past them is ERR_QUEUE_FULL; 0: any number */
    chunk_strategy chunking;
    uint32_t chunk;  /* CHUNK_FIXED: prompt tokens a step beside running generations; alone: all that fit */
    int64_t step_us; /* CHUNK_ADAPTIVE: what such a step may last, see budget.h */
    bool no_prefix;  /* no prefix cache at all */
    kv_disk *disk;   /* borrowed; NULL: none */
} sched_options;

/* x and t are borrowed. ERR_RANGE when the cache holds less than one full context. */
MUST_CHECK status sched_open(sched **out, exec *x, const tokenizer *t, const exec_options *shape,
                             const sched_options *opt, err *e);
void sched_close(sched *s); /* requests still open are cancelled without an event */

/* Checks, copies and queues. The scheduler lets go of a request before its last event (finished or failed); from then on it
 * is the submitter's to free. Any thread. */
MUST_CHECK status sched_submit(sched *s, const sched_params *p, sched_request **out, err *e);
void sched_cancel(sched_request *r);       /* any thread, also a signal handler; seen before the next step */
void sched_request_free(sched_request *r); /* after its last event; NULL is fine */

bool sched_has_work(sched *s); /* any thread */
/* One step. Failures of one request are its `failed` event; an error returned here is the engine's end. */
MUST_CHECK status sched_step(sched *s, err *e);

typedef struct {
    uint32_t running, waiting;
    uint32_t pages_total, pages_used, pages_cached; /* used: by requests; cached: held by the index alone */
    uint64_t tokens_held; /* whose keys and values stand in pages, used or cached; shared ones once */
    uint64_t steps, step_us, tokens_computed, prompt_tokens, cached_tokens, generated_tokens;
    uint64_t preemptions, pages_copied, waited_queue, waited_kv, waited_batch, waited_prefix;
    uint64_t seqs_computed; /* sequences of all steps */
    uint64_t draws_left;    /* tokens that the device left to the CPU to draw */
    const char *left;       /* ... and why, the last time; static. NULL: none was */
    uint32_t last_batch_seqs, last_batch_tokens;
    kv_prefix_stats prefix;
    kv_disk_stats disk;
} sched_stats;
void sched_get_stats(sched *s, sched_stats *out); /* any thread: figures of the last step */

#endif
