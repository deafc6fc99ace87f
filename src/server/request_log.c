#include "server/request_log.h"

#include "base/log.h"

#include <stdio.h>

void log_request(const request_record *r) {
    bool failed = r->error != NULL;
    log_level level = failed ? LOG_WARN : LOG_INFO;
    if (!log_enabled(level, "server")) return;
    log_field f[] = {log_i("id", r->id),
                     log_s("request_id", r->request_id),
                     log_s("route", r->route),
                     log_i("status", r->http),
                     log_s("finish", r->finish),
                     log_i("prompt_tokens", r->n_prompt),
                     log_i("cached_tokens", r->n_cached),
                     log_i("tokens", r->n_predicted),
                     log_i("choices", r->n_choices),
                     log_f("queue_ms", (double)r->queue_us / 1e3),
                     log_f("prompt_ms", (double)r->prompt_us / 1e3),
                     log_f("decode_ms", (double)r->decode_us / 1e3),
                     log_f("ttft_ms", (double)r->ttft_us / 1e3),
                     log_f("total_ms", (double)r->total_us / 1e3),
                     log_i("preempted", r->n_preempted),
                     failed ? log_s("code", r->error->code) : (log_field){0},
                     failed ? log_s("error", r->error->message) : (log_field){0},
                     {0}};
    log_event(level, "server", failed ? "request failed" : "request finished", f);
}

void log_refused(const char *id, str path, int http, const char *code) {
    log_level level = http >= 500 ? LOG_WARN : http == 429 ? LOG_INFO : LOG_DEBUG;
    char shown[128];
    if (!log_enabled(level, "server")) return;
    snprintf(shown, sizeof shown, "%.*s", (int)(path.n < sizeof shown ? path.n : sizeof shown - 1), path.p);
    log_event(
        level, "server", "request refused",
        (log_field[]){log_s("request_id", id), log_s("path", shown), log_i("status", http), log_s("code", code), {0}});
}

static bool content_wanted(void) { return log_content_wanted() && log_enabled(LOG_DEBUG, "server"); }

void log_prompt(const char *id, const rf_model *m, const int32_t *tokens, size_t n) {
    char *text;
    size_t size;
    if (!content_wanted() || !rf_detokenize(m, tokens, n, true, &text, &size, NULL)) return;
    log_event(LOG_DEBUG, "server", "prompt", (log_field[]){log_s("request_id", id), log_s("text", text), {0}});
    rf_free(text);
}

void log_answer(const char *id, uint32_t choice, str text) {
    if (!content_wanted()) return;
    log_event(
        LOG_DEBUG, "server", "answer",
        (log_field[]){log_s("request_id", id), log_i("choice", choice), log_s("text", text.n ? text.p : ""), {0}});
}
