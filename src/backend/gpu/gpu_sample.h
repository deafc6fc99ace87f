/* Draws of a step on the device (backend.h: draw_begin, draw_end): behind the segment that makes the logits the sampling
 * kernels run, and one token a row comes back instead of the row. Rows that the host draws from, or that nobody draws from,
 * are copied as before. Memory is taken at load. Executor thread. */
#ifndef ROCMFORGE_BACKEND_GPU_GPU_SAMPLE_H
#define ROCMFORGE_BACKEND_GPU_GPU_SAMPLE_H

#include "backend/gpu/gpu_state.h"
#include "backend/gpu/kernels/args_sample.h"

typedef struct gpu_draws gpu_draws;

/* Bytes of device and pinned host memory; 0 where this device makes no logits, or more than the kernels can hold. */
void gpu_draws_measure(const plan *p, uint32_t device, size_t *device_bytes, size_t *host_bytes);

/* What goes up with the step's arrays. */
typedef struct {
    uint32_t n_jobs, n_edits;
    const sample_job *job; /* the backend's own memory */
    const sample_edit *edit;
} gpu_draws_up;
gpu_draws_up gpu_draws_most(const plan *p, uint32_t device); /* only the numbers: of any step at most */
gpu_draws_up gpu_draws_now(const gpu_backend *g);
MUST_CHECK status gpu_draws_open(gpu_backend *g, err *e); /* g->draws stays NULL where measure says 0 */
void gpu_draws_close(gpu_backend *g);

/* Slots of the seam. */
status gpu_draw_begin(backend *b, const node *logits, backend_draw *d, uint32_t n, err *e);
status gpu_draw_end(backend *b, err *e);

/* Queues the draws from the logits of window w, and the copies of the rows that are not drawn from here. */
MUST_CHECK status gpu_draws_run(gpu_backend *g, const gpu_window *w, err *e);

#endif
