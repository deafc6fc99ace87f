/* The newest traces in a ring; what is sampled also goes to the exporter. Times of the phases are told backwards from the
 * first token: queue, then prefill, then decode; what lies before them is reading and preparing the request. */
#include "server/trace.h"

#include "base/mem.h"
#include "server/otlp.h"
#include "server/trace_own.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct traces {
    double sample;
    uint32_t most, n, next; /* the ring's size, entries in it, where the next one goes */
    trace_entry *ring;
    char service[128], version[32];
    otlp *exporter; /* NULL: none */
};

enum { MOST_EVER = 1 << 20 };

static void say(rf_error *e, const char *what) {
    if (!e) return;
    *e = (rf_error){.code = "memory.exhausted", .category = "Backend", .http = 503, .retry = true};
    snprintf(e->message, sizeof e->message, "%s: no memory", what);
}

traces *traces_new(const trace_options *opt, rf_error *e) {
    traces *t = mem_zalloc(sizeof *t);
    if (!t) return say(e, "traces"), NULL;
    t->sample = opt->sample;
    t->most = opt->most < MOST_EVER ? opt->most : MOST_EVER;
    t->ring = t->most ? mem_array(t->most, sizeof *t->ring) : NULL;
    bool ok = !t->most || t->ring;
    if (!ok) say(e, "traces to keep");
    snprintf(t->service, sizeof t->service, "%s",
             opt->service_name && *opt->service_name ? opt->service_name : "rocmforge");
    snprintf(t->version, sizeof t->version, "%s", opt->version ? opt->version : rf_version());
    if (ok && opt->endpoint && *opt->endpoint) ok = (t->exporter = otlp_new(opt, e)) != NULL;
    if (ok) return t;
    traces_free(t);
    return NULL;
}

void traces_free(traces *t) {
    if (!t) return;
    otlp_free(t->exporter);
    mem_free(t->ring);
    mem_free(t);
}

/* --- who is traced ---------------------------------------------------------------------------------------------------- */
static bool is_hex(const char *p, size_t n) {
    bool other_than_zero = false;
    for (size_t i = 0; i < n; i++) {
        if (!(p[i] >= '0' && p[i] <= '9') && !(p[i] >= 'a' && p[i] <= 'f')) return false;
        other_than_zero |= p[i] != '0';
    }
    return other_than_zero || n == 2; /* ids of zeros are none; versions and flags may be 00 */
}

/* W3C trace context, version 00: "00-<32 hex>-<16 hex>-<2 hex>"; a later version may add to its end. */
static bool read_parent(const char *p, trace_entry *t, bool *sampled) {
    enum { LENGTH = 55 };
    if (!p || strnlen(p, LENGTH) < LENGTH || p[2] != '-' || p[35] != '-' || p[52] != '-') return false;
    if (!is_hex(p, 2) || !is_hex(p + 3, 32) || !is_hex(p + 36, 16) || !is_hex(p + 53, 2)) return false;
    bool first_version = memcmp(p, "00", 2) == 0;
    if (memcmp(p, "ff", 2) == 0 || (p[LENGTH] && (first_version || p[LENGTH] != '-'))) return false;
    memcpy(t->trace_id, p + 3, 32);
    memcpy(t->parent_id, p + 36, 16);
    int low = p[54] <= '9' ? p[54] - '0' : p[54] - 'a' + 10;
    *sampled = low & 1;
    return true;
}

static void hex(char *out, const unsigned char *p, size_t n) {
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) out[2 * i] = digit[p[i] >> 4], out[2 * i + 1] = digit[p[i] & 15];
    out[2 * n] = 0;
}

/* Fills the ids; false: not traced. All random numbers of a request come with one call. */
static bool choose(const traces *t, const request_record *r, trace_entry *e) {
    unsigned char raw[8 + 16 + 8 * N_SPANS];
    uint64_t draw;
    bool sampled;
    bool has_parent = read_parent(r->traceparent, e, &sampled);
    if (getrandom(raw, sizeof raw, GRND_NONBLOCK) != (ssize_t)sizeof raw) return false;
    memcpy(&draw, raw, sizeof draw);
    if (!has_parent) sampled = (double)(draw >> 11) * 0x1p-53 < t->sample;
    if (!sampled) return false;
    raw[8] |= 1; /* never an id of zeros */
    if (!has_parent) hex(e->trace_id, raw + 8, 16);
    for (int i = 0; i < N_SPANS; i++) {
        raw[24 + 8 * i] |= 1;
        hex(e->span[i].id, raw + 24 + 8 * i, 8);
    }
    return true;
}

/* --- what is told ----------------------------------------------------------------------------------------------------- */
static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

static void set_span(trace_entry *e, int i, uint64_t base_ns, int64_t from_us, int64_t to_us) {
    e->span[i].start_ns = base_ns + (uint64_t)from_us * 1000;
    e->span[i].end_ns = base_ns + (uint64_t)(to_us < from_us ? from_us : to_us) * 1000;
}

/* Microseconds since the request came, each phase inside the whole one. */
static void set_times(trace_entry *e, const request_record *r) {
    int64_t total = r->total_us > 0 ? r->total_us : 0, prompt = clamp(r->prompt_us, 0, total);
    int64_t queue = clamp(r->queue_us, 0, total - prompt);
    int64_t read =
        r->ttft_us > 0 ? clamp(r->ttft_us, 0, total) : clamp(queue + prompt, 0, total); /* the prompt's end */
    int64_t admitted = clamp(read - prompt, 0, total), queued = clamp(admitted - queue, 0, total);
    bool was_read = prompt > 0, wrote = r->n_predicted > 0 && r->ttft_us > 0;
    set_span(e, SPAN_REQUEST, r->received_unix_ns, 0, total);
    set_span(e, SPAN_QUEUE, r->received_unix_ns, queued, was_read ? admitted : queued + queue);
    if (was_read) set_span(e, SPAN_PREFILL, r->received_unix_ns, admitted, read);
    if (wrote) set_span(e, SPAN_DECODE, r->received_unix_ns, read, clamp(read + r->decode_us, read, total));
}

static void copy(char *out, size_t size, const char *z) { snprintf(out, size, "%s", z ? z : ""); }

static void describe(trace_entry *e, const request_record *r) {
    copy(e->request_id, sizeof e->request_id, r->request_id);
    copy(e->route, sizeof e->route, r->route);
    copy(e->operation, sizeof e->operation, r->operation);
    copy(e->model, sizeof e->model, r->model);
    copy(e->response_id, sizeof e->response_id, r->response_id);
    copy(e->finish, sizeof e->finish, r->finish);
    copy(e->error, sizeof e->error, r->error ? r->error->code : "");
    e->n_prompt = r->n_prompt;
    e->n_cached = r->n_cached;
    e->n_predicted = r->n_predicted;
    e->n_choices = r->n_choices;
    e->n_preempted = r->n_preempted;
    e->http = r->http;
    e->max_tokens = r->max_tokens;
    e->temperature = r->temperature;
    e->top_p = r->top_p;
    e->top_k = r->top_k;
    e->frequency_penalty = r->frequency_penalty;
    e->presence_penalty = r->presence_penalty;
    e->seed = r->seed;
    e->stream = r->stream;
    e->waited_for = r->waited_for;
    e->ttft_us = r->ttft_us;
}

void traces_add(traces *t, const request_record *r) {
    trace_entry e = {0};
    if (!choose(t, r, &e)) return;
    set_times(&e, r);
    describe(&e, r);
    if (t->exporter) otlp_add(t->exporter, &e);
    if (!t->most) return;
    t->ring[t->next] = e;
    t->next = (t->next + 1) % t->most;
    if (t->n < t->most) t->n++;
}

void traces_write(traces *t, uint32_t limit, bool clear, strbuf *out) {
    uint32_t n = limit < t->n ? limit : t->n;
    const trace_entry **newest = mem_array(n + 1, sizeof *newest);
    if (newest) {
        for (uint32_t i = 0; i < n; i++) newest[i] = &t->ring[(t->next + t->most - n + i) % t->most];
        trace_write_entries(newest, n, &trace_snake, t->service, t->version, out);
    } else {
        out->failed = true;
    }
    mem_free(newest);
    if (clear && !out->failed) t->n = 0;
}

void traces_write_metrics(const traces *t, strbuf *out) {
    otlp_counts c = {0};
    if (t->exporter) c = otlp_get_counts(t->exporter);
    strbuf_puts(out, "# HELP rocmforge_traces_exported_total Traces by what became of their export.\n"
                     "# TYPE rocmforge_traces_exported_total counter\n");
    strbuf_printf(out, "rocmforge_traces_exported_total{result=\"sent\"} %" PRIu64 "\n", c.sent);
    strbuf_printf(out, "rocmforge_traces_exported_total{result=\"dropped\"} %" PRIu64 "\n", c.dropped);
    strbuf_printf(out, "rocmforge_traces_exported_total{result=\"failed\"} %" PRIu64 "\n", c.failed);
}
