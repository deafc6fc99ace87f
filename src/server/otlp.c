#include "server/otlp.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    QUEUE_MOST = 2048,
    BATCH_MOST = 128,
    TRIES_MOST = 5,
    LINGER_MS = 1000, /* how long a batch waits for more */
    FIRST_PAUSE_MS = 500,
    LONGEST_PAUSE_MS = 30000,
    CONNECT_MS = 5000,
    TRANSFER_MS = 10000,
    CLOSING_MS = 2000, /* for what waits when the server ends */
    URL_MOST = 2048
};

struct otlp {
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* guards queue, n, at and deadline_us; `news`: something was added, or the end has come */
    pthread_cond_t news;
    trace_entry *queue; /* ring of QUEUE_MOST */
    uint32_t n, at;
    atomic_bool stop;
    atomic_llong deadline_us; /* clock_us() when a stopping exporter gives up; 0: not stopping */
    atomic_ullong sent, dropped, failed;
    /* the thread's own */
    CURL *curl;
    struct curl_slist *headers;
    trace_entry *batch; /* [BATCH_MOST] */
    strbuf body;
    char url[URL_MOST], service[128], version[32];
    bool warned;
};

static otlp *refuse(otlp *o, rf_error *e, const char *code, const char *category, int http, const char *what) {
    otlp_free(o);
    if (!e) return NULL;
    *e = (rf_error){.http = http};
    snprintf(e->code, sizeof e->code, "%s", code);
    snprintf(e->category, sizeof e->category, "%s", category);
    snprintf(e->message, sizeof e->message, "%s", what);
    return NULL;
}

/* --- the queue -------------------------------------------------------------------------------------------------------- */
void otlp_add(otlp *o, const trace_entry *t) {
    pthread_mutex_lock(&o->lock);
    bool room = o->n < QUEUE_MOST;
    if (room) o->queue[(o->at + o->n++) % QUEUE_MOST] = *t;
    pthread_cond_signal(&o->news);
    pthread_mutex_unlock(&o->lock);
    if (!room) atomic_fetch_add(&o->dropped, 1);
}

otlp_counts otlp_get_counts(otlp *o) {
    return (otlp_counts){atomic_load(&o->sent), atomic_load(&o->dropped), atomic_load(&o->failed)};
}

static struct timespec after_ms(int64_t ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    return t;
}

/* Sleeps so long, or until the end has come. */
static void rest(otlp *o, int64_t ms) {
    struct timespec until = after_ms(ms);
    pthread_mutex_lock(&o->lock);
    while (!atomic_load(&o->stop) && pthread_cond_timedwait(&o->news, &o->lock, &until) == 0) {}
    pthread_mutex_unlock(&o->lock);
}

/* Waits for a trace, lingers for more, and takes up to a batch. 0: the end. */
static uint32_t take(otlp *o) {
    pthread_mutex_lock(&o->lock);
    while (o->n == 0 && !atomic_load(&o->stop)) pthread_cond_wait(&o->news, &o->lock);
    struct timespec until = after_ms(LINGER_MS);
    while (o->n < BATCH_MOST && !atomic_load(&o->stop))
        if (pthread_cond_timedwait(&o->news, &o->lock, &until)) break;
    uint32_t n = o->n < BATCH_MOST ? o->n : BATCH_MOST;
    for (uint32_t i = 0; i < n; i++) o->batch[i] = o->queue[(o->at + i) % QUEUE_MOST];
    o->at = (o->at + n) % QUEUE_MOST;
    o->n -= n;
    pthread_mutex_unlock(&o->lock);
    return n;
}

/* --- sending ---------------------------------------------------------------------------------------------------------- */
static bool too_late(const otlp *o) {
    long long deadline = atomic_load(&o->deadline_us);
    return deadline && clock_us() > deadline;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return too_late(user);
}

static size_t on_reply(char *p, size_t size, size_t n, void *user) { /* of no interest */
    (void)p, (void)user;
    return size * n;
}

typedef enum { SENT, AGAIN, NEVER } outcome;

/* OTLP/HTTP: 429, 502, 503, 504 and a connection that fails may be tried again, any other refusal may not. */
static outcome post(otlp *o, int64_t *pause_ms, char *why, size_t size) {
    char text[CURL_ERROR_SIZE] = "";
    long http = 0;
    curl_off_t later = 0;
    curl_easy_setopt(o->curl, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(o->curl, CURLOPT_POSTFIELDS, o->body.p);
    curl_easy_setopt(o->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body.n);
    CURLcode rc = curl_easy_perform(o->curl);
    curl_easy_setopt(o->curl, CURLOPT_ERRORBUFFER, NULL);
    snprintf(why, size, "%s", *text ? text : curl_easy_strerror(rc));
    if (rc) return rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL ? NEVER : AGAIN;
    curl_easy_getinfo(o->curl, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(o->curl, CURLINFO_RETRY_AFTER, &later);
    if (http >= 200 && http < 300) return SENT;
    snprintf(why, size, "HTTP status %ld", http);
    if (later > 0) *pause_ms = later > LONGEST_PAUSE_MS / 1000 ? LONGEST_PAUSE_MS : (int64_t)later * 1000;
    return http == 429 || (http >= 502 && http <= 504) ? AGAIN : NEVER;
}

static void complain(otlp *o, const char *why, uint32_t n) {
    log_event(o->warned ? LOG_DEBUG : LOG_WARN, "trace", "traces could not be exported",
              (log_field[]){log_s("reason", why), log_i("traces", n), {0}});
    o->warned = true; /* once, until it works again */
}

static void send_batch(otlp *o, uint32_t n) {
    const trace_entry *e[BATCH_MOST];
    for (uint32_t i = 0; i < n; i++) e[i] = &o->batch[i];
    strbuf_clear(&o->body);
    trace_write_entries(e, n, &trace_camel, o->service, o->version, &o->body);
    char why[CURL_ERROR_SIZE] = "no memory";
    outcome how = o->body.failed ? NEVER : AGAIN;
    int64_t pause = FIRST_PAUSE_MS;
    for (int try = 0; how == AGAIN && try < TRIES_MOST && !too_late(o); try++) {
        if (try) rest(o, pause);
        if (try) pause = pause * 2 < LONGEST_PAUSE_MS ? pause * 2 : LONGEST_PAUSE_MS;
        how = post(o, &pause, why, sizeof why);
        if (how == AGAIN && atomic_load(&o->stop)) break; /* pauses are over: one try each */
    }
    atomic_fetch_add(how == SENT ? &o->sent : &o->failed, n);
    if (how == SENT)
        o->warned = false;
    else
        complain(o, why, n);
}

static void *export_main(void *arg) {
    otlp *o = arg;
    for (uint32_t n; (n = take(o)) > 0;) {
        if (too_late(o))
            atomic_fetch_add(&o->dropped, n);
        else
            send_batch(o, n);
    }
    return NULL;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */
static int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static str trim(str s) {
    while (s.n && (*s.p == ' ' || *s.p == '\t')) s.p++, s.n--;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

static bool is_header_name(str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7F || strchr("\"(),/:;<=>?@[\\]{}", s.p[i])) return false;
    return s.n > 0;
}

/* Appends s percent-decoded; false: it holds what could end a header line. */
static bool add_decoded(strbuf *b, str s) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%' && s.n - i > 2 && digit(s.p[i + 1]) >= 0 && digit(s.p[i + 2]) >= 0) {
            c = (char)(digit(s.p[i + 1]) << 4 | digit(s.p[i + 2]));
            i += 2;
        }
        if ((unsigned char)c < 0x20 || c == 0x7F) return false;
        strbuf_add(b, &c, 1);
    }
    return true;
}

static bool add_line(otlp *o, const char *line) {
    struct curl_slist *more = curl_slist_append(o->headers, line);
    if (more) o->headers = more;
    return more != NULL;
}

/* "name=value", the value percent-encoded, spaces around both. */
static bool add_header(otlp *o, str pair) {
    const char *eq = memchr(pair.p, '=', pair.n);
    if (!eq) return false;
    str name = trim((str){pair.p, (size_t)(eq - pair.p)}),
        value = trim((str){eq + 1, pair.n - (size_t)(eq + 1 - pair.p)});
    strbuf line = {0};
    bool ok = is_header_name(name);
    strbuf_add(&line, name.p, name.n);
    strbuf_puts(&line, ": ");
    ok = ok && add_decoded(&line, value) && !line.failed && add_line(o, line.p);
    strbuf_free(&line);
    return ok;
}

static bool add_headers(otlp *o, const char *list) {
    bool ok = true;
    for (const char *p = list ? list : ""; ok && *p;) {
        size_t n = strcspn(p, ",");
        str pair = trim((str){p, n});
        if (pair.n) ok = add_header(o, pair);
        p += n + (p[n] == ',');
    }
    return ok && add_line(o, "Content-Type: application/json") &&
           add_line(o, "Expect:"); /* ask nothing before a body */
}

static bool set_up_curl(otlp *o) {
    o->curl = curl_easy_init();
    if (!o->curl) return false;
    curl_easy_setopt(o->curl, CURLOPT_URL, o->url);
    curl_easy_setopt(o->curl, CURLOPT_HTTPHEADER, o->headers);
    curl_easy_setopt(o->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(o->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(o->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(o->curl, CURLOPT_TIMEOUT_MS, (long)TRANSFER_MS);
    curl_easy_setopt(o->curl, CURLOPT_WRITEFUNCTION, on_reply);
    curl_easy_setopt(o->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(o->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(o->curl, CURLOPT_XFERINFODATA, o);
    return curl_easy_setopt(o->curl, CURLOPT_USERAGENT, "rocmforge/" ROCMFORGE_VERSION) == CURLE_OK;
}

static bool start(otlp *o) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    o->running = pthread_create(&o->thread, NULL, export_main, o) == 0;
    if (!o->running) pthread_cond_destroy(&o->news), pthread_mutex_destroy(&o->lock);
    return o->running;
}

otlp *otlp_new(const trace_options *opt, rf_error *e) {
    const char *url = opt->endpoint;
    size_t n = strlen(url);
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
        return refuse(NULL, e, "usage.range", "User", 400,
                      "OTEL_EXPORTER_OTLP_ENDPOINT: give http://host:4318 or https://");
    otlp *o = mem_zalloc(sizeof *o);
    if (!o) return refuse(o, e, "memory.exhausted", "Backend", 503, "trace export: no memory");
    while (n && url[n - 1] == '/') n--;
    if (n + 12 > sizeof o->url)
        return refuse(o, e, "usage.range", "User", 400, "OTEL_EXPORTER_OTLP_ENDPOINT is too long");
    snprintf(o->url, sizeof o->url, "%.*s/v1/traces", (int)n, url);
    snprintf(o->service, sizeof o->service, "%s",
             opt->service_name && *opt->service_name ? opt->service_name : "rocmforge");
    snprintf(o->version, sizeof o->version, "%s", opt->version ? opt->version : rf_version());
    if (!add_headers(o, opt->headers))
        return refuse(o, e, "usage.range", "User", 400,
                      "OTEL_EXPORTER_OTLP_HEADERS: give name=value,name=value with values percent-encoded");
    o->queue = mem_array(QUEUE_MOST, sizeof *o->queue);
    o->batch = mem_array(BATCH_MOST, sizeof *o->batch);
    if (!o->queue || !o->batch || !set_up_curl(o) || !start(o))
        return refuse(o, e, "memory.exhausted", "Backend", 503, "trace export could not be started");
    return o;
}

void otlp_free(otlp *o) {
    if (!o) return;
    if (o->running) {
        atomic_store(&o->deadline_us, clock_us() + CLOSING_MS * 1000);
        pthread_mutex_lock(&o->lock);
        atomic_store(&o->stop, true);
        pthread_cond_signal(&o->news);
        pthread_mutex_unlock(&o->lock);
        pthread_join(o->thread, NULL);
        pthread_cond_destroy(&o->news);
        pthread_mutex_destroy(&o->lock);
    }
    if (o->curl) curl_easy_cleanup(o->curl);
    curl_slist_free_all(o->headers);
    strbuf_free(&o->body);
    mem_free(o->queue);
    mem_free(o->batch);
    mem_free(o);
}
