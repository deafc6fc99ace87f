/* OpenTelemetry spans of requests: request, queue, prefill, decode; kept for GET /traces (the newest N) and, when an endpoint is
 * given, sent there as OTLP/HTTP JSON by a thread of their own (libcurl). Sampled by share; a client's sampled traceparent is
 * honoured and its trace id kept. Attributes follow OpenTelemetry's gen_ai conventions beside ROCmForge's names; never content.
 * Loop thread, except the exporter's own. */
#ifndef ROCMFORGE_SERVER_TRACE_H
#define ROCMFORGE_SERVER_TRACE_H

#include "base/str.h"
#include "server/record.h"

typedef struct traces traces;
typedef struct {
    double sample; /* 0 .. 1 */
    uint32_t most;
    const char *endpoint, *headers, *service_name; /* OTEL_EXPORTER_OTLP_ENDPOINT and so on; endpoint NULL: kept only */
    const char *version;
} trace_options;

traces *traces_new(const trace_options *opt, rf_error *e); /* NULL: e says why */
void traces_free(traces *t); /* what waits for export is sent first, two seconds at most */
void traces_add(traces *t, const request_record *r);
/* OTLP JSON {"resource_spans": [...]}: the newest `limit` requests; clear: forgets all kept. */
void traces_write(traces *t, uint32_t limit, bool clear, strbuf *out);
void traces_write_metrics(const traces *t, strbuf *out); /* what became of exports, in Prometheus' text form */

#endif
