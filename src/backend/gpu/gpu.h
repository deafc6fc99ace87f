/* The GPU backend behind the seam: memory once at load, then few launches a step. See backend/backend.h for what each slot
 * means. Its numbers are the CPU reference's, bit for bit (backend/cpu/cpu_ops.h): that is what load checks and tests compare. */
#ifndef ROCMFORGE_BACKEND_GPU_GPU_H
#define ROCMFORGE_BACKEND_GPU_GPU_H

#include "backend/backend.h"
#include "backend/gpu/devices.h"
#include "backend/gpu/upload.h"

typedef struct {
    gpu_list *list;     /* must outlive the backend */
    uint32_t device;    /* in the list */
    uint32_t n_threads; /* of the host, for reading weights and host work */
    bool no_graphs;     /* launch one by one */
    bool profile;       /* ... and time each launch */
} gpu_options;

MUST_CHECK status gpu_backend_open(backend **out, const gpu_options *opt, err *e);

/* What it did since it was opened, and how its weights came up. Its own thread asks. */
typedef struct {
    uint64_t steps, launches, graph_launches, copies_in, copies_out, bytes_in, bytes_out, syncs, copies_peer;
} gpu_counters;
gpu_counters gpu_backend_counters(const backend *b);
gpu_upload_stats gpu_backend_upload(const backend *b);
const char *gpu_backend_no_graphs(const backend *b); /* why steps are not replayed; NULL: they are, or are not to be */
const char *
gpu_backend_no_peer(const backend *b); /* why it takes values of other GPUs through the host; NULL: it need not */
MUST_CHECK status gpu_backend_room(const backend *b, gpu_room *out, err *e); /* of its device, now */

#endif
