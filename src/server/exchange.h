/* One request and its reply, as routes see it: the connection, its parser, TLS and timers stand behind it (conn.c).
 * An exchange lives from the moment the whole request was read until its reply was sent or its peer is gone. Loop thread. */
#ifndef ROCMFORGE_SERVER_EXCHANGE_H
#define ROCMFORGE_SERVER_EXCHANGE_H

#include "base/str.h"
#include "rocmforge.h"
#include "server/http_parser.h"

struct app;

typedef struct exchange exchange;
struct exchange {
    struct app *app;
    str method, path, query; /* path without the query, percent-decoded; query as sent */
    str param;               /* what the route's {id} matched */
    const http_header *headers;
    uint32_t n_headers;
    str body;             /* whole, unchunked; terminated by a NUL that is not part of it */
    char request_id[129]; /* the client's X-Request-Id where it is a good name, else made here */
    int64_t received_us;  /* clock_us() when the request line was complete */
    /* For the route: state of its own, and a call when the exchange ends before exchange_end: the peer is gone, a limit was
     * passed, or the server stops. After it returns the exchange is gone. */
    void *user;
    void (*closed)(exchange *x);
};

str exchange_header(const exchange *x, const char *name); /* empty: not there */
/* Value of a query parameter, percent-decoded, appended to out. false: absent or malformed. */
bool exchange_query(const exchange *x, const char *name, strbuf *out);

void exchange_add_header(exchange *x, const char *name, const char *value); /* before the reply; at most 8, copied */
/* The whole reply: status, Content-Type, body (copied). The exchange is gone when it returns. */
void exchange_reply(exchange *x, int status, const char *type, const char *body, size_t n);

/* Or in pieces: chunked to 1.1 clients, closed at the end for 1.0. Each write goes out at once; what the peer has not taken is
 * kept. A peer that takes nothing for too long, or leaves too much, is dropped: `closed` says so. */
void exchange_stream(exchange *x, int status, const char *type);
void exchange_write(exchange *x, const char *p, size_t n);
size_t exchange_unsent(const exchange *x); /* bytes the peer has yet to take */
void exchange_end(exchange *x);            /* the exchange is gone when it returns */

#endif
