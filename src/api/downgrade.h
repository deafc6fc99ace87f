/* What became other than asked for, or less than the machine has: every reason is a row of API_DOWNGRADES, so that none is
 * told in one place and forgotten in another. Each is printed once at the start (or, of a step, logged once), and stands in
 * rf_engine_info's `downgrades` and `warnings`, from there in /health, /metrics and replies. docs/devices.md lists them.
 * A list is plain data of its shape; one thread. */
#ifndef ROCMFORGE_API_DOWNGRADE_H
#define ROCMFORGE_API_DOWNGRADE_H

#include "base/err.h"
#include "base/json.h"

/* X(enumerator, code, what became less, scheduler's reason, meaning). The scheduler's reasons are the six that decisions of
 * placement have (api_why below); "" where nothing was placed elsewhere. */
#define API_DOWNGRADES(X) \
    X(DOWN_NO_GPU, "device.none", "device", "GpuUnavailable", "a GPU or its runtime is there, but none can be used") \
    X(DOWN_REFUSED, "device.refused", "device", "CpuFallback", "the GPU failed at load, or computes wrong numbers") \
    X(DOWN_TOO_SMALL, "device.memory", "device", "MemoryConstraint", "not one layer fits into the GPU's memory") \
    X(DOWN_LAYERS, "layers.memory", "layers", "MemoryConstraint", "only some layers fit where all were wanted") \
    X(DOWN_OP, "op.no_kernel", "op", "CpuFallback", "the GPU has no kernel for an operation of this shape") \
    X(DOWN_CACHE, "cache.memory", "cache", "MemoryConstraint", "the KV cache holds fewer tokens than asked for") \
    X(DOWN_CONTEXT, "context.cache", "context", "UserPreference", "the context is what the KV cache asked for holds") \
    X(DOWN_VERIFY, "verify.skipped", "verification", "MemoryConstraint", "the CPU could not be asked for its numbers") \
    X(DOWN_SAMPLER, "sampler.host", "sampler", "CpuFallback", "tokens that the CPU drew from the GPU's logits") \
    X(DOWN_GRAPHS, "graphs.off", "parameter", "", "kernels are launched one by one, not replayed") \
    X(DOWN_PEER, "copies.host", "parameter", "", "values go from GPU to GPU through the host")

typedef enum {
#define X(id, code, what, why, text) id,
    API_DOWNGRADES(X)
#undef X
        DOWN_COUNT
} api_down;

/* Why a device computes. */
typedef enum {
    WHY_GPU_AVAILABLE,
    WHY_GPU_UNAVAILABLE,
    WHY_CPU_FALLBACK,
    WHY_COST_MODEL,
    WHY_MEMORY_CONSTRAINT,
    WHY_USER_PREFERENCE
} api_why;
const char *api_why_name(api_why why); /* "GpuAvailable" */

typedef struct {
    api_down id;
    status cause; /* the error behind it; OK: none */
    char text[400];
} api_downgrade;

typedef struct { /* one of a kind at most */
    api_downgrade item[DOWN_COUNT];
    uint32_t n;
} api_downgrades;

/* One of a kind: a second one takes the first one's place. */
__attribute__((format(printf, 4, 5))) void api_down_note(api_downgrades *all, api_down id, status cause,
                                                         const char *fmt, ...);
json_t *api_down_json(const api_downgrades *all);  /* [{code, what, reason, cause, text}]; NULL: no memory */
json_t *api_down_texts(const api_downgrades *all); /* ["code [cause]: text"]; NULL: no memory */
const char *api_down_code(api_down id);

#endif
