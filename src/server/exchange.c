#include "server/exchange.h"

#include "base/mem.h"
#include "server/conn.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static request *request_of(exchange *x) { return (request *)(void *)((char *)x - offsetof(request, x)); }

/* --- what the client said --------------------------------------------------------------------------------------------- */
str exchange_header(const exchange *x, const char *name) {
    for (uint32_t i = 0; i < x->n_headers; i++)
        if (str_is(x->headers[i].name, name)) return x->headers[i].value;
    return (str){"", 0};
}

bool exchange_query(const exchange *x, const char *name, strbuf *out) {
    size_t n_name = strlen(name), before = out->n;
    for (size_t at = 0; at < x->query.n;) {
        const char *p = x->query.p + at, *amp = memchr(p, '&', x->query.n - at);
        size_t n = amp ? (size_t)(amp - p) : x->query.n - at;
        at += n + 1;
        if (n < n_name || memcmp(p, name, n_name) || (n > n_name && p[n_name] != '=')) continue;
        size_t skip = n > n_name ? n_name + 1 : n_name;
        if (http_unescape((str){p + skip, n - skip}, true, out)) return true;
        out->n = before;
        return false;
    }
    return false;
}

void exchange_name(exchange *x) {
    server *s = (server *)x->app;
    str given = exchange_header(x, "x-request-id");
    if (http_is_id(given))
        snprintf(x->request_id, sizeof x->request_id, "%.*s", (int)given.n, given.p);
    else
        snprintf(x->request_id, sizeof x->request_id, "req-%016llx%08x", (unsigned long long)s->id_seed,
                 (unsigned)++s->n_ids);
}

/* --- the head of a reply ---------------------------------------------------------------------------------------------- */
static const char *phrase(int http) {
    static const struct {
        int http;
        const char *text;
    } phrases[] = {{200, "OK"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {417, "Expectation Failed"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].http == http) return phrases[i].text;
    return "Unknown";
}

static bool is_one_line(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7F) return false;
    return true;
}

enum { MOST_ADDED = 8 };

void exchange_add_header(exchange *x, const char *name, const char *value) {
    request *r = request_of(x);
    assert(!r->replied && r->n_added < MOST_ADDED);
    if (r->n_added++ >= MOST_ADDED || !is_one_line(value))
        return; /* a value with a line end would be a header of its own */
    strbuf_printf(&r->added, "%s: %s\r\n", name, value);
}

static void add_date(strbuf *b) {
    char text[64];
    time_t now = time(NULL);
    struct tm t;
    gmtime_r(&now, &t);
    strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &t);
    strbuf_puts(b, text);
}

/* Puts the head into the server's scratch. n: length of the body, or none for a stream. */
static strbuf *put_head(request *r, int http, const char *type, const size_t *n) {
    server *s = r->c->srv;
    strbuf *b = &s->scratch;
    strbuf_clear(b);
    r->replied = true;
    r->close |= r->c->close || !r->parser.keep_alive || s->app.draining || s->stopping;
    r->chunked = !n && r->parser.minor == 1;
    r->close |= !n && !r->chunked; /* the end of the connection is the end of the body */
    strbuf_printf(b, "HTTP/1.1 %d %s\r\n", http, phrase(http));
    add_date(b);
    if (type) strbuf_printf(b, "Content-Type: %s\r\n", type);
    if (n && http != 204 && http != 304) strbuf_printf(b, "Content-Length: %zu\r\n", *n);
    if (r->chunked) strbuf_puts(b, "Transfer-Encoding: chunked\r\n");
    if (r->close)
        strbuf_puts(b, "Connection: close\r\n");
    else if (r->parser.minor == 0)
        strbuf_puts(b, "Connection: keep-alive\r\n");
    strbuf_printf(b, "X-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\n", r->x.request_id);
    if (r->added.n) strbuf_add(b, r->added.p, r->added.n);
    strbuf_puts(b, "\r\n");
    if (s->app.metrics) metrics_http(s->app.metrics, r->route ? r->route : "none", http);
    return b;
}

enum { SCRATCH_KEPT = 64 << 10 };

static void send_scratch(request *r) {
    strbuf *b = &r->c->srv->scratch;
    if (b->failed || r->added.failed)
        conn_doom(r->c);
    else
        conn_write(r->c, b->p, b->n);
    if (b->cap > SCRATCH_KEPT) strbuf_free(b);
}

void exchange_reply(exchange *x, int http, const char *type, const char *body, size_t n) {
    request *r = request_of(x);
    assert(!r->replied);
    strbuf *b = put_head(r, http, type, &n);
    if (!r->no_body && n) strbuf_add(b, body, n);
    send_scratch(r);
    conn_exchange_over(r->c);
}

/* --- streams ---------------------------------------------------------------------------------------------------------- */
void exchange_stream(exchange *x, int http, const char *type) {
    request *r = request_of(x);
    assert(!r->replied);
    put_head(r, http, type, NULL);
    send_scratch(r);
}

void exchange_write(exchange *x, const char *p, size_t n) {
    request *r = request_of(x);
    assert(r->replied);
    if (n == 0 || r->no_body) return; /* an empty chunk would be the last */
    strbuf *b = &r->c->srv->scratch;
    strbuf_clear(b);
    if (r->chunked) strbuf_printf(b, "%zx\r\n", n);
    strbuf_add(b, p, n);
    if (r->chunked) strbuf_puts(b, "\r\n");
    send_scratch(r);
    if (conn_unsent(r->c) > CONN_UNSENT_BYTES) conn_doom(r->c);
}

size_t exchange_unsent(const exchange *x) { return conn_unsent(request_of((exchange *)(uintptr_t)x)->c); }

void exchange_end(exchange *x) {
    request *r = request_of(x);
    assert(r->replied);
    if (r->chunked && !r->no_body) conn_write(r->c, "0\r\n\r\n", 5);
    conn_exchange_over(r->c);
}
