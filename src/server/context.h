/* /context/...: the store of messages over HTTP, beside generation. Every call of the store waits (for the disk, other processes,
 * an engine), so it runs on the server's own threads (workers.h), never on the loop. Loop thread. */
#ifndef ROCMFORGE_SERVER_CONTEXT_H
#define ROCMFORGE_SERVER_CONTEXT_H

#include "server/app.h"
#include "server/workers.h"

enum { CONTEXT_WAITING = 1000, CONTEXT_THREADS = 8 }; /* embeddings of so many texts are computed together */

/* Runs a task on them, or replies 429. */
bool context_run(app *a, exchange *x, const worker_task *t);
/* Computes the vectors of messages that were kept without the model, a few at a time, while the server runs. */
void context_catch_up(app *a);
/* false: it replied 404, naming the option. */
bool context_is_there(app *a, exchange *x);

#endif
