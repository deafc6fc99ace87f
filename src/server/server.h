/* The HTTP server: one libuv loop that parses, checks, hands requests to the engine and writes what comes back.
 * Uses rocmforge.h only. */
#ifndef ROCMFORGE_SERVER_SERVER_H
#define ROCMFORGE_SERVER_SERVER_H

#include "base/err.h"
#include "rocmforge.h"

typedef struct {
    const char *host; /* "127.0.0.1" */
    uint16_t port;    /* 8080; 0: any, said */
    const char *model_path, *alias;
    const char *const *api_keys; /* any of them is good; n 0: none is asked for */
    uint32_t n_api_keys;
    bool insecure;           /* another address than loopback without a key */
    const char *const *cors; /* origins allowed */
    uint32_t n_cors;
    const char *const *allowed_hosts; /* Host names beside those of loopback */
    uint32_t n_allowed_hosts;
    const char *tls_cert, *tls_key;
    uint64_t max_body;                                   /* bytes [16 MiB] */
    uint32_t header_seconds, body_seconds, idle_seconds; /* [10, 60 and at least 1 KiB/s, 75] */
    uint32_t max_connections;                            /* 0: as many as open files allow */
    uint32_t drain_seconds;                              /* [30] */
    int64_t timeout_us;                                  /* of a request; 0: none */
    bool strict_model, slots, trust_traceparent;
    rf_context *context;       /* its routes and recall; NULL: none. Used from several threads while the server runs */
    rf_pooling pooling;        /* of embeddings; RF_POOLING_MODEL: as the model says */
    uint32_t stall_seconds;    /* a reader that takes nothing is dropped after [30] */
    const char *chat_template; /* text that replaces the model's; NULL: none */
    const char *template_kwargs;                             /* JSON object of defaults; NULL: none */
    double trace_sample;                                     /* share of requests traced [0.1] */
    uint32_t trace_most;                                     /* kept for /traces [1000] */
    const char *otlp_endpoint, *otlp_headers, *service_name; /* NULL endpoint: no export */
} server_options;

server_options server_defaults(void);

/* What can be said to be wrong before a model is loaded: the address, keys, TLS files. server_run checks it again. */
bool server_check(const server_options *opt, rf_error *e);
/* Raises the soft limit of open files to the hard one; gives the connections that then fit, at most `asked` (0: any). */
uint32_t server_raise_files(uint32_t asked);

/* Engine and model are given open. ready(user, address) is called once it listens. Runs until SIGTERM or SIGINT, then until
 * what runs has ended (drained), or a fatal error. true: ended as asked. After the first signal the next one does what it did
 * before server_run: the command line's ends the process at once, with 130. */
bool server_run(const server_options *opt, rf_model *m, rf_engine *g, void (*ready)(void *user, const char *address),
                void *user, rf_error *e);

/* Fills *e with the code's row of the table and a sentence; false, so that a failing line can return it. */
__attribute__((format(printf, 3, 4))) bool server_failed(rf_error *e, status code, const char *fmt, ...);

#endif
