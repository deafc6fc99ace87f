/* A Prometheus histogram: counts of values by upper bound, and their sum. Plain data; whoever holds it names the thread. */
#ifndef ROCMFORGE_SERVER_HISTOGRAM_H
#define ROCMFORGE_SERVER_HISTOGRAM_H

#include "base/str.h"

enum { HISTOGRAM_MOST = 32 };

typedef struct {
    const double *le; /* [n_le] ascending, borrowed */
    uint32_t n_le;
    uint64_t count[HISTOGRAM_MOST + 1]; /* by bound, not summed up; the last: above all bounds */
    double sum;
} histogram;

histogram histogram_of(const double *le, uint32_t n_le); /* n_le at most HISTOGRAM_MOST */
void histogram_add(histogram *h, double value);          /* NaN is not counted */

/* The family: HELP, TYPE, buckets, sum, count. labels: "" or "model_name=\"x\"", escaped already. */
void histogram_write(const histogram *h, const char *name, const char *help, const char *labels, strbuf *out);

#endif
