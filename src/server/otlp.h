/* Sends traces to an OpenTelemetry collector: OTLP over HTTP as JSON, from a thread of its own (libcurl), in batches, tried
 * again with growing pauses. The queue is bounded: what has no room is dropped and counted, the caller never waits. */
#ifndef ROCMFORGE_SERVER_OTLP_H
#define ROCMFORGE_SERVER_OTLP_H

#include "server/trace_own.h"

typedef struct otlp otlp;

/* opt->endpoint: "http://host:4318"; /v1/traces is added. opt->headers: "name=value,name=value", values percent-encoded. */
otlp *otlp_new(const trace_options *opt, rf_error *e); /* NULL: e says why */
void otlp_free(otlp *o);                               /* what waits is sent first, two seconds at most */
void otlp_add(otlp *o, const trace_entry *t);          /* copies; any thread */

typedef struct {
    uint64_t sent, dropped, failed; /* requests traced: delivered; no room; given up after retries or refused */
} otlp_counts;
otlp_counts otlp_get_counts(otlp *o); /* any thread */

#endif
