/* What the files of this room share: a request, the scheduler, and who does what with them.
 *
 *   request.c  a request's memory, its states, submission      admit.c    who is let in, who waits and why, who is put back
 *   pages.c    pages of a request, prefix index, folder         batch.c    what the next step computes
 *   budget.c   how many tokens of prompts a step may hold       deliver.c  what came of it: tokens, text, ends
 *   sched.c    open, close, the step, statistics
 *
 * `waiting` and `running` are the stepping thread's alone, both in order of submission: the oldest request is always served
 * first and never put back, so it always ends. */
#ifndef ROCMFORGE_SCHED_SCHED_OWN_H
#define ROCMFORGE_SCHED_SCHED_OWN_H

#include "sched/budget.h"
#include "sched/sched.h"

#include <pthread.h>

/*   WAITING --> PREFILL --> DECODE --> DONE     any of them may be DONE at once (cancelled, failed, out of time);
 *      ^___________|___________|               put back when pages run out */
typedef enum { REQUEST_WAITING, REQUEST_PREFILL, REQUEST_DECODE, REQUEST_DONE } request_state;

struct sched_request {
    sched_request *next; /* in the list it stands in */
    uint64_t order;      /* of submission */
    request_state state;
    sched_params p;
    _Atomic bool cancelled;
    int32_t *log; /* prompt, then what was generated; room for the whole sequence */
    uint32_t n_log, max_log, n_prompt;
    /* pages */
    uint32_t n_done; /* tokens whose keys and values are in the cache */
    uint32_t *pages;
    uint32_t n_pages;
    kv_node node;     /* of its last page that the index knows */
    uint32_t n_nodes; /* so many of its pages the index knows */
    uint32_t n_open;  /* tokens of the page after those that it knows too */
    bool keeps;       /* its pages go into the index */
    uint32_t n_saved; /* pages of the prompt that the folder was given, or has */
    uint64_t saved_key;
    /* waiting for one that computes the same beginning */
    sched_request *leader;
    uint32_t leader_until; /* its n_done */
    /* this step */
    uint32_t n_step, out, n_out; /* tokens; its rows of output */
    sample_result result;
    err failed;                  /* code OK: no */
    const char *left_now, *left; /* why the device did not draw in this step, or the last time; NULL: it did */
    uint32_t n_left;
    /* what was told */
    uint32_t n_told; /* tokens of the prompt reported as read */
    uint32_t n_rows; /* positions whose row was reported (logits) or added up (embedding) */
    double *sum;     /* embedding: [width_of_rows] */
    float *mean;
    sample_bias *bias;
    stop_matcher *stops;
    utf8_hold hold;
    strbuf piece, whole, show; /* a token's bytes; whole characters; what may be shown */
    int64_t submitted_us, deadline_us /* 0: none */, started_us /* 0: not yet let in */, first_us, last_us;
    uint32_t n_cached, n_preempted;
    unsigned waited_for;
};

typedef struct {
    sched_request *first; /* ascending order of submission */
    uint32_t n;
} request_list;

void list_insert(request_list *l, sched_request *r);
void list_remove(request_list *l, sched_request *r);

struct sched {
    exec *x;
    const tokenizer *t;
    exec_options shape;
    sched_options opt;
    uint32_t n_vocab, d_model, n_scores;
    bool whole;            /* an encoder's prompts are computed in one step, never in chunks */
    uint32_t most_running; /* each has a token and a row of output in every step */
    kv_pool *pool;
    kv_prefix *prefix; /* NULL: none */
    void *page;        /* one page, on its way to or from the folder */
    request_list waiting, running;
    step_cost cost;
    int64_t now_us; /* at the step's start, then at its end */
    sched_stats now;

    pthread_mutex_t lock; /* guards what follows */
    sched_request *inbox, **inbox_end;
    uint32_t n_live; /* submitted and not ended */
    uint64_t n_submitted;
    sched_stats shown;

    /* the batch of the running step, sized once */
    int32_t *token, *pos, *out_row;
    uint32_t *seq;
    exec_seq *seqs;
    sched_request **who; /* [n_seq] */
    exec_batch batch;
};

/* --- request.c */
/* ERR_INTERNAL for a step that the drawing above does not have; then nothing is changed. */
MUST_CHECK status request_move(sched_request *r, request_state to, err *e);
void request_to(sched_request *r, request_state to);         /* where another answer than OK is a bug */
bool request_wants_rows(const sched_request *r);             /* output rows from its prompt's first position on */
bool request_wants_all(const sched_request *r);              /* and one at each */
bool request_wants_row(const sched_request *r, uint32_t at); /* at this position, unless it was told */
bool request_generates(const sched_request *r);
uint32_t width_of_rows(const sched *s, const sched_request *r); /* of an embedding */

/* --- pages.c */
/* The known beginning of r and pages for the rest of its log; false: they are not there, r has none. beside: pages that
 * must stay free for others. */
bool pages_admit(sched *s, sched_request *r, uint32_t beside);
bool pages_grow(sched *s, sched_request *r); /* a page for the next token; false: none to be had */
void pages_keep(sched *s, sched_request *r); /* what was filled goes into the index, and into the folder */
void pages_keep_open(sched *s, sched_request *r);
void pages_drop(sched *s, sched_request *r);
uint32_t pages_for(const sched *s, uint32_t n_tokens);

/* --- admit.c */
void admit_waiting(sched *s);
bool put_back_newest(sched *s, sched_request *needy); /* false: needy itself was put back */
void forget_leader(sched *s, const sched_request *r);

/* --- batch.c */
void add_decodes(sched *s);
void add_prefill(sched *s);

/* --- deliver.c */
void deliver(sched *s);
void finish_request(sched *s, sched_request *r, finish_reason why, int32_t stop);
void fail_request(sched *s, sched_request *r, const err *e);

/* --- sched.c */
void publish(sched *s, uint32_t n_ended); /* the figures, for sched_get_stats; that many requests are no more */

#endif
