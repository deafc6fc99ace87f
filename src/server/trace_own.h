/* One traced request as plain data, shared by trace.c (keeps), trace_write.c (writes) and otlp.c (sends). */
#ifndef ROCMFORGE_SERVER_TRACE_OWN_H
#define ROCMFORGE_SERVER_TRACE_OWN_H

#include "base/str.h"
#include "server/trace.h"

enum { SPAN_REQUEST, SPAN_QUEUE, SPAN_PREFILL, SPAN_DECODE, N_SPANS };

typedef struct {
    uint64_t start_ns, end_ns; /* unix; both 0: the request never came to this */
    char id[17];
} trace_span;

typedef struct {
    char trace_id[33], parent_id[17]; /* lower-case hex; parent empty: none */
    trace_span span[N_SPANS];
    char request_id[129], route[48], operation[24], model[128], response_id[64], finish[16], error[40];
    uint32_t n_prompt, n_cached, n_predicted, n_choices, n_preempted;
    int http;
    int64_t max_tokens;
    double temperature, top_p, frequency_penalty, presence_penalty;
    int32_t top_k;
    uint64_t seed;
    bool stream;
    unsigned waited_for;
    int64_t ttft_us;
} trace_entry;

/* How OTLP JSON names its fields: as the .proto files do (ROCmForge's /traces), or in lowerCamelCase (OTLP/HTTP). */
typedef struct {
    const char *resource_spans, *scope_spans, *trace_id, *span_id, *parent_span_id, *start, *end, *string_value,
        *int_value, *double_value, *bool_value;
} trace_names;
extern const trace_names trace_snake, trace_camel;

/* {"resource_spans": [...]} of n entries; e[i] from oldest to newest. */
void trace_write_entries(const trace_entry *const *e, uint32_t n, const trace_names *names, const char *service,
                         const char *version, strbuf *out);

#endif
