#include "server/request_log.h"

#include "base/log.h"

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

void log_refused(const char *id, const char *route, int http, const char *code) {
    log_event(http >= 500 ? LOG_WARN : LOG_INFO, "server", "request refused",
              (log_field[]){log_i("status", http),
                            log_s("code", code),
                            log_s("route", route ? route : "none"),
                            id ? log_s("request_id", id) : (log_field){0},
                            {0}});
}
