/* A connection: one socket, the request it reads or answers, and what its peer has yet to take. Owned by the server's
 * lists from accept to close; loop thread.
 *
 *      bytes -> [tls] -> parser -> head: guard -> body -> routes -> exchange -> [tls] -> output -> socket
 *
 * A connection waits for one thing at a time (conn_wait) and stands in the list of those that wait for the same; the
 * server's one timer walks the lists. Parser, exchange and output exist only while a request is in flight, so an idle
 * connection holds sizeof(conn) and nothing else (and OpenSSL's session, where there is TLS). */
#ifndef ROCMFORGE_SERVER_CONN_H
#define ROCMFORGE_SERVER_CONN_H

#include "server/app.h"
#include "server/guard.h"
#include "server/http_parser.h"
#include "server/tls.h"

#include <signal.h>
#include <uv.h>

typedef struct server server;
typedef struct conn conn;

typedef enum {
    WAIT_IDLE,   /* for a request's first byte */
    WAIT_HEAD,   /* for the rest of a head, or of a TLS handshake */
    WAIT_BODY,   /* for the rest of a body */
    WAIT_BUSY,   /* for us: an exchange runs, or its reply is being sent */
    WAIT_LINGER, /* for the peer to close, so that the last reply is not lost with what it still sends */
    N_CONN_WAITS
} conn_wait;

typedef struct {
    conn *first, *last;
} conn_list;

/* What the kernel did not take at once: one write runs, the rest is gathered. */
typedef struct {
    uv_write_t write;
    strbuf running, next;
    uint64_t handed, taken; /* bytes given to libuv, and of them gone when last looked at */
    int64_t moved_us;       /* when that last changed */
} conn_output;

typedef struct {
    http_parser parser;
    exchange x;
    conn *c;
    const char *route;   /* pattern that was found, for the counters; NULL: none */
    bool running;        /* a route has it, or had it and its reply is being made */
    bool no_body;        /* HEAD: headers only */
    bool chunked, close; /* of the reply */
    bool replied;        /* its head was sent */
    size_t counted;      /* bytes of the parser's buffer that the server's sum knows */
    strbuf added;        /* header lines of exchange_add_header */
    uint32_t n_added;
} request;

struct conn {
    uv_tcp_t tcp;
    server *srv;
    tls_session *tls;
    request *req;
    conn_output *out;
    strbuf pending; /* bytes of requests behind the one that runs */
    conn *prev, *next_in_list, *next_doomed;
    int64_t since_us, until_us;
    conn_wait wait;
    bool feeding; /* its bytes are being parsed further up the stack */
    bool close;   /* after this reply */
    bool doomed;  /* to be dropped before the loop sleeps: failed inside a call of its own exchange */
    bool paused;  /* not read from: too much is pending */
    bool ended;   /* the peer sends no more */
    bool closing;
};

enum {
    CONN_READ_BYTES = 64 << 10,      /* the server's one buffer for reading */
    CONN_PENDING_BYTES = 64 << 10,   /* requests behind the one that runs; beyond that it is not read from */
    CONN_UNSENT_BYTES = 8 << 20,     /* a stream that leaves more is dropped */
    CONN_REQUESTS_BYTES = 512 << 20, /* bodies of all requests at once, or four of the largest; more are refused */
    CONN_LINGER_SECONDS = 2,
    CONN_KEEPALIVE_SECONDS = 60, /* then the kernel asks whether the peer is still there */
    CONN_SPARE = 16,             /* connections that may be closing above the most there may be */
    CONN_BODY_GRACE_SECONDS = 5, /* the least rate of bodies counts from here on */
    CONN_BODY_BYTES_PER_SECOND = 1024
};

struct server {
    app app; /* first: an app is its server's */
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_timer_t tick;
    uv_prepare_t prepare;
    uv_signal_t on_int, on_term, on_hangup;
    guard *guard;
    tls_context *tls;
    conn_list waiting[N_CONN_WAITS];
    conn *doomed;
    uint32_t n_open, n_most;    /* connections now, and the most there may be */
    size_t request_bytes;       /* buffers of all requests in flight */
    bool accept_owed;           /* a connection waits that there was no memory for */
    uint32_t n_running;         /* exchanges that routes have */
    uint64_t n_requests, n_ids; /* taken; named by us */
    uint64_t id_seed;
    int64_t drain_until_us, stop_until_us;
    bool stopping; /* what still runs was cancelled */
    bool has_loop, has_signals;
    struct sigaction old_int, old_term; /* whose the signals were */
    char *model_name;
    strbuf scratch; /* a reply being put together */
    char read_buffer[CONN_READ_BYTES];
};

void conn_accept(server *s); /* from the listener */
void conn_drop(conn *c);     /* now: its exchange's closed() is called, the socket closed. Not from inside a route */
void conn_doom(conn *c);     /* dropped before the loop sleeps again; from anywhere */
void conn_drop_doomed(server *s);
void conn_tick(server *s, int64_t now_us); /* limits of time */

void exchange_name(exchange *x); /* its request id: the client's, or one made here */

/* For exchange.c */
void conn_write(conn *c, const char *p, size_t n);
size_t conn_unsent(const conn *c);
void conn_exchange_over(conn *c); /* its reply is complete: frees the request, goes on with the next or closes */

#endif
