/* Which GPUs there are, and which to take. Discovery opens both platforms, asks each device for its facts and ranks it: code
 * for its arch in the binary first, then dedicated memory, then more of it; an iGPU that only drives a display comes last and
 * is never taken unasked. What is absent or broken has a reason with a code and one thing to do. */
#ifndef ROCMFORGE_BACKEND_GPU_DEVICES_H
#define ROCMFORGE_BACKEND_GPU_DEVICES_H

#include "backend/gpu/driver.h"

typedef struct {
    gpu_driver *driver; /* the list's */
    uint32_t index;     /* in its driver */
    gpu_facts facts;
    const char *target;                            /* of the code that fits; NULL: none does */
    uint64_t memory_total, memory_free, gtt_total; /* gtt_total: of an APU, host memory that the GPU may map; else 0 */
    bool
        display_only; /* an iGPU that only drives a display: taken when named by index, UUID or address, never unasked */
    err why_not;      /* code OK: may be taken */
} gpu_device;

typedef struct {
    gpu_device device[GPU_MAX_DEVICES]; /* best first */
    uint32_t n;
    gpu_driver *driver[2]; /* HIP, CUDA; NULL: see why */
    err why[2];            /* why a platform has nothing to offer */
} gpu_list;

/* Never fails: what went wrong stands in the list. root: where /sys and /dev are looked for, "" the system's (tests); it must
 * outlive the list. memory_free stays 0 until gpu_list_measure: asking takes a context of each device, and time. */
void gpu_list_open(gpu_list *l, const char *root);
void gpu_list_measure(gpu_list *l);
void gpu_list_close(gpu_list *l);

/* want: "gpu" or "hip" or "cuda" (the best one that may be taken), "gpu:N" in the list's order, a UUID, or a PCI address, with
 * or without "gpu:" before it. ERR_USAGE: none of these forms. Else the error says why there is none: the first cause. */
MUST_CHECK status gpu_list_pick(const gpu_list *l, const char *want, uint32_t *out, err *e);
bool gpu_want_is_valid(const char *want); /* has one of these forms */

/* A variable of the environment that hides devices from this platform's runtime; NULL: none is set. */
const char *gpu_hidden_by(gpu_platform p);

/* What a person should know and could mend: `rocmforge doctor`. Strings live until the callback returns. */
typedef enum { GPU_FINDING_OK, GPU_FINDING_NOTE, GPU_FINDING_WARNING, GPU_FINDING_ERROR } gpu_level;
typedef void (*gpu_say)(void *ctx, gpu_level level, const char *code, const char *text,
                        const char *fix /* NULL: none */);
void gpu_doctor(const gpu_list *l, const char *root, gpu_say say, void *ctx);

#endif
