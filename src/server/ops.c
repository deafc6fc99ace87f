/* /health, /ready, /metrics, /traces. All but /metrics take the same short time whatever the server does. */
#include "server/ops.h"

#include "server/vector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- health ----------------------------------------------------------------------------------------------------------- */
/* What the engine tells as text. Takes it. */
static json_t *object_of(char *text) {
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    rf_free(text);
    return json_is_object(v) ? v : (json_decref(v), json_object());
}

static json_t *engine_info(const app *a) { return object_of(rf_engine_info(a->engine)); }

/* Why it is not quite well, in one word and a sentence; NULL: it is. */
static const char *judge(const app *a, const rf_stats *s, const json_t *info, health *how) {
    const char *error = json_string_value(json_object_get(info, "error"));
    *how = error ? HEALTH_BAD : HEALTH_DEGRADED;
    if (error) return error;
    if (a->draining) return "draining: what runs is finished, nothing new is taken";
    if (s->queue && s->waiting >= s->queue - s->queue / 10) return "the queue is nearly full";
    if (a->connections_limit && a->connections >= a->connections_limit - a->connections_limit / 20)
        return "nearly all connections are taken";
    *how = HEALTH_GOOD;
    return NULL;
}

/* The engine ended, and not for want of its file. */
static bool gpu_failed(const json_t *info) {
    const char *code = json_string_value(json_object_get(info, "error_code"));
    return code && (strncmp(code, "gpu.", 4) == 0 || strncmp(code, "backend.", 8) == 0);
}

static json_t *checks(const rf_stats *s, const json_t *info, bool alive) {
    int64_t unused = (int64_t)s->pages_total - s->pages_used - s->pages_cached;
    json_t *device = json_object_get(info, "device");
    const char *kind = json_string_value(json_object_get(device, "kind"));
    bool gpu = kind && strcmp(kind, "gpu") == 0, lost = gpu && gpu_failed(info);
    const char *why = lost ? json_string_value(json_object_get(info, "error")) : NULL;
    if (!gpu) why = json_string_value(json_object_get(device, "reason"));
    return json_pack("{s:{sb sb} s:{sb ss*} s:{si si} s:{si si si si si si}}", "engine", "running", alive,
                     "model_loaded", 1, "gpu", "available", gpu && !lost, "error", why, "requests", "active",
                     (int)s->running, "queued", (int)s->waiting, "cache", "pages_used", (int)s->pages_used,
                     "pages_total", (int)s->pages_total, "pages_free", (int)(unused > 0 ? unused : 0),
                     "active_sequences", (int)s->running, "pages_cached", (int)s->pages_cached, "page_tokens",
                     (int)s->page_tokens);
}

static json_t *limits(const app *a, const rf_stats *s) {
    const server_options *o = a->opt;
    return json_pack("{si si si sI si si sf}", "context", (int)rf_engine_context(a->engine), "parallel",
                     (int)s->parallel, "queue", (int)s->queue, "max_body", (json_int_t)o->max_body, "max_connections",
                     (int)a->connections_limit, "drain_seconds", (int)o->drain_seconds, "timeout_seconds",
                     (double)o->timeout_us / 1e6);
}

static json_t *totals(const app *a) {
    metrics_totals t = metrics_get_totals(a->metrics);
    return json_pack("{sI sI sI sI sI sI sf}", "started", (json_int_t)t.started, "completed", (json_int_t)t.completed,
                     "failed", (json_int_t)t.failed, "cancelled", (json_int_t)t.cancelled, "prompt_tokens",
                     (json_int_t)t.prompt_tokens, "generated_tokens", (json_int_t)t.generated_tokens,
                     "tokens_per_second", t.tokens_per_second);
}

/* What clients get of this model, in a few words. */
static void tell_gives(const app *a, char *out, size_t size) {
    const bool text = rf_model_generates(a->model);
    if (a->pooling == RF_POOLING_RANK)
        snprintf(out, size, "%s", text ? "text, and scores of documents" : "scores of documents, no text");
    else
        snprintf(out, size, "%s (%s)%s", text ? "text and embeddings" : "embeddings", vector_pooling_name(a->pooling),
                 text ? "" : ", no text");
}

json_t *ops_health(const app *a, health *how) {
    static const char *const names[] = {"healthy", "degraded", "unhealthy"};
    char gives[64];
    rf_stats s;
    rf_engine_stats(a->engine, &s);
    tell_gives(a, gives, sizeof gives);
    json_t *info = engine_info(a), *warnings = json_object_get(info, "warnings");
    const char *why = judge(a, &s, info, how);
    json_t *v =
        json_pack("{ss ss* ss ss ss ss sb so sO* sO* sO* so so si si si sb}", "status", names[*how], "reason", why,
                  "service", "rocmforge", "version", rf_version(), "model", a->model_name, "gives", gives, "generates",
                  (int)rf_model_generates(a->model), "checks", checks(&s, info, *how != HEALTH_BAD), "device",
                  json_object_get(info, "device"), "warnings", warnings, "downgrades",
                  json_object_get(info, "downgrades"), "limits", limits(a, &s), "totals", totals(a), "threads",
                  (int)json_integer_value(json_object_get(info, "threads")), "connections", (int)a->connections,
                  "uptime_seconds", (int)(time(NULL) - a->started_unix), "draining", a->draining);
    json_object_set_new(json_object_get(json_object_get(v, "checks"), "cache"), "memory",
                        object_of(rf_engine_memory(a->engine)));
    json_decref(info);
    return v;
}

static void run_health(app *a, exchange *x) {
    health how;
    json_t *v = ops_health(a, &how);
    if (how == HEALTH_BAD) reply_add_retry(x, 503);
    reply_json(x, how == HEALTH_BAD ? 503 : 200, v);
}

static void run_ready(app *a, exchange *x) {
    rf_stats s;
    health how;
    rf_engine_stats(a->engine, &s);
    json_t *info = engine_info(a);
    const char *why = judge(a, &s, info, &how);
    bool ready = how != HEALTH_BAD && !a->draining;
    json_t *v = json_pack("{sb ss ss*}", "ready", ready, "service", "rocmforge", "reason", ready ? NULL : why);
    json_decref(info);
    if (!ready) reply_add_retry(x, 503);
    reply_json(x, ready ? 200 : 503, v);
}

/* --- metrics and traces ----------------------------------------------------------------------------------------------- */
static void reply_text(exchange *x, const char *type, strbuf *b) {
    if (b->failed)
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for the reply");
    else
        exchange_reply(x, 200, type, b->p ? b->p : "", b->n);
    strbuf_free(b);
}

static void run_metrics(app *a, exchange *x) {
    strbuf b = {0};
    rf_stats s;
    rf_engine_stats(a->engine, &s);
    metrics_write(a->metrics, &s, a->model_name, a->connections, &b);
    json_t *info = engine_info(a);
    metrics_write_device(info, gpu_failed(info), &b);
    json_decref(info);
    traces_write_metrics(a->traces, &b);
    reply_text(x, "text/plain; version=0.0.4; charset=utf-8", &b);
}

/* A query's number from 0 to most. false: it replied. */
static bool query_number(exchange *x, const char *name, uint32_t most, uint32_t *out) {
    strbuf b = {0};
    char *end = NULL;
    bool there = exchange_query(x, name, &b), good = true;
    if (there) {
        good = b.n > 0 && b.n < 10 && strspn(b.p, "0123456789") == b.n;
        unsigned long v = good ? strtoul(b.p, &end, 10) : 0;
        good = good && v <= most;
        if (good) *out = (uint32_t)v;
    }
    strbuf_free(&b);
    if (!good) reply_fail(x, 400, "usage.range", name, "%s: give a whole number from 0 to %u", name, most);
    return good;
}

static bool query_switch(exchange *x, const char *name, bool *out) {
    strbuf b = {0};
    bool there = exchange_query(x, name, &b), good = true;
    str s = {b.p ? b.p : "", b.n};
    if (there && (str_is(s, "true") || str_is(s, "1")))
        *out = true;
    else
        good = !there || str_is(s, "false") || str_is(s, "0");
    strbuf_free(&b);
    if (!good) reply_fail(x, 400, "usage.range", name, "%s: give true or false", name);
    return good;
}

static void run_traces(app *a, exchange *x) {
    strbuf b = {0};
    uint32_t limit = UINT32_MAX;
    bool clear = false;
    if (!query_number(x, "limit", 1000000, &limit) || !query_switch(x, "clear", &clear)) return;
    traces_write(a->traces, limit, clear, &b);
    reply_text(x, "application/json", &b);
}

const route ops_routes[] = {
    {.method = "GET", .path = "/", .run = ops_page},
    {.method = "GET", .path = "/health", .run = run_health, .open = true},
    {.method = "GET", .path = "/ready", .run = run_ready, .open = true},
    {.method = "GET", .path = "/metrics", .run = run_metrics},
    {.method = "GET", .path = "/traces", .run = run_traces},
    {0},
};
