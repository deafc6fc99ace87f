/* The CPU backend: kernels of one tier, a thread pool, and the memory of one model's share of a plan. See backend.h for
 * the contract. The tier never changes a result, only the time it takes. */
#ifndef ROCMFORGE_BACKEND_CPU_CPU_H
#define ROCMFORGE_BACKEND_CPU_CPU_H

#include "backend/backend.h"
#include "backend/cpu/cpu_ops.h"

typedef struct {
    uint32_t n_threads; /* 0: physical cores this process may use */
    int tier;           /* a cpu_tier, or -1: the best this CPU has */
    bool profile;       /* each op is timed */
} cpu_options;

MUST_CHECK status cpu_backend_open(backend **out, const cpu_options *opt, err *e);
uint32_t cpu_default_threads(void);
/* The tier that ROCMFORGE_CPU (text, may be NULL) asks for; ERR_CPU_TIER names an unknown one or one this CPU lacks. */
MUST_CHECK status cpu_tier_choose(const char *text, int *tier, err *e);
void cpu_name(strbuf *out); /* "AMD EPYC 9654": as the system tells */

#endif
