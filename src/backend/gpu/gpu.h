/* The GPU backend behind the seam: memory once at load, then few launches a step. See backend/backend.h for what each slot
 * means. Its numbers are the CPU reference's, bit for bit (backend/cpu/cpu_ops.h): that is what load checks and tests compare. */
#ifndef ROCMFORGE_BACKEND_GPU_GPU_H
#define ROCMFORGE_BACKEND_GPU_GPU_H

#include "backend/backend.h"
#include "backend/gpu/devices.h"

typedef struct {
    gpu_list *list;     /* must outlive the backend */
    uint32_t device;    /* in the list */
    uint32_t n_threads; /* of the host, for reading weights and host work */
    bool no_graphs;     /* launch one by one */
} gpu_options;

MUST_CHECK status gpu_backend_open(backend **out, const gpu_options *opt, err *e);

#endif
