/* Threads of the server's own for work that waits (the context store: disk, other processes, an engine), so that neither the loop
 * nor libuv's threads, which prepare prompts, stand still for it. Tasks begin in the order given; a bounded number waits.
 * Functions are for the loop thread. */
#ifndef ROCMFORGE_SERVER_WORKERS_H
#define ROCMFORGE_SERVER_WORKERS_H

#include "server/exchange.h"

typedef struct workers workers;

typedef struct {
    void (*run)(void *user);               /* on one of the threads */
    void (*done)(void *user, exchange *x); /* then on the loop; x NULL: there was none, or its peer left meanwhile */
    void *user;
    bool always; /* run it even when the peer left before it began */
} worker_task;

workers *workers_new(void *uv_loop, uint32_t n_threads, uint32_t most_waiting); /* NULL: no memory, no thread */
/* While the task is under way x->user and x->closed are taken; they are NULL again in done. x NULL: it belongs to nobody.
 * false: too many wait, or no memory; nothing was done. */
bool workers_run(workers *w, exchange *x, const worker_task *t);
/* Waits for what runs; what waits is run where it must be, and ended by done. The loop must turn once more. NULL is fine. */
void workers_free(workers *w);

#endif
