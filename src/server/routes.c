#include "server/routes.h"

#include <string.h>

static const route *const tables[] = {native_routes, openai_routes, llamacpp_routes, context_routes, ops_routes};
enum { N_TABLES = sizeof tables / sizeof *tables };

/* Does the path fit the pattern? *param: what stands for {id}. */
static bool fits(const char *pattern, str path, str *param) {
    const char *brace = strchr(pattern, '{');
    *param = (str){"", 0};
    if (!brace) return str_is(path, pattern);
    size_t before = (size_t)(brace - pattern), n_after = strlen(strchr(brace, '}') + 1);
    if (path.n < before + n_after || memcmp(path.p, pattern, before)) return false;
    if (memcmp(path.p + path.n - n_after, pattern + strlen(pattern) - n_after, n_after)) return false;
    *param = (str){path.p + before, path.n - before - n_after};
    return http_is_id(*param);
}

/* A route that answers GET answers HEAD too: the reply's body is left out further down. */
static bool takes(const route *r, str method) {
    return str_is(method, r->method) || (str_is(method, "HEAD") && strcmp(r->method, "GET") == 0);
}

/* The route of this method and path. NULL: none, and allow lists what the path's other routes take (empty: no such path). */
static const route *find(str method, str path, str *param, strbuf *allow) {
    for (size_t t = 0; t < N_TABLES; t++)
        for (const route *r = tables[t]; r->path; r++) {
            if (!fits(r->path, path, param)) continue;
            if (takes(r, method)) return r;
            if (allow)
                strbuf_printf(allow, "%s%s%s", allow->n ? ", " : "", r->method,
                              strcmp(r->method, "GET") ? "" : ", HEAD");
        }
    return NULL;
}

bool routes_open(str path) {
    str param;
    for (size_t t = 0; t < N_TABLES; t++)
        for (const route *r = tables[t]; r->path; r++)
            if (r->open && fits(r->path, path, &param)) return true;
    return false;
}

static bool is_known_method(str m) {
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_is(m, known[i])) return true;
    return false;
}

/* Routes that are to come (a slash at the end: all below), so that nobody hunts for a typing error. */
static bool is_planned(str path) {
    static const char *const planned[] = {"/infill", "/v1/messages", "/v1/messages/", "/v1/responses", "/api/"};
    for (size_t i = 0; i < sizeof planned / sizeof *planned; i++) {
        bool below = planned[i][strlen(planned[i]) - 1] == '/';
        if (below ? str_starts(path, planned[i]) : str_is(path, planned[i])) return true;
    }
    return false;
}

static void no_route(exchange *x, strbuf *allow) {
    bool options = str_is(x->method, "OPTIONS");
    if (allow->n) {
        strbuf_puts(allow, ", OPTIONS");
        if (!allow->failed) exchange_add_header(x, "Allow", allow->p);
    }
    if (!is_known_method(x->method))
        reply_fail(x, 501, "http.method", NULL, "this method is not known here");
    else if (options && (allow->n || str_is(x->path, "*")))
        exchange_reply(x, 204, NULL, "", 0);
    else if (allow->n)
        reply_fail(x, 405, NULL, NULL, "this route does not take the method; see Allow");
    else if (is_planned(x->path))
        reply_fail(x, 404, NULL, NULL, "the route %.*s is not built yet", STR(x->path));
    else
        reply_fail(x, 404, NULL, NULL, "no such route; GET / lists those there are");
}

void routes_run(app *a, exchange *x, const char **name) {
    strbuf allow = {0};
    const route *r = find(x->method, x->path, &x->param, &allow);
    if (r) *name = r->path;
    if (!r)
        no_route(x, &allow);
    else if (r->generates && a->draining)
        reply_fail(x, 503, "server.draining", NULL, "the server is shutting down");
    else if (r->text && !rf_model_generates(a->model))
        reply_fail(x, 400, "model.embeds_only", "model", "this model makes vectors, no text: POST %s",
                   a->pooling == RF_POOLING_RANK ? "/v1/rerank" : "/v1/embeddings");
    else
        r->run(a, x);
    strbuf_free(&allow);
}
