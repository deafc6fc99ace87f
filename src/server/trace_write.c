/* Traces as OTLP JSON. Of OTLP's rules: ids are hex strings, 64-bit integers are strings, enums are numbers. */
#include "server/trace_own.h"

#include "base/escape.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const trace_names trace_snake = {.resource_spans = "resource_spans",
                                 .scope_spans = "scope_spans",
                                 .trace_id = "trace_id",
                                 .span_id = "span_id",
                                 .parent_span_id = "parent_span_id",
                                 .start = "start_time_unix_nano",
                                 .end = "end_time_unix_nano",
                                 .string_value = "string_value",
                                 .int_value = "int_value",
                                 .double_value = "double_value",
                                 .bool_value = "bool_value"};
const trace_names trace_camel = {.resource_spans = "resourceSpans",
                                 .scope_spans = "scopeSpans",
                                 .trace_id = "traceId",
                                 .span_id = "spanId",
                                 .parent_span_id = "parentSpanId",
                                 .start = "startTimeUnixNano",
                                 .end = "endTimeUnixNano",
                                 .string_value = "stringValue",
                                 .int_value = "intValue",
                                 .double_value = "doubleValue",
                                 .bool_value = "boolValue"};

enum { KIND_INTERNAL = 1, KIND_SERVER = 2, STATUS_UNSET = 0, STATUS_ERROR = 2 };

typedef struct {
    strbuf *out;
    const trace_names *names;
    bool first; /* no attribute yet */
} writer;

/* --- attributes ------------------------------------------------------------------------------------------------------- */
static void key(writer *w, const char *name, const char *kind) {
    strbuf_printf(w->out, "%s{\"key\":\"%s\",\"value\":{\"%s\":", w->first ? "" : ",", name, kind);
    w->first = false;
}

static void text(writer *w, const char *name, const char *value) {
    if (!*value) return;
    key(w, name, w->names->string_value);
    strbuf_json(w->out, str_of(value));
    strbuf_puts(w->out, "}}");
}

static void integer(writer *w, const char *name, int64_t value) {
    key(w, name, w->names->int_value);
    strbuf_printf(w->out, "\"%" PRId64 "\"}}", value);
}

static void number(writer *w, const char *name, double value) {
    if (!isfinite(value)) return;
    key(w, name, w->names->double_value);
    strbuf_printf(w->out, "%.9g}}", value);
}

static void boolean(writer *w, const char *name, bool value) {
    key(w, name, w->names->bool_value);
    strbuf_printf(w->out, "%s}}", value ? "true" : "false");
}

static void finish_reasons(writer *w, const trace_entry *e) {
    if (!*e->finish) return;
    bool snake = w->names == &trace_snake;
    key(w, "gen_ai.response.finish_reasons", snake ? "array_value" : "arrayValue");
    strbuf_printf(w->out, "{\"values\":[{\"%s\":", w->names->string_value);
    strbuf_json(w->out, str_of(e->finish));
    strbuf_puts(w->out, "}]}}}");
}

static void waits(writer *w, unsigned reasons) {
    static const char *const name[] = {"queue", "kv", "batch", "prefix"};
    for (int i = 0; i < 4; i++) {
        char attribute[32] = "rocmforge.waited.";
        memcpy(attribute + 17, name[i], strlen(name[i]) + 1);
        if (reasons & 1u << i) boolean(w, attribute, true);
    }
}

/* ROCmForge's four, then OpenTelemetry's gen_ai. Never what was asked or answered. */
static void request_attributes(writer *w, const trace_entry *e) {
    bool sampled = strcmp(e->operation, "embeddings") != 0;
    text(w, "request.id", e->request_id);
    integer(w, "prompt.length", e->n_prompt);
    if (sampled) integer(w, "max.tokens", e->max_tokens);
    if (sampled) number(w, "temperature", e->temperature);
    text(w, "gen_ai.operation.name", e->operation);
    text(w, "gen_ai.provider.name", "rocmforge");
    text(w, "gen_ai.request.model", e->model);
    text(w, "gen_ai.response.model", e->model);
    text(w, "gen_ai.response.id", e->response_id);
    finish_reasons(w, e);
    integer(w, "gen_ai.usage.input_tokens", e->n_prompt);
    integer(w, "gen_ai.usage.output_tokens", e->n_predicted);
    integer(w, "gen_ai.usage.cache_read.input_tokens", e->n_cached);
    if (sampled && e->max_tokens >= 0) integer(w, "gen_ai.request.max_tokens", e->max_tokens);
    if (sampled) {
        number(w, "gen_ai.request.temperature", e->temperature);
        number(w, "gen_ai.request.top_p", e->top_p);
        number(w, "gen_ai.request.top_k", e->top_k);
        number(w, "gen_ai.request.frequency_penalty", e->frequency_penalty);
        number(w, "gen_ai.request.presence_penalty", e->presence_penalty);
        integer(w, "gen_ai.request.seed", (int64_t)e->seed);
        if (e->n_choices > 1) integer(w, "gen_ai.request.choice.count", e->n_choices);
        boolean(w, "gen_ai.request.stream", e->stream);
    }
    if (e->ttft_us > 0) number(w, "gen_ai.response.time_to_first_chunk", (double)e->ttft_us / 1e6);
    text(w, "http.route", e->route);
    if (e->http) integer(w, "http.response.status_code", e->http);
    text(w, "error.type", e->error);
    if (e->n_preempted) integer(w, "rocmforge.preemptions", e->n_preempted);
    waits(w, e->waited_for);
}

static void phase_attributes(writer *w, const trace_entry *e, int i) {
    text(w, "request.id", e->request_id);
    if (i == SPAN_QUEUE) waits(w, e->waited_for);
    if (i == SPAN_PREFILL) integer(w, "prompt.length", e->n_prompt);
    if (i == SPAN_PREFILL) integer(w, "gen_ai.usage.cache_read.input_tokens", e->n_cached);
    if (i == SPAN_DECODE) integer(w, "gen_ai.usage.output_tokens", e->n_predicted);
}

/* --- spans ------------------------------------------------------------------------------------------------------------ */
static void span_name(strbuf *out, const trace_entry *e, int i) {
    static const char *const phase[] = {"", "queue", "prefill", "decode"};
    char name[sizeof e->operation + sizeof e->model + 1];
    size_t n = (size_t)snprintf(name, sizeof name, "%s %s", e->operation, e->model);
    strbuf_json(out, i == SPAN_REQUEST ? (str){name, n} : str_of(phase[i]));
}

static void write_span(const trace_entry *e, int i, const trace_names *k, strbuf *out) {
    const trace_span *s = &e->span[i];
    bool root = i == SPAN_REQUEST;
    strbuf_printf(out, "{\"%s\":\"%s\",\"%s\":\"%s\",\"%s\":\"%s\",\"name\":", k->trace_id, e->trace_id, k->span_id,
                  s->id, k->parent_span_id, root ? e->parent_id : e->span[SPAN_REQUEST].id);
    span_name(out, e, i);
    strbuf_printf(out, ",\"kind\":%d,\"%s\":\"%" PRIu64 "\",\"%s\":\"%" PRIu64 "\",\"attributes\":[",
                  root ? KIND_SERVER : KIND_INTERNAL, k->start, s->start_ns, k->end, s->end_ns);
    writer w = {.out = out, .names = k, .first = true};
    if (root)
        request_attributes(&w, e);
    else
        phase_attributes(&w, e, i);
    bool failed = root && *e->error;
    strbuf_printf(out, "],\"status\":{\"code\":%d},\"events\":[]}", failed ? STATUS_ERROR : STATUS_UNSET);
}

void trace_write_entries(const trace_entry *const *e, uint32_t n, const trace_names *k, const char *service,
                         const char *version, strbuf *out) {
    writer w = {.out = out, .names = k, .first = true};
    strbuf_printf(out, "{\"%s\":[{\"resource\":{\"attributes\":[", k->resource_spans);
    text(&w, "service.name", service);
    text(&w, "service.version", version);
    strbuf_printf(out, "]},\"%s\":[{\"scope\":{\"name\":\"rocmforge\",\"version\":", k->scope_spans);
    strbuf_json(out, str_of(version));
    strbuf_puts(out, "},\"spans\":[");
    bool first = true;
    for (uint32_t i = 0; i < n; i++)
        for (int j = 0; j < N_SPANS; j++) {
            if (!e[i]->span[j].start_ns) continue;
            if (!first) strbuf_puts(out, ",");
            first = false;
            write_span(e[i], j, k, out);
        }
    strbuf_puts(out, "]}]}]}");
}
