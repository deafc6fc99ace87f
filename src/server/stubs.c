/* Stands in for rooms that are not built yet, weakly: the real one replaces it. Goes away when all of them are there. */
#include "server/app.h"
#include "server/job.h"

#include <string.h>

#define WEAK __attribute__((weak))

static void health(app *a, exchange *x) {
    reply_json(x, 200,
               json_pack("{ss ss si}", "status", "healthy", "service", "rocmforge", "connections", a->connections));
}

static void ready(app *a, exchange *x) {
    reply_json(x, a->draining ? 503 : 200, json_pack("{sb ss}", "ready", !a->draining, "service", "rocmforge"));
}

extern const route native_routes[], openai_routes[], llamacpp_routes[], ops_routes[];
WEAK const route native_routes[] = {{0}};
WEAK const route openai_routes[] = {{0}};
WEAK const route llamacpp_routes[] = {{0}};
WEAK const route ops_routes[] = {{"GET", "/health", health, .open = true}, {"GET", "/ready", ready, .open = true}, {0}};

static char nothing;
WEAK jobs *jobs_new(app *a, void *uv_loop) {
    (void)a, (void)uv_loop;
    return (jobs *)(void *)&nothing;
}
WEAK void jobs_free(jobs *all) { (void)all; }
WEAK void jobs_cancel_all(jobs *all) { (void)all; }
WEAK uint32_t jobs_running(const jobs *all) {
    (void)all;
    return 0;
}

WEAK metrics *metrics_new(void) { return (metrics *)(void *)&nothing; }
WEAK void metrics_free(metrics *m) { (void)m; }
WEAK void metrics_refused(metrics *m, int http, const char *code) { (void)m, (void)http, (void)code; }
WEAK void metrics_http(metrics *m, const char *name, int http) { (void)m, (void)name, (void)http; }

WEAK traces *traces_new(const trace_options *opt, rf_error *e) {
    (void)opt, (void)e;
    return (traces *)(void *)&nothing;
}
WEAK void traces_free(traces *t) { (void)t; }
