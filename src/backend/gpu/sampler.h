/* Sampling on the device, seen from the host: which draws the device can do, the arguments of those it does, and the way from
 * its answers to sample_result. What comes back equals sample_token of src/sample bit for bit; what the device cannot do so is
 * left to the CPU with a reason, before the launch (gpu_sampler_add) or after it (more candidates than it can hold: `host`).
 *
 * One gpu_sampler serves one device; jobs and edits are the caller's (pinned) memory, filled anew each step and copied up
 * before the launches that kernels/args_sample.h lists. After open nothing is allocated. Executor thread. */
#ifndef ROCMFORGE_BACKEND_GPU_SAMPLER_H
#define ROCMFORGE_BACKEND_GPU_SAMPLER_H

#include "backend/gpu/kernels/args_sample.h"
#include "sample/sample.h"

#include <stdbool.h>

typedef struct {
    uint32_t n_vocab, max_jobs, max_edits;
    sample_job *job;   /* [max_jobs] */
    sample_edit *edit; /* [max_edits] */
    uint32_t n_jobs, n_edits;
    bool collects;   /* some job wants sample_collect */
    uint32_t *place; /* [n_vocab] 1 + where an id's edit stands among the job's; zero between calls */
} gpu_sampler;

/* ERR_NOMEM; ERR_UNSUPPORTED for a vocabulary beyond SAMPLE_MAX_VOCAB. */
MUST_CHECK status gpu_sampler_open(gpu_sampler *s, uint32_t n_vocab, sample_job *job, uint32_t max_jobs,
                                   sample_edit *edit, uint32_t max_edits, err *e);
void gpu_sampler_close(gpu_sampler *s);

/* Bytes of device memory that n_jobs jobs want as scratch, answers and lists of best included; and the addresses of all that
 * in `a`, from `base` (256-byte aligned). n_vocab and n_blocks are set as well; logits, masks, job and edit are the caller's. */
size_t gpu_sampler_bytes(uint32_t n_vocab, uint32_t n_jobs);
void gpu_sampler_bind(sample_args *a, gpu_addr base, uint32_t n_vocab, uint32_t n_jobs);

void gpu_sampler_begin(gpu_sampler *s); /* a new step: no jobs */

/* One draw from row `row` of the logits, mask row `mask` (SAMPLE_NO_MASK: none); p checked by sample_check. n_top > 0 takes a
 * second job. *job: the number of the draw's. NULL: done; else nothing was added, and why the CPU must draw. */
const char *gpu_sampler_add(gpu_sampler *s, uint32_t row, const sample_params *p, const int32_t *history,
                            size_t n_history, uint64_t pos, int32_t mask, uint32_t n_top, uint32_t *job);

/* Empty jobs up to n, for a captured launch of a fixed width; n <= max_jobs. */
void gpu_sampler_pad(gpu_sampler *s, uint32_t n);

/* answer, top: what came back, [n_jobs] and [n_jobs][SAMPLE_MAX_TOP]. Fills out as sample_token does, with its errors, for the
 * draw `job`; out->n_top and out->top as there. *host: nothing was drawn, sample_token must, from the row of logits. */
MUST_CHECK status gpu_sampler_finish(const gpu_sampler *s, uint32_t job, const sample_answer *answer,
                                     const sample_best *top, uint64_t pos, sample_result *out, bool *host, err *e);

#endif
