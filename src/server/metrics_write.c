/* Prometheus' text form, version 0.0.4: each family once, HELP and TYPE before its samples. */
#include "base/json.h"
#include "server/metrics_own.h"
#include "server/process.h"

#include <inttypes.h>
#include <string.h>

static void family(strbuf *out, const char *name, const char *type, const char *help) {
    strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(strbuf *out, const char *name, const char *help, uint64_t n) {
    family(out, name, "counter", help);
    strbuf_printf(out, "%s %" PRIu64 "\n", name, n);
}

static void seconds(strbuf *out, const char *name, const char *help, int64_t us) {
    family(out, name, "counter", help);
    strbuf_printf(out, "%s %.6f\n", name, (double)us / 1e6);
}

static void gauge(strbuf *out, const char *name, const char *help, double value) {
    family(out, name, "gauge", help);
    strbuf_printf(out, "%s %.17g\n", name, value);
}

/* A label's value: backslash, quote and line end escaped, anything else as it is, made UTF-8 where it is not. */
static void label_value(strbuf *out, const char *z) {
    strbuf clean = {0};
    strbuf_add_utf8(&clean, z, str_of(z).n);
    for (size_t i = 0; i < clean.n; i++) {
        char c = clean.p[i];
        if (c == '\n')
            strbuf_puts(out, "\\n");
        else if (c == '\\' || c == '"')
            strbuf_add(out, (char[]){'\\', c}, 2);
        else
            strbuf_add(out, &c, 1);
    }
    out->failed |= clean.failed;
    strbuf_free(&clean);
}

/* --- ROCmForge's names ------------------------------------------------------------------------------------------------ */
static void write_requests(const metrics *m, const rf_stats *s, strbuf *out) {
    counter(out, "rocmforge_requests_started_total", "Requests accepted.", m->started);
    counter(out, "rocmforge_requests_completed_total", "Requests that ran to their end.", m->completed);
    counter(out, "rocmforge_requests_failed_total", "Requests accepted that failed.", m->failed);
    counter(out, "rocmforge_requests_cancelled_total", "Requests cancelled by their client.", m->cancelled);
    counter(out, "rocmforge_tokens_generated_total", "Tokens generated.", s->generated_tokens);
    counter(out, "rocmforge_prompt_tokens_total", "Tokens of the prompts of requests that ended.", m->prompt);
    counter(out, "rocmforge_cached_tokens_total", "Of these, tokens taken from the prefix cache.", m->cached);
    /* Nothing is retried on a GPU: a call that fails ends its engine. The names stand for those who watch them. */
    counter(out, "rocmforge_gpu_retry_attempts_total", "GPU operations tried again.", 0);
    counter(out, "rocmforge_gpu_retry_success_total", "GPU operations that succeeded when tried again.", 0);
    counter(out, "rocmforge_gpu_retry_failed_total", "GPU operations that failed for good.", 0);
    gauge(out, "rocmforge_queue_length", "Requests that wait to be let in.", s->waiting);
    gauge(out, "rocmforge_active_requests", "Requests that are computed now.", s->running);
    gauge(out, "rocmforge_tokens_per_second", "Tokens generated per second, over the last ten seconds.",
          metrics_rate(m));
    gauge(out, "rocmforge_parallel", "Most requests that are computed at once.", s->parallel);
    gauge(out, "rocmforge_queue_capacity", "Most requests that may wait.", s->queue);
}

static void write_engine(const rf_stats *s, strbuf *out) {
    counter(out, "rocmforge_steps_total", "Steps computed.", s->steps);
    seconds(out, "rocmforge_step_seconds_total", "Time spent in steps.", (int64_t)s->step_us);
    counter(out, "rocmforge_step_tokens_total", "Tokens that went through steps, of prompts and generated.",
            s->tokens_computed);
    gauge(out, "rocmforge_batch_sequences", "Sequences in the last step.", s->last_batch_seqs);
    gauge(out, "rocmforge_batch_tokens", "Tokens in the last step.", s->last_batch_tokens);
    counter(out, "rocmforge_preemptions_total", "Times a request made room for others, to go on later.",
            s->preemptions);
    family(out, "rocmforge_wait_total", "counter", "Requests that waited, by reason; one may have several.");
    strbuf_printf(out, "rocmforge_wait_total{reason=\"queue\"} %" PRIu64 "\n", s->waited_queue);
    strbuf_printf(out, "rocmforge_wait_total{reason=\"kv\"} %" PRIu64 "\n", s->waited_kv);
    strbuf_printf(out, "rocmforge_wait_total{reason=\"batch\"} %" PRIu64 "\n", s->waited_batch);
    strbuf_printf(out, "rocmforge_wait_total{reason=\"prefix\"} %" PRIu64 "\n", s->waited_prefix);
}

/* Pages that nobody uses; those of the prefix cache alone come free on demand, too. */
static uint32_t pages_free(const rf_stats *s) {
    uint64_t taken = (uint64_t)s->pages_used + s->pages_cached;
    return taken < s->pages_total ? (uint32_t)(s->pages_total - taken) : 0;
}

static void write_kv(const rf_stats *s, strbuf *out) {
    family(out, "rocmforge_kv_pages", "gauge",
           "Pages of the KV cache: held by requests, by the prefix cache alone, unused.");
    strbuf_printf(out, "rocmforge_kv_pages{state=\"held\"} %u\n", s->pages_used);
    strbuf_printf(out, "rocmforge_kv_pages{state=\"cached\"} %u\n", s->pages_cached);
    strbuf_printf(out, "rocmforge_kv_pages{state=\"free\"} %u\n", pages_free(s));
    gauge(out, "rocmforge_kv_page_tokens", "Tokens of one page.", s->page_tokens);
    counter(out, "rocmforge_kv_evictions_total", "Pages that the prefix cache gave up.", s->evictions);
    counter(out, "rocmforge_kv_pages_copied_total", "Pages copied because a request went its own way within one.",
            s->pages_copied);
    counter(out, "rocmforge_host_drawn_tokens_total", "Tokens that the GPU left to the CPU to draw.", s->host_drawn);
    gauge(out, "rocmforge_kv_disk_pages", "Pages kept on disk.", (double)s->disk_pages);
    gauge(out, "rocmforge_kv_disk_bytes", "Bytes of pages kept on disk.", (double)s->disk_bytes);
    counter(out, "rocmforge_kv_disk_loaded_total", "Pages found again on disk.", s->disk_loaded);
    counter(out, "rocmforge_kv_disk_dropped_total", "Files on disk that were damaged or foreign, and dropped.",
            s->disk_dropped);
}

static void write_tally(const tally *t, const char *name, const char *help, const char *label, strbuf *out) {
    family(out, name, "counter", help);
    for (uint32_t i = 0; i < TALLY_MOST + 1; i++) {
        if (t->row[i].n == 0) continue;
        strbuf_printf(out, "%s{%s=\"", name, label);
        label_value(out, t->row[i].name);
        strbuf_printf(out, "\",status=\"%d\"} %" PRIu64 "\n", t->row[i].status, t->row[i].n);
    }
}

static void write_server(const metrics *m, uint32_t connections, strbuf *out) {
    process_usage u = process_get_usage();
    write_tally(&m->http, "rocmforge_http_responses_total", "Replies, by route and HTTP status.", "route", out);
    write_tally(&m->refused, "rocmforge_requests_refused_total", "Requests answered with an error, by its code.",
                "code", out);
    write_tally(&m->failures, "rocmforge_request_errors_total", "Requests accepted that failed, by error code.", "code",
                out);
    gauge(out, "rocmforge_connections", "Connections open.", connections);
    family(out, "rocmforge_build_info", "gauge", "The version that runs.");
    strbuf_printf(out, "rocmforge_build_info{version=\"%s\"} 1\n", rf_version());
    gauge(out, "process_resident_memory_bytes", "Memory resident.", (double)u.resident_bytes);
    gauge(out, "process_virtual_memory_bytes", "Address space taken.", (double)u.virtual_bytes);
    gauge(out, "process_open_fds", "Files open.", u.open_fds);
    gauge(out, "process_max_fds", "Files that may be open.", u.max_fds);
    gauge(out, "process_start_time_seconds", "When the server began, in seconds since 1970.", m->started_unix);
    family(out, "process_cpu_seconds_total", "counter", "Processor time taken.");
    strbuf_printf(out, "process_cpu_seconds_total %.6f\n", u.cpu_seconds);
}

/* --- vLLM's names ----------------------------------------------------------------------------------------------------- */
static void labelled(strbuf *out, const char *name, const char *type, const char *help, const char *label,
                     double value) {
    family(out, name, type, help);
    strbuf_printf(out, "%s{%s} %.17g\n", name, label, value);
}

static void write_vllm(const metrics *m, const rf_stats *s, const char *label, strbuf *out) {
    static const char *const ends[] = {"stop", "length", "abort", "error"};
    double usage = s->pages_total ? (double)s->pages_used / s->pages_total : 0;
    labelled(out, "vllm:num_requests_running", "gauge", "Requests that are computed now.", label, s->running);
    labelled(out, "vllm:num_requests_waiting", "gauge", "Requests that wait to be let in.", label, s->waiting);
    labelled(out, "vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache that requests hold, 0 to 1.", label,
             usage);
    family(out, "vllm:cache_config_info", "gauge", "Tokens of one page of the KV cache, and pages.");
    strbuf_printf(out, "vllm:cache_config_info{%s,block_size=\"%u\",num_gpu_blocks=\"%u\"} 1\n", label, s->page_tokens,
                  s->pages_total);
    labelled(out, "vllm:prompt_tokens_total", "counter", "Tokens of the prompts of requests that ended.", label,
             (double)m->prompt);
    labelled(out, "vllm:generation_tokens_total", "counter", "Tokens generated.", label, (double)s->generated_tokens);
    labelled(out, "vllm:num_preemptions_total", "counter", "Times a request made room for others.", label,
             (double)s->preemptions);
    labelled(out, "vllm:prefix_cache_queries_total", "counter", "Tokens looked up in the prefix cache.", label,
             (double)s->prefix_queries);
    labelled(out, "vllm:prefix_cache_hits_total", "counter", "Tokens found in the prefix cache.", label,
             (double)s->prefix_hits);
    family(out, "vllm:request_success_total", "counter", "Requests ended, by why.");
    for (int i = 0; i < N_ENDS; i++)
        strbuf_printf(out, "vllm:request_success_total{%s,finished_reason=\"%s\"} %" PRIu64 "\n", label, ends[i],
                      m->ends[i]);
}

/* --- llama.cpp's names ------------------------------------------------------------------------------------------------ */
static double per_second(uint64_t n, int64_t us) { return us > 0 ? 1e6 * (double)n / (double)us : 0; }

static void write_llamacpp(const metrics *m, const rf_stats *s, strbuf *out) {
    double usage = s->pages_total ? (double)s->pages_used / s->pages_total : 0;
    counter(out, "llamacpp:prompt_tokens_total", "Tokens of prompts computed, of requests that ended.",
            m->prompt_computed);
    seconds(out, "llamacpp:prompt_seconds_total", "Time spent on prompts, of requests that ended.", m->prompt_us);
    counter(out, "llamacpp:tokens_predicted_total", "Tokens generated.", s->generated_tokens);
    seconds(out, "llamacpp:tokens_predicted_seconds_total", "Time spent on generation, of requests that ended.",
            m->decode_us);
    counter(out, "llamacpp:n_decode_total", "Steps computed.", s->steps);
    gauge(out, "llamacpp:n_busy_slots_per_decode", "Mean number of sequences in a step.",
          s->steps ? (double)s->seqs_computed / (double)s->steps : 0);
    gauge(out, "llamacpp:n_tokens_max", "Most tokens that a request held.", m->n_tokens_max);
    gauge(out, "llamacpp:prompt_tokens_seconds", "Mean speed of prompts, tokens per second.",
          per_second(m->prompt_computed, m->prompt_us));
    gauge(out, "llamacpp:predicted_tokens_seconds", "Mean speed of generation of a request, tokens per second.",
          per_second(m->decoded, m->decode_us));
    gauge(out, "llamacpp:requests_processing", "Requests that are computed now.", s->running);
    gauge(out, "llamacpp:requests_deferred", "Requests that wait to be let in.", s->waiting);
    gauge(out, "llamacpp:kv_cache_usage_ratio", "Share of the KV cache that requests hold, 0 to 1.", usage);
    gauge(out, "llamacpp:kv_cache_tokens", "Tokens that the pages held by requests have room for.",
          (double)s->pages_used * s->page_tokens);
}

/* --- the device ------------------------------------------------------------------------------------------------------- */
static void label_of(strbuf *out, const char *name, const json_t *v, const char *key, bool more) {
    const char *z = json_string_value(json_object_get(v, key));
    strbuf_printf(out, "%s=\"", name);
    label_value(out, z ? z : "");
    strbuf_puts(out, more ? "\"," : "\"} 1\n");
}

void metrics_write_device(const json_t *info, bool failed, strbuf *out) {
    const json_t *device = json_object_get(info, "device"), *all = json_object_get(info, "downgrades");
    const char *kind = json_string_value(json_object_get(device, "kind"));
    family(out, "rocmforge_device_info", "gauge", "What computes, and the reason of its placement.");
    strbuf_puts(out, "rocmforge_device_info{");
    label_of(out, "kind", device, "kind", true);
    label_of(out, "name", device, "name", true);
    label_of(out, "placement", device, "placement", true);
    label_of(out, "reason", device, "reason_code", false);
    gauge(out, "rocmforge_gpu_available", "1 while a GPU computes.", kind && strcmp(kind, "gpu") == 0 && !failed);
    family(out, "rocmforge_downgrade_info", "gauge", "What became less than asked for, or than there is; by reason.");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *d = json_array_get(all, i);
        strbuf_puts(out, "rocmforge_downgrade_info{");
        label_of(out, "code", d, "code", true);
        label_of(out, "what", d, "what", true);
        label_of(out, "reason", d, "reason", true);
        label_of(out, "cause", d, "cause", false);
    }
}

void metrics_write(const metrics *m, const rf_stats *s, const char *model, uint32_t connections, strbuf *out) {
    strbuf label = {0};
    strbuf_puts(&label, "model_name=\"");
    label_value(&label, model);
    strbuf_puts(&label, "\"");
    write_requests(m, s, out);
    write_engine(s, out);
    write_kv(s, out);
    write_server(m, connections, out);
    if (!label.failed) write_vllm(m, s, label.p, out);
    write_llamacpp(m, s, out);
#define X(id, bounds, by_model, name, help) \
    if (!label.failed) histogram_write(&m->h[id], name, help, by_model ? label.p : "", out);
    METRICS_HISTOGRAMS(X)
#undef X
    out->failed |= label.failed;
    strbuf_free(&label);
}
