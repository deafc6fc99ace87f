/* What every route knows: the model, its engine, what the server was asked for, and the books it keeps. One per process,
 * made by server_run, loop thread unless said otherwise. */
#ifndef ROCMFORGE_SERVER_APP_H
#define ROCMFORGE_SERVER_APP_H

#include "rocmforge.h"
#include "server/exchange.h"
#include "base/json.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/trace.h"

typedef struct jobs jobs;
typedef struct workers workers;

typedef struct app {
    const server_options *opt;
    rf_model *model;
    rf_engine *engine;
    jobs *jobs;
    void *loop; /* uv_loop_t */
    metrics *metrics;
    traces *traces;
    workers *workers;          /* for the context store; NULL: there is none */
    char fingerprint[48];      /* openai_fingerprint */
    const char *model_name;    /* --alias, else the file's name without folder and .gguf */
    int64_t started_unix;      /* seconds */
    rf_pooling pooling;        /* of embeddings: the option, else as the model says; never RF_POOLING_MODEL */
    uint32_t least_dimensions; /* vector_least_dimensions */
    bool draining;
    uint32_t connections, connections_most; /* now, and the most there were */
    uint32_t connections_limit;
} app;

typedef void (*route_handler)(app *a, exchange *x);

typedef struct {
    const char *method, *path; /* "/status/{id}": one {id}, matching [A-Za-z0-9._-]{1,128} */
    route_handler run;
    bool open;      /* no key needed: /health and /ready */
    bool generates; /* refused with 503 while draining */
    bool text;      /* of what is generated: refused by a model that only embeds */
} route;

/* Each dialect's file has one table, ending with a NULL path; routes.c lists them. */
extern const route native_routes[], openai_routes[], llamacpp_routes[], context_routes[], ops_routes[];

/* A reply in the error form of the route's dialect (OpenAI's object for /v1 and llama.cpp's, the native one else), with
 * Retry-After and retry-after-ms where e->retry or the status says so. param NULL: none. Fixed texts and names only: what the
 * client sent is quoted escaped and cut. */
void reply_error(exchange *x, const rf_error *e, const char *param);
__attribute__((format(printf, 5, 6))) void reply_fail(exchange *x, int status, const char *code, const char *param,
                                                      const char *fmt, ...);
/* OpenAI's object {"error": {message, type, code, param}}, for events of streams. NULL: no memory. */
json_t *reply_openai_error(const rf_error *e, const char *param);
void reply_add_retry(exchange *x, int http);         /* Retry-After and retry-after-ms, for a 429 or 503 */
void reply_json(exchange *x, int status, json_t *v); /* takes v; NULL: 503 memory.exhausted */

#endif
