/* The test backend: a device as unlike host memory as the seam allows, to prove that the executor goes through it and
 * around it nowhere. It computes with a CPU backend of its own, but
 *   - its values cannot be reached by the host: peek gives NULL, everything crosses by read and write;
 *   - run only queues: work is done at the next wait, read or write, so a caller that forgets to wait gets stale values,
 *     or has its step_input read after it is gone;
 *   - in between, its activations are what the last step left: nothing is cleared or shared for the executor's sake.
 * Counters say what was asked of it. One thread. */
#ifndef ROCMFORGE_TESTS_TEST_BACKEND_H
#define ROCMFORGE_TESTS_TEST_BACKEND_H

#include "backend/cpu/cpu.h"

typedef struct {
    uint64_t n_segments, n_reads, n_writes, n_waits;
    uint32_t n_pending; /* queued and not yet done */
} test_backend_counts;

status test_backend_open(backend **out, const cpu_options *opt, err *e);
test_backend_counts test_backend_counts_of(const backend *b);

#endif
