/* Which GPUs there are, and which to take. Discovery opens both platforms, asks each device for its facts and ranks it: code
 * for its arch in the binary first, then dedicated memory, then more of it; an iGPU that only drives a display comes last and
 * is never taken unasked. What is absent or broken has a reason with a code and one thing to do. */
#ifndef ROCMFORGE_BACKEND_GPU_DEVICES_H
#define ROCMFORGE_BACKEND_GPU_DEVICES_H

#include "backend/gpu/driver.h"

typedef struct {
    gpu_driver *driver; /* the list's */
    const char *root;   /* where /sys is */
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

/* What of its memory is free now. An APU has two kinds, what the firmware set aside (VRAM) and what it may map of the host's
 * (GTT): both count. Some kernels (6.10 and later, with a small VRAM) make the runtime tell the GTT as the device's memory, and
 * put all of it there: then that is all there is. */
typedef struct {
    uint64_t free_bytes, total;
    uint64_t own_free; /* of free_bytes: not the host's memory too; for a card all of it */
} gpu_room;
MUST_CHECK status gpu_device_room(const gpu_device *d, gpu_room *out, err *e);

/* What its memory can move at most, bytes a second, from clock and width; 0: the runtime does not say enough. The clock that
 * HIP tells is the memory's command clock: data goes twice a clock on HBM2 and as CUDA counts, four times on HBM3 (gfx94x,
 * gfx95x), sixteen times on GDDR6 (RDNA cards); so the figures of the vendors' data sheets come out. Of an APU's LPDDR and DDR
 * the clock alone does not tell. */
double gpu_peak_bytes_per_s(const gpu_facts *f);

/* A variable of the environment that hides devices from this platform's runtime; NULL: none is set. */
const char *gpu_hidden_by(gpu_platform p);

/* What a person should know and could mend: `rocmforge doctor`. Strings live until the callback returns. */
typedef enum { GPU_FINDING_OK, GPU_FINDING_NOTE, GPU_FINDING_WARNING, GPU_FINDING_ERROR } gpu_level;
typedef void (*gpu_say)(void *ctx, gpu_level level, const char *code, const char *text,
                        const char *fix /* NULL: none */);
void gpu_doctor(const gpu_list *l, const char *root, gpu_say say, void *ctx);

#endif
