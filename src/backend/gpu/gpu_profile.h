/* The GPU backend's profiler: an event before and behind every launch, the bytes that it must move, summed up by kernel. Steps
 * are launched one by one then. Everything is taken when the model is loaded. Executor thread. */
#ifndef ROCMFORGE_BACKEND_GPU_GPU_PROFILE_H
#define ROCMFORGE_BACKEND_GPU_GPU_PROFILE_H

#include "backend/gpu/gpu_state.h"

gpu_profile *gpu_profile_new(void); /* NULL: out of memory */
/* Once all items are made: events for every launch of a step. */
MUST_CHECK status gpu_profile_open(gpu_backend *g, err *e);
void gpu_profile_close(gpu_backend *g); /* after its stream; NULL is fine */

void gpu_profile_name(gpu_backend *g, gpu_kernel k, const char *name); /* as it is looked up */
/* A launch of it, bytes long: all launches of a profiled backend go through here. Without a profile it only launches. */
MUST_CHECK status gpu_profile_launch(gpu_backend *g, gpu_kernel k, const gpu_launch *l, double bytes, err *e);
double gpu_item_bytes(const gpu_backend *g, const gpu_item *i);
MUST_CHECK status gpu_profile_collect(gpu_backend *g, err *e); /* after the stream was waited for */
const backend_profile *gpu_profile_rows(backend *b, uint32_t *n, bool reset);

#endif
