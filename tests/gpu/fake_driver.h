/* A GPU of host memory behind the runtime table, for tests of the backend: kernels run in the interpreter (tests/simt). It is
 * as asynchronous as the table allows: copies and launches are queued and done at the next wait, so that whoever touches
 * pinned memory too early, or reads too early, gets wrong numbers. Everything taken is counted until it is given back, and
 * any call can be made to fail. One thread. */
#ifndef ROCMFORGE_TESTS_GPU_FAKE_DRIVER_H
#define ROCMFORGE_TESTS_GPU_FAKE_DRIVER_H

#include "backend/gpu/devices.h"

typedef enum { FAKE_NOTHING, FAKE_ALLOC, FAKE_COPY, FAKE_LAUNCH, FAKE_CAPTURE, FAKE_ANY } fake_call;

typedef struct {
    unsigned wave;      /* 32 or 64 */
    uint64_t memory;    /* bytes of device memory; 0: 1 GiB */
    uint64_t block_max; /* the largest allocation; 0: any */
} fake_options;

typedef struct {
    uint64_t live; /* things taken and not given back: blocks, streams, events, modules, graphs */
    uint64_t used; /* bytes of device memory */
    uint64_t allocs, launches, copies, waits; /* calls so far */
} fake_counts;

/* A list with n_devices of them. */
void fake_list_open(gpu_list *l, uint32_t n_devices, const fake_options *opt);
void fake_list_close(gpu_list *l);
void fake_fail_at(gpu_list *l, fake_call what, uint64_t n); /* call number n of this kind from now (1: the next) */
bool fake_fail_off(gpu_list *l);                            /* whether it fired */
fake_counts fake_counts_of(const gpu_list *l);

#endif
