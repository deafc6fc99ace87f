/* A thread pool for many short jobs. A job is n chunks of work; threads claim chunks one by one from a counter, and the job
 * is done when its last chunk is, whoever ran it. So a thread that the system took off its core holds up at most the chunk
 * it is in, and one that wakes late finds the work done by the others: more threads than cores, or another program on one
 * of them, slow a job down by their share and no more. Waiting threads spin for some microseconds, then sleep in a futex;
 * an idle pool uses no CPU. Which thread runs a chunk never changes a result: chunks write disjoint memory. */
#ifndef ROCMFORGE_BACKEND_CPU_POOL_H
#define ROCMFORGE_BACKEND_CPU_POOL_H

#include "base/err.h"

#include <stdint.h>

typedef struct pool pool;
/* worker: 0 .. pool_size - 1, the caller of pool_run is 0; for per-thread scratch. */
typedef void (*pool_fn)(void *ctx, uint32_t chunk, uint32_t worker);

enum { POOL_MAX_THREADS = 256 };

MUST_CHECK status pool_open(pool **out, uint32_t n_threads, err *e); /* n_threads counts the caller */
void pool_close(pool *p);                                            /* NULL is fine; joins the threads */
uint32_t pool_size(const pool *p);
/* Runs fn(ctx, 0 .. n_chunks - 1) and returns when all are done. One caller at a time; allocates nothing. */
void pool_run(pool *p, pool_fn fn, void *ctx, uint32_t n_chunks);

#endif
