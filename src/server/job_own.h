/* What job.c (one generation) and jobs.c (all of them) share. Everything here is the loop thread's, but for job_choice.lost
 * and the putting end of the ring, which are the engine thread's. */
#ifndef ROCMFORGE_SERVER_JOB_OWN_H
#define ROCMFORGE_SERVER_JOB_OWN_H

#include "server/job.h"
#include "server/ring.h"

typedef struct job_own job_own;

typedef struct {
    rf_request *request; /* until its last event was delivered; then it is handed to jobs_retire_request */
    job_own *job;
    uint32_t index;
    bool lost; /* an event found no memory: the engine thread cancelled it, its end says memory.exhausted */
    bool ended, failed;
    uint32_t prompt_done, prompt_total, n_predicted;
    int64_t last_us;
    strbuf text;
    int32_t *tokens;
    size_t n_tokens, cap_tokens;
} job_choice;

struct job_own {
    job j; /* first: a job and its job_own are one address */
    jobs *all;
    job_own *prev, *next; /* running or ended, oldest first */
    bool stopped;         /* cancelled by the server, which is ending: a failure, not the client's wish */
    bool refused;         /* some choice could not start: those that did end unseen */
    ring *ring;
    job_choice *choice; /* [n] */
    uint32_t n_started;
    job_options opt; /* params' lists are not ours */
    char request_id[129], traceparent[64];
    uint64_t received_unix_ns;
    int64_t received_us, ended_us, pinged_us;
    uint32_t n_cached;
    size_t kept_bytes; /* of texts and tokens, once ended */
};

/* job.c */
void job_deliver(job_own *o); /* events that came; may end the job (jobs_ended) */
void job_free(job_own *o);

/* jobs.c */
void jobs_add(jobs *all, job_own *o);
void jobs_drop(jobs *all, job_own *o);              /* one that never ran: out of the books and freed */
void jobs_ended(jobs *all, job_own *o);             /* every choice ended; kept for a while */
void jobs_wake(jobs *all);                          /* any thread */
void jobs_retire_request(jobs *all, rf_request *r); /* freed on the next turn, when the engine has left its callback */
app *jobs_app(jobs *all);

#endif
