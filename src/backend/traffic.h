/* The bytes that running a node in a step must move at least, wherever it runs: each weight once (of experts, those that can
 * be chosen), the cache up to each sequence's position once, its rows in and out. A profiler sets them against the time.
 * Pure functions of the step. */
#ifndef ROCMFORGE_BACKEND_TRAFFIC_H
#define ROCMFORGE_BACKEND_TRAFFIC_H

#include "backend/backend.h"

typedef enum {
    TRAFFIC_ALL,
    TRAFFIC_SINGLES,
    TRAFFIC_RUNS
} traffic_part; /* sequences of one token in the step; of more */

uint32_t traffic_rows(const node *n, const step_input *in);
double traffic_of(const node *n, const step_input *in, const kv_layout *kv);
/* Of attention: the cache alone, for some of the sequences. */
double traffic_cache(const node *n, const step_input *in, const kv_layout *kv, traffic_part part);

#endif
