/* A client's generation: one prompt, one to several choices, each an engine request. The engine's thread hands events over
 * through a ring of the job's own (nothing is allocated there while it has room) and wakes the loop; everything below is
 * called and calls back on the loop thread. Jobs are known by a number and by their request id, while they run and for a
 * while after (the last 1,000, 64 MiB of texts, ten minutes), for /status and /cancel in every dialect.
 * When the exchange's peer is gone the job is cancelled, and pruned like any other. */
#ifndef ROCMFORGE_SERVER_JOB_H
#define ROCMFORGE_SERVER_JOB_H

#include "base/json.h"
#include "server/app.h"

typedef struct job job;

typedef struct {
    enum { JOB_PROMPT, JOB_TOKEN, JOB_EMBEDDING, JOB_FINISHED, JOB_FAILED } kind;
    uint32_t choice;
    int32_t id; /* TOKEN; -1: text only */
    float logprob;
    const rf_alternative *top;
    uint32_t n_top;
    str text;
    uint32_t prompt_done, prompt_total;
    const float *row; /* EMBEDDING */
    uint32_t n_embd;
    const rf_event *end; /* FINISHED */
    const rf_error *error;
} job_event;

typedef struct {
    const int32_t *ids;
    size_t n;
} job_prompt;

typedef struct {
    rf_request_params params; /* borrowed until job_start returns; choice i draws with seed + i */
    uint32_t n;               /* choices; 1 */
    /* Several prompts in params' place, each with n choices: choice i is number i % n of prompt i / n. NULL: params' alone. */
    const job_prompt *prompts;
    uint32_t n_prompts;
    /* Choices in the engine at once, the others follow as these end; then prompts and params' lists live until `released`.
     * 0: all of them. */
    uint32_t window;
    const char *operation, *route;
    bool stream;
    /* An event of a choice. After the last choice's FINISHED or FAILED, done: the route replies and the exchange ends. */
    void (*event)(job *j, const job_event *ev);
    void (*done)(job *j);
    void (*released)(job *j); /* frees user; the exchange may be long gone. NULL: nothing to free */
    void (*tick)(job *j);     /* every five seconds until the first token, for pings. NULL: not wanted */
    void *user;
    const char *prompt_field; /* named when the engine refuses the prompt itself; NULL: "prompt" */
} job_options;

struct job {
    app *app;
    exchange *x; /* NULL once the peer is gone or the reply was ended */
    uint32_t id;
    void *user;
    uint32_t n, n_ended;
    bool cancelled, failed;
    rf_error error;               /* of the first choice that failed */
    rf_event *end;                /* [n] FINISHED of each choice */
    int64_t started_us, first_us; /* first_us: of the first token of any choice; 0: none yet */
    uint64_t seed;                /* of choice 0 */
    const char *request_id;       /* as the exchange's; lives as long as the job */
    char response_id[64];         /* for logs and traces; a dialect with ids of its own sets it */
};

/* Starts it, or replies the error itself and returns NULL; then opt->user stays the caller's and `released` is not called.
 * Takes over x->closed and x->user. Events come from a later turn of the loop, never from inside job_start.
 * `event`, `tick` and `done` are called only while j->x is there: a write may end in its loss, so look after each. A route
 * that ends its reply before `done` sets j->x to NULL first (exchange_end does not call back). */
job *job_start(app *a, exchange *x, const job_options *opt);
void job_cancel(job *j);
void job_ping(job *j); /* a stream's comment, unless one went out within the last second; good as `tick` */
/* What a choice has said so far: shared text and ids. After the job's end only choice 0's are kept. */
str job_text(const job *j, uint32_t choice);
const int32_t *job_tokens(const job *j, uint32_t choice, size_t *n);
json_t *job_tokens_json(const job *j, uint32_t choice); /* all of them, or NULL: no memory */
/* "stop", "eos", "length", "cancelled", "failed"; NULL: it runs */
const char *job_finish_name(const job *j, uint32_t choice);
/* {prompt_tokens, completion_tokens, total_tokens, cached_tokens, prompt_tokens_details}, of all choices */
json_t *job_usage(const job *j);
/* What a reply tells of: the request's own (borrowed; NULL: none), the engine's, and what befell it there. NULL: nothing */
json_t *job_warnings(const job *j, const json_t *own);
json_t *job_timings(const job *j); /* llama.cpp's timings object of choice 0 */

jobs *jobs_new(app *a, void *uv_loop);
void jobs_free(jobs *all); /* after every job ended; closes its handles, so the loop must turn once more */
void jobs_cancel_all(jobs *all);
uint32_t jobs_running(const jobs *all);
job *jobs_find(jobs *all, str id); /* by number or request id; running or lately ended. NULL: unknown */

/* The native shape of a job now or at its end: {request_id, text, tokens, finished, finish_reason}. */
json_t *job_status(const job *j);
/* What runs, for /slots: calls each for every running choice. */
void jobs_each(jobs *all,
               void (*each)(void *ctx, const job *j, uint32_t choice, uint32_t n_prompt, uint32_t n_done,
                            uint32_t n_predicted),
               void *ctx);

#endif
