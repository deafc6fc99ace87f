/* Bytes as HTTP requests, whole and in pieces of the input's choosing: what the parser finds must be the same.
 * Layout: a seed for the pieces, one byte for the limit of bodies; the rest is what a client sends. */
#include "server/http_parser.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    http_parser p;
    http_progress end;
    size_t used, head_at; /* bytes taken in all; and when the head was complete */
} result;

static size_t next_piece(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return 1 + (*seed >> 24) % 7;
}

/* seed 0: all at once. */
static void parse(result *r, const char *p, size_t n, uint64_t max_body, uint32_t seed) {
    *r = (result){0};
    http_parser_init(&r->p, max_body);
    while (r->end == HTTP_MORE || r->end == HTTP_HEAD) {
        size_t piece = n - r->used, used;
        if (seed) {
            size_t want = next_piece(&seed);
            piece = want < piece ? want : piece;
        }
        r->end = http_parser_feed(&r->p, p + r->used, piece, &used);
        if (used > piece || (r->end == HTTP_MORE && used < piece)) abort();
        r->used += used;
        if (r->end == HTTP_HEAD && r->head_at) abort(); /* said once */
        if (r->end == HTTP_HEAD) r->head_at = r->used;
        if (r->end == HTTP_MORE && r->used == n) return;
    }
}

static void compare(const result *a, const result *b) {
    if (a->end != b->end || a->used != b->used || a->head_at != b->head_at) abort();
    if (a->end == HTTP_REFUSED && (a->p.status != b->p.status || strcmp(a->p.why, b->p.why))) abort();
    if (!a->head_at) return; /* a head that was shown stays, also when the body is refused or breaks off */
    const http_parser *p = &a->p, *q = &b->p;
    if (!str_eq(p->method, q->method) || !str_eq(p->path, q->path) || !str_eq(p->query, q->query)) abort();
    if (a->end == HTTP_DONE && !str_eq(p->body, q->body)) abort();
    if (p->n_headers != q->n_headers || p->minor != q->minor || p->keep_alive != q->keep_alive) abort();
    for (uint32_t i = 0; i < p->n_headers; i++)
        if (!str_eq(p->headers[i].name, q->headers[i].name) || !str_eq(p->headers[i].value, q->headers[i].value))
            abort();
}

/* What no accepted request may be, whatever came. */
static void check(const result *r, uint64_t max_body) {
    const http_parser *p = &r->p;
    if (r->end != HTTP_DONE) return;
    if (p->body.n > max_body || p->body.p[p->body.n] != 0 || p->n_headers > HTTP_MAX_HEADERS) abort();
    if (!p->chunked && p->body.n != p->length) abort();
    if (p->path.n == 0 || memchr(p->path.p, 0, p->path.n) || !str_is_utf8(p->path)) abort();
    uint32_t n_host = 0, n_frame = 0;
    for (uint32_t i = 0; i < p->n_headers; i++) {
        str name = p->headers[i].name, v = p->headers[i].value;
        n_host += str_is(name, "host");
        n_frame += str_is(name, "content-length") || str_is(name, "transfer-encoding");
        for (size_t k = 0; k < name.n; k++)
            if (!http_is_token(name.p[k])) abort();
        for (size_t k = 0; k < v.n; k++)
            if (v.p[k] == '\n' || v.p[k] == '\r' || v.p[k] == 0) abort();
    }
    if (n_host != 1 || n_frame > 1) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 5) return 0;
    uint32_t seed;
    memcpy(&seed, data, 4);
    const uint64_t max_body = data[4];
    const char *p = (const char *)data + 5;
    size_t n = size - 5;
    while (n > 0) { /* requests behind each other, as on one connection */
        static result whole, pieces;
        parse(&whole, p, n, max_body, 0);
        parse(&pieces, p, n, max_body, seed | 1);
        compare(&whole, &pieces);
        check(&whole, max_body);
        bool done = whole.end == HTTP_DONE;
        p += whole.used;
        n -= whole.used;
        http_parser_free(&whole.p);
        http_parser_free(&pieces.p);
        if (!done) break;
    }
    return 0;
}
