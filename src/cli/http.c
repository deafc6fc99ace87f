#include "cli/http.h"

#include "base/clock.h"
#include "base/json.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct http {
    CURL *curl;
    CURLM *multi;
    strbuf url, key, no_proxy; /* url without a slash at its end; key: the whole header line */
    const char *cacert;
};

__attribute__((format(printf, 3, 4))) static bool bad(rf_error *e, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    *e = (rf_error){.category = "Recoverable"};
    snprintf(e->code, sizeof e->code, "%s", code);
    vsnprintf(e->message, sizeof e->message, fmt, ap);
    va_end(ap);
    for (char *p = e->message; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127) *p = ' '; /* it may quote what a server sent */
    return false;
}

/* --- the server's address ---------------------------------------------------------------------------------------------- */
enum { DEFAULT_PORT = 8080 };

/* HOST or HOST:PORT is http, at our port where none is named. */
static bool read_url(http *h, const char *url, rf_error *e) {
    bool bare = strstr(url, "://") == NULL;
    char *port = NULL, *scheme = NULL, *host = NULL, *whole = NULL;
    CURLU *u = curl_url();
    strbuf full = {0};
    strbuf_printf(&full, "%s%s", bare ? "http://" : "", url);
    bool ok = u && !full.failed && *url && !curl_url_set(u, CURLUPART_URL, full.p, 0);
    if (ok && bare && curl_url_get(u, CURLUPART_PORT, &port, 0)) {
        char text[8];
        snprintf(text, sizeof text, "%d", DEFAULT_PORT);
        ok = !curl_url_set(u, CURLUPART_PORT, text, 0);
    }
    ok = ok && !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) && !curl_url_get(u, CURLUPART_HOST, &host, 0);
    ok = ok && (!strcmp(scheme, "http") || !strcmp(scheme, "https"));
    ok = ok && !curl_url_set(u, CURLUPART_QUERY, NULL, 0) && !curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
    ok = ok && !curl_url_get(u, CURLUPART_URL, &whole, 0);
    if (ok) strbuf_puts(&h->url, whole);
    while (h->url.n && h->url.p[h->url.n - 1] == '/') h->url.p[--h->url.n] = 0;
    curl_free(port), curl_free(scheme), curl_free(host), curl_free(whole);
    curl_url_cleanup(u);
    strbuf_free(&full);
    return (ok && !h->url.failed) || bad(e, "usage.range", "--host %.200s: give http://HOST:PORT or https://HOST", url);
}

static bool read_key(http *h, const char *key, rf_error *e) {
    if (!key) return true;
    for (const char *p = key; *p; p++)
        if ((unsigned char)*p <= 32 || (unsigned char)*p >= 127)
            return bad(e, "usage.range", "--api-key: a key is printable ASCII without spaces");
    strbuf_printf(&h->key, "Authorization: Bearer %s", key);
    return !h->key.failed || bad(e, "memory.exhausted", "no memory for a request");
}

/* This machine is not reached through a proxy. */
static void read_proxy(http *h) {
    const char *lower = getenv("no_proxy"), *upper = getenv("NO_PROXY"), *list = lower ? lower : upper;
    strbuf_printf(&h->no_proxy, "%s%slocalhost,127.0.0.1,::1", list ? list : "", list && *list ? "," : "");
    if (list && strcmp(list, "*") == 0) strbuf_clear(&h->no_proxy), strbuf_puts(&h->no_proxy, "*");
}

http *http_open(const char *url, const char *key, const char *cacert, rf_error *e) {
    http *h = calloc(1, sizeof *h);
    bool ok = h && !curl_global_init(CURL_GLOBAL_DEFAULT);
    if (ok) h->curl = curl_easy_init(), h->multi = curl_multi_init(), h->cacert = cacert;
    if (!ok || !h->curl || !h->multi) {
        bad(e, "memory.exhausted", "no memory for a request");
        ok = false;
    }
    ok = ok && read_url(h, url, e) && read_key(h, key, e);
    if (ok) {
        read_proxy(h);
        return h;
    }
    http_close(h);
    return NULL;
}

void http_close(http *h) {
    if (!h) return;
    curl_easy_cleanup(h->curl);
    curl_multi_cleanup(h->multi);
    strbuf_free(&h->url);
    strbuf_free(&h->key);
    strbuf_free(&h->no_proxy);
    free(h);
    curl_global_cleanup();
}

const char *http_url(const http *h) { return h->url.p; }

/* --- one exchange ------------------------------------------------------------------------------------------------------ */
typedef struct {
    http *h;
    const http_call *call;
    strbuf *body, other; /* other: of a reply that is no good one */
    long status;
    bool ended, too_long;
    int64_t retry_ms; /* -1: the server did not say */
} transfer;

static bool good_type(CURL *curl, const char *want) {
    char *type = NULL;
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    return type && !strncasecmp(type, want, strlen(want));
}

static size_t on_data(char *p, size_t size, size_t n, void *user) {
    transfer *x = user;
    n *= size;
    curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &x->status);
    bool good = x->status == 200 && good_type(x->h->curl, x->call->type);
    if (good && x->call->data) {
        if (x->call->data(x->call->user, p, n)) return n;
        x->ended = true;
        return 0;
    }
    strbuf *to = good ? x->body : &x->other;
    if (n > HTTP_MOST_REPLY - to->n) x->too_long = true;
    strbuf_add(to, p, x->too_long ? 0 : n);
    return x->too_long || to->failed ? 0 : n;
}

static size_t on_header(char *p, size_t size, size_t n, void *user) {
    static const char ms[] = "retry-after-ms:", seconds[] = "retry-after:";
    transfer *x = user;
    char line[64] = "";
    n *= size;
    if (n >= sizeof line) return n;
    memcpy(line, p, n);
    if (!strncasecmp(line, "HTTP/", 5)) x->retry_ms = -1;
    if (!strncasecmp(line, ms, sizeof ms - 1)) x->retry_ms = strtoll(line + sizeof ms - 1, NULL, 10);
    if (!strncasecmp(line, seconds, sizeof seconds - 1) && x->retry_ms < 0) {
        long long s = strtoll(line + sizeof seconds - 1, NULL, 10);
        x->retry_ms = s < 0 || s > 86400 ? 86400000 : s * 1000;
    }
    return n;
}

static struct curl_slist *headers_of(const transfer *x) {
    char id[160];
    struct curl_slist *all = curl_slist_append(NULL, "Expect:");
    if (x->call->body) all = curl_slist_append(all, "Content-Type: application/json");
    if (x->h->key.n) all = curl_slist_append(all, x->h->key.p);
    snprintf(id, sizeof id, "X-Request-Id: %s", x->call->request_id ? x->call->request_id : "");
    return x->call->request_id ? curl_slist_append(all, id) : all;
}

static void prepare(transfer *x, const char *url, struct curl_slist *headers, char *why) {
    CURL *c = x->h->curl;
    const http_call *call = x->call;
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NOPROXY, x->h->no_proxy.p);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "rocmforge/" ROCMFORGE_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L); /* servers ping while a request waits */
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)HTTP_SILENCE_SECONDS);
    if (call->timeout_ms) curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
    if (x->h->cacert) curl_easy_setopt(c, CURLOPT_CAINFO, x->h->cacert);
    if (!strcmp(call->method, "POST")) curl_easy_setopt(c, CURLOPT_POSTFIELDS, call->body ? call->body : "");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
}

/* Until the reply is whole, or `go_on` says no. */
static CURLcode drive(transfer *x) {
    CURLM *m = x->h->multi;
    CURLcode rc = CURLE_OK;
    int running = 1, left;
    if (curl_multi_add_handle(m, x->h->curl)) return CURLE_OUT_OF_MEMORY;
    while (running && !curl_multi_perform(m, &running) && running) {
        if (x->call->go_on && !x->call->go_on(x->call->user)) {
            x->ended = true;
            break;
        }
        curl_multi_poll(m, NULL, 0, 100, NULL);
    }
    for (CURLMsg *msg; (msg = curl_multi_info_read(m, &left));)
        if (msg->msg == CURLMSG_DONE) rc = msg->data.result;
    curl_multi_remove_handle(m, x->h->curl);
    return rc;
}

/* --- what went wrong ---------------------------------------------------------------------------------------------------- */
static bool explain_curl(const transfer *x, CURLcode rc, const char *why, rf_error *e) {
    const char *url = x->h->url.p, *text = *why ? why : curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return bad(e, "remote.connect",
                   "%.200s: no connection: %.200s; is a server there? rocmforge serve MODEL starts one", url, text);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
        return bad(e, "remote.tls", "%.200s: %.200s; --cacert FILE names certificates to trust", url, text);
    case CURLE_OUT_OF_MEMORY: return bad(e, "memory.exhausted", "no memory for a request");
    case CURLE_OPERATION_TIMEDOUT: return bad(e, "remote.broken", "%.200s: no answer in time: %.200s", url, text);
    default: break;
    }
    if (x->too_long) return bad(e, "remote.reply", "%.200s: the reply is longer than %d bytes", url, HTTP_MOST_REPLY);
    return bad(e, "remote.broken", "%.200s: the connection broke before the answer was whole: %.200s", url, text);
}

/* The server's own words and code, in either of its dialects' error forms. */
static void read_error_body(const strbuf *body, char *code, size_t n_code, char *text, size_t n_text) {
    json_t *v = body->n ? json_loadb(body->p, body->n, 0, NULL) : NULL, *error = json_object_get(v, "error");
    const char *message = json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    const char *its = json_string_value(json_object_get(json_is_object(error) ? error : v, "code"));
    if (message) snprintf(text, n_text, "%s", message);
    if (its && !strcmp(its, "context_length_exceeded")) its = "request.context_length"; /* as OpenAI calls it */
    if (its && strspn(its, "abcdefghijklmnopqrstuvwxyz_.") == strlen(its)) snprintf(code, n_code, "%s", its);
    json_decref(v);
}

static bool explain_status(const transfer *x, rf_error *e) {
    char code[40] = "", text[400] = "";
    const char *url = x->h->url.p;
    read_error_body(&x->other, code, sizeof code, text, sizeof text);
    const char *said = *text ? text : "without a word", *own = strchr(code, '.') ? code : NULL;
    switch (x->status) {
    case 200: return bad(e, "remote.reply", "%.200s: the reply is not of the form it should be", url);
    case 401:
    case 403: return bad(e, "remote.auth", "%.200s refused the key (%ld): %s; give --api-key", url, x->status, said);
    case 404: return bad(e, own ? own : "request.not_found", "%.200s: not found: %s", url, said);
    case 429: return bad(e, "remote.busy", "%.200s is full: %s; try later", url, said);
    case 503: return bad(e, own ? own : "remote.unavailable", "%.200s is not ready: %s", url, said);
    default: break;
    }
    if (x->status >= 300 && x->status < 400)
        return bad(e, "remote.reply", "%.200s answered with a redirection (%ld): give its own address", url, x->status);
    return bad(e, own ? own : "remote.refused", "%.200s answered %ld: %s", url, x->status, said);
}

static bool run_once(transfer *x, const char *url, rf_error *e) {
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = headers_of(x);
    prepare(x, url, headers, why);
    CURLcode rc = drive(x);
    if (!rc && !x->ended) curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &x->status);
    bool good = !rc && x->status == 200 && good_type(x->h->curl, x->call->type);
    curl_slist_free_all(headers);
    curl_easy_reset(x->h->curl);
    if (x->ended) return bad(e, "request.cancelled", "the request was cancelled");
    if (rc) return explain_curl(x, rc, why, e);
    if (!good) explain_status(x, e), e->http = (int)x->status;
    return good;
}

/* The time a full server asked for; false: no more tries, or it shall not be waited for. */
static bool wait_to_retry(transfer *x, int tries) {
    enum { LONGEST_MS = 60000 };
    int64_t ms = x->retry_ms < 0 ? 1000 : x->retry_ms;
    if (x->status != 429 || tries >= HTTP_TRIES || ms > LONGEST_MS) return false;
    cli_note("%s is full: trying again in %.1f s (try %d of %d)", x->h->url.p, (double)ms / 1e3, tries + 1, HTTP_TRIES);
    for (int64_t end = clock_us() + ms * 1000, now; (now = clock_us()) < end;) {
        if (x->call->go_on && !x->call->go_on(x->call->user)) return !(x->ended = true);
        int64_t left = (end - now + 999) / 1000;
        poll(NULL, 0, left < 100 ? (int)left : 100);
    }
    return true;
}

bool http_run(http *h, const http_call *call, strbuf *body, bool *ended, rf_error *e) {
    transfer x = {.h = h, .call = call, .body = body, .retry_ms = -1};
    strbuf url = {0};
    strbuf_printf(&url, "%s%s", h->url.p, call->path);
    bool ok = false;
    for (int tries = 1; !url.failed; tries++) {
        ok = run_once(&x, url.p, e);
        if (ok || x.ended || !wait_to_retry(&x, tries)) break;
        strbuf_clear(&x.other);
    }
    if (url.failed) bad(e, "memory.exhausted", "no memory for a request");
    if (x.ended && !ok) bad(e, "request.cancelled", "the request was cancelled");
    if (ended) *ended = x.ended;
    strbuf_free(&url);
    strbuf_free(&x.other);
    return ok;
}
