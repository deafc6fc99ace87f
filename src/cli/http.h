/* HTTP calls through libcurl: one server, one call at a time. While a call runs it asks every tenth of a second whether it
 * shall go on, so that Ctrl-C is seen. A server that is full (429) is asked again as its Retry-After says, at most
 * HTTP_TRIES times, said on standard error. What goes wrong is an rf_error. One thread. */
#ifndef ROCMFORGE_CLI_HTTP_H
#define ROCMFORGE_CLI_HTTP_H

#include "base/str.h"
#include "cli/cli.h"

enum { HTTP_TRIES = 4, HTTP_SILENCE_SECONDS = 300, HTTP_MOST_REPLY = 64 << 20 };

typedef struct http http;

/* url: "http://127.0.0.1:8080", "https://host/prefix", or HOST[:PORT]. key, cacert: NULL for none. */
http *http_open(const char *url, const char *key, const char *cacert, rf_error *e);
void http_close(http *h);
const char *http_url(const http *h);

typedef struct {
    const char *method, *path, *body; /* body: JSON; NULL: none */
    const char *request_id;           /* X-Request-Id; NULL: none */
    int64_t timeout_ms;               /* of the whole call; 0: none */
    /* A part of a good reply's body as it comes; NULL: the whole body is kept. false: the call shall end. */
    bool (*data)(void *user, const char *p, size_t n);
    bool (*go_on)(void *user); /* false: the call shall end. NULL: always */
    void *user;
    const char *type; /* what a good reply's Content-Type has to be */
} http_call;

/* Appends the reply's body to *body (may be NULL when `data` takes it). false: *e says why; *ended then tells whether it was
 * `data` or `go_on` that ended it. */
bool http_run(http *h, const http_call *call, strbuf *body, bool *ended, rf_error *e);

#endif
