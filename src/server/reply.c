/* Replies in JSON, and errors in the form of the route's dialect. */
#include "server/app.h"

#include "base/err.h"
#include "server/request_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { RETRY_SECONDS_FULL = 1, RETRY_SECONDS_DOWN = 60 };

static bool is_openai_form(str path) {
    static const char *const llamacpp[] = {
        "/completion", "/completions",      "/tokenize",  "/detokenize", "/apply-template", "/infill",   "/props",
        "/slots",      "/chat/completions", "/embedding", "/embeddings", "/rerank",         "/reranking"};
    if (str_starts(path, "/v1/") || str_is(path, "/v1")) return true;
    for (size_t i = 0; i < sizeof llamacpp / sizeof *llamacpp; i++)
        if (str_is(path, llamacpp[i])) return true;
    return false;
}

static const char *openai_type(int http) {
    switch (http) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 501: return "not_supported_error";
    case 503: return "unavailable_error";
    default: return http < 500 ? "invalid_request_error" : "server_error";
    }
}

json_t *reply_openai_error(const rf_error *e, const char *param) {
    static const char *const theirs[][2] = {{"request.context_length", "context_length_exceeded"},
                                            {"http.key", "invalid_api_key"}};
    const char *code = e->code;
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        if (strcmp(code, theirs[i][0]) == 0) code = theirs[i][1];
    return json_pack("{s{so ss ss ss?}}", "error", "message", json_text_of(str_of(e->message)), "type",
                     openai_type(e->http), "code", code, "param", param);
}

static json_t *native_error(const rf_error *e, const char *param) {
    json_t *v = json_pack("{so ss ss sb ss}", "error", json_text_of(str_of(e->message)), "code", e->code, "category",
                          e->category, "recoverable", (int)e->retry, "status", "error");
    if (v && param) json_object_set_new(v, "param", json_string(param));
    return v;
}

void reply_add_retry(exchange *x, int http) {
    const int seconds = http == 429 ? RETRY_SECONDS_FULL : RETRY_SECONDS_DOWN;
    char text[32];
    snprintf(text, sizeof text, "%d", seconds);
    exchange_add_header(x, "Retry-After", text);
    snprintf(text, sizeof text, "%d", seconds * 1000);
    exchange_add_header(x, "retry-after-ms", text);
}

static void reply_text(exchange *x, int http, const char *text) {
    exchange_reply(x, http, "application/json; charset=utf-8", text, strlen(text));
}

void reply_json(exchange *x, int http, json_t *v) {
    strbuf b = {0};
    if (v && json_write(v, &b, NULL) == OK)
        exchange_reply(x, http, "application/json; charset=utf-8", b.p, b.n);
    else /* what needs no memory */
        reply_text(x, 503,
                   "{\"error\":{\"message\":\"out of memory\",\"type\":\"unavailable_error\",\"code\":"
                   "\"memory.exhausted\",\"param\":null}}");
    json_decref(v);
    strbuf_free(&b);
}

void reply_error(exchange *x, const rf_error *e, const char *param) {
    const int http = e->http >= 400 && e->http < 600 ? e->http : 500;
    rf_error as_sent = *e;
    as_sent.http = http;
    if (x->app->metrics) metrics_refused(x->app->metrics, http, e->code);
    log_refused(x->request_id, x->path, http, e->code);
    if (http == 429 || http == 503) reply_add_retry(x, http);
    reply_json(x, http, is_openai_form(x->path) ? reply_openai_error(&as_sent, param) : native_error(&as_sent, param));
}

/* The error that a status of HTTP stands for where nothing more is known. */
static const err_info *usual_error(int http) {
    switch (http) {
    case 401: return err_lookup(ERR_HTTP_KEY);
    case 403: return err_lookup(ERR_HTTP_HOST);
    case 404: return err_lookup(ERR_NOT_FOUND);
    case 405: return err_lookup(ERR_HTTP_METHOD);
    case 408: return err_lookup(ERR_HTTP_SLOW);
    case 413: return err_lookup(ERR_HTTP_SIZE);
    case 415: return err_lookup(ERR_HTTP_TYPE);
    case 503: return err_lookup(ERR_NOMEM);
    default: return err_lookup(ERR_HTTP);
    }
}

void reply_fail(exchange *x, int http, const char *code, const char *param, const char *fmt, ...) {
    rf_error e = {.http = http, .retry = http == 408 || http == 429 || http == 503};
    err clean;
    char text[sizeof clean.text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail(&clean, ERR_USAGE, "%s", text); /* what a client sent is quoted without its control bytes */
    snprintf(e.code, sizeof e.code, "%s", code ? code : usual_error(http)->code);
    snprintf(e.category, sizeof e.category, "%s",
             http == 429 || http == 503 ? "Recoverable"
             : http < 500               ? "User"
                                        : "Internal");
    snprintf(e.message, sizeof e.message, "%s", clean.text);
    reply_error(x, &e, param);
}
