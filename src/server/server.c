#include "server/server.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/conn.h"
#include "server/context.h"
#include "server/job.h"
#include "server/notify.h"
#include "server/vector.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,
    TICK_MS = 250,
    SPARE_FILES = 64,          /* for everything that is no connection */
    CANCEL_GRACE_SECONDS = 10, /* for requests cancelled at the end of draining to say so */
};

server_options server_defaults(void) {
    return (server_options){.host = "127.0.0.1",
                            .port = 8080,
                            .max_body = 16 << 20,
                            .header_seconds = 10,
                            .body_seconds = 60,
                            .idle_seconds = 75,
                            .drain_seconds = 30,
                            .slots = true,
                            .stall_seconds = 30,
                            .trace_sample = 0.1,
                            .trace_most = 1000};
}

bool server_failed(rf_error *e, status code, const char *fmt, ...) {
    err clean;
    char text[sizeof clean.text];
    const err_info *info = err_lookup(code);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail(&clean, code, "%s", text);
    *e = (rf_error){.http = info->http, .retry = info->retry};
    snprintf(e->code, sizeof e->code, "%s", info->code);
    snprintf(e->category, sizeof e->category, "%s", info->category);
    snprintf(e->message, sizeof e->message, "%s", clean.text);
    return false;
}

/* --- what is checked before anything is opened ------------------------------------------------------------------------ */
static bool resolve(const server_options *o, struct sockaddr_storage *out, rf_error *e) {
    char port[8];
    struct addrinfo hint = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    snprintf(port, sizeof port, "%u", o->port);
    int r = getaddrinfo(*o->host ? o->host : NULL, port, &hint, &found);
    if (r) return server_failed(e, ERR_LISTEN, "%s: %s", o->host, gai_strerror(r));
    memcpy(out, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

/* Whether the address can be had: better known before a model is loaded than after. */
static bool try_address(const server_options *o, rf_error *e) {
    struct sockaddr_storage a;
    if (!resolve(o, &a, e)) return false;
    int yes = 1, fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return true;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bool ok = bind(fd, (struct sockaddr *)&a,
                   a.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)) == 0;
    int why = errno;
    close(fd);
    return ok || server_failed(e, ERR_LISTEN, "%s:%u: %s", o->host, o->port, strerror(why));
}

/* "*", "null", or "https://their.site:8443": what a browser sends has no path, and no slash at its end. */
static bool is_origin(const char *o) {
    const char *host = strstr(o, "://");
    if (strcmp(o, "*") == 0 || strcmp(o, "null") == 0) return true;
    return host && host > o && host[3] && !strpbrk(host + 3, "/ ?#,");
}

static bool check_names(const server_options *o, rf_error *e) {
    for (uint32_t i = 0; i < o->n_cors; i++)
        if (!is_origin(o->cors[i]))
            return server_failed(e, ERR_RANGE, "--cors %s: give an origin as browsers send it, as https://their.site",
                                 o->cors[i]);
    for (uint32_t i = 0; i < o->n_allowed_hosts; i++)
        if (strpbrk(o->allowed_hosts[i], "/ ,@?#"))
            return server_failed(e, ERR_RANGE, "--allowed-host %s: give a name alone, as their.site",
                                 o->allowed_hosts[i]);
    return true;
}

bool server_check(const server_options *o, rf_error *e) {
    if (!guard_is_loopback(o->host) && !o->n_api_keys && !o->insecure)
        return server_failed(
            e, ERR_USAGE,
            "%s can be reached from other machines: give --api-key KEY (or --insecure, if anyone may ask)", o->host);
    if (!o->tls_cert != !o->tls_key) return server_failed(e, ERR_USAGE, "give --tls-cert and --tls-key, or neither");
    if (!check_names(o, e)) return false;
    tls_context *t = o->tls_cert ? tls_context_new(o->tls_cert, o->tls_key, e) : NULL;
    tls_context_free(t);
    return (t || !o->tls_cert) && try_address(o, e);
}

uint32_t server_raise_files(uint32_t asked) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return asked ? asked : 256;
    rlim_t was = r.rlim_cur;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r)) r.rlim_cur = was;
    uint64_t most = r.rlim_cur > 2 * SPARE_FILES ? r.rlim_cur - SPARE_FILES - CONN_SPARE : r.rlim_cur / 2;
    if (most > 1 << 20) most = 1 << 20;
    return asked && asked < most ? asked : (uint32_t)most;
}

/* --- life ------------------------------------------------------------------------------------------------------------- */
static void on_connection(uv_stream_t *h, int result) {
    if (result == 0)
        conn_accept(h->data); /* out of files: libuv closed the newcomer with a descriptor it keeps for this */
}

static bool idle(const server *s) {
    if (s->n_running || (s->app.jobs && jobs_running(s->app.jobs))) return false;
    for (conn *c = s->waiting[WAIT_BUSY].first; c; c = c->next_in_list)
        if (c->out) return false;
    return true;
}

static void drop_all(server *s) {
    for (int w = 0; w < N_CONN_WAITS; w++)
        while (s->waiting[w].first) conn_drop(s->waiting[w].first);
}

/* Draining goes on until nothing runs; past its time what runs is cancelled, and past that it is dropped. */
static void go_on_draining(server *s, int64_t now) {
    if (idle(s) || (s->stopping && now >= s->stop_until_us)) {
        uv_stop(&s->loop);
    } else if (!s->stopping && now >= s->drain_until_us) {
        s->stopping = true;
        s->stop_until_us = now + (int64_t)CANCEL_GRACE_SECONDS * 1000000;
        jobs_cancel_all(s->app.jobs);
    }
}

static void on_tick(uv_timer_t *t) {
    server *s = t->data;
    int64_t now = clock_us();
    conn_tick(s, now);
    if (s->app.draining) go_on_draining(s, now);
}

static void on_prepare(uv_prepare_t *p) {
    server *s = p->data;
    conn_drop_doomed(s);
    if (s->app.draining && idle(s)) uv_stop(&s->loop);
}

static void take_signals(server *s, bool ours);

/* The first signal: requests that run may end, no new generation begins. From here on signals do what they did before the
 * server ran: the command line ends the process at once. */
static void on_signal(uv_signal_t *h, int number) {
    server *s = h->data;
    if (s->app.draining) return;
    log_event(LOG_INFO, "server", "draining",
              (log_field[]){log_s("signal", number == SIGINT ? "SIGINT" : "SIGTERM"),
                            log_i("running", jobs_running(s->app.jobs)),
                            log_i("seconds", s->app.opt->drain_seconds),
                            {0}});
    s->app.draining = true;
    s->drain_until_us = clock_us() + (int64_t)s->app.opt->drain_seconds * 1000000;
    notify_systemd("STOPPING=1");
    take_signals(s, false);
}

/* Whoever moved the log away wants a new one. Where there is none, SIGHUP does what the command line says: it ends us. */
static void on_hangup(uv_signal_t *h, int number) {
    (void)h, (void)number;
    log_reopen();
    log_event(LOG_INFO, "server", "log opened anew", NULL);
}

/* Takes SIGINT and SIGTERM over, or gives them back to who had them. */
static void take_signals(server *s, bool ours) {
    sigset_t both, was;
    sigemptyset(&both);
    sigaddset(&both, SIGINT);
    sigaddset(&both, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &both, &was); /* none comes while nobody has them */
    if (ours) {
        sigaction(SIGINT, NULL, &s->old_int);
        sigaction(SIGTERM, NULL, &s->old_term);
        uv_signal_start(&s->on_int, on_signal, SIGINT);
        uv_signal_start(&s->on_term, on_signal, SIGTERM);
        s->has_signals = true;
    } else if (s->has_signals) {
        uv_signal_stop(&s->on_int);
        uv_signal_stop(&s->on_term);
        sigaction(SIGINT, &s->old_int, NULL);
        sigaction(SIGTERM, &s->old_term, NULL);
        s->has_signals = false;
    }
    pthread_sigmask(SIG_SETMASK, &was, NULL);
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */
static void write_address(server *s, char *out, size_t size) {
    struct sockaddr_storage a;
    int n = sizeof a;
    char host[64] = "", port[8] = "";
    uv_tcp_getsockname(&s->listener, (struct sockaddr *)&a, &n);
    getnameinfo((struct sockaddr *)&a, (socklen_t)n, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    bool v6 = a.ss_family == AF_INET6;
    snprintf(out, size, "%s://%s%s%s:%s", s->tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

static bool start_listening(server *s, rf_error *e) {
    const server_options *o = s->app.opt;
    struct sockaddr_storage a;
    if (!resolve(o, &a, e)) return false;
    int r = uv_tcp_bind(&s->listener, (struct sockaddr *)&a, 0); /* libuv sets SO_REUSEADDR */
    if (!r) r = uv_listen((uv_stream_t *)&s->listener, BACKLOG, on_connection);
    if (r) return server_failed(e, ERR_LISTEN, "%s:%u: %s", o->host, o->port, uv_strerror(r));
    return true;
}

static bool start_loop(server *s, rf_error *e) {
    int r = uv_loop_init(&s->loop);
    if (r) return server_failed(e, ERR_LISTEN, "the event loop: %s", uv_strerror(r));
    s->has_loop = true;
    uv_tcp_init(&s->loop, &s->listener);
    uv_timer_init(&s->loop, &s->tick);
    uv_prepare_init(&s->loop, &s->prepare);
    uv_signal_init(&s->loop, &s->on_int);
    uv_signal_init(&s->loop, &s->on_term);
    uv_signal_init(&s->loop, &s->on_hangup);
    if (log_in_file()) uv_signal_start(&s->on_hangup, on_hangup, SIGHUP);
    s->listener.data = s->tick.data = s->prepare.data = s->on_int.data = s->on_term.data = s;
    uv_prepare_start(&s->prepare, on_prepare);
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    return true;
}

/* --alias, or the file's name without its folder and .gguf. */
static char *name_model(const server_options *o) {
    if (o->alias) return mem_strndup(o->alias, strlen(o->alias));
    const char *path = o->model_path ? o->model_path : "model", *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0) n -= 5;
    return mem_strndup(name, n);
}

static bool open_books(server *s, rf_error *e) {
    app *a = &s->app;
    const server_options *o = a->opt;
    trace_options t = {.sample = o->trace_sample,
                       .most = o->trace_most,
                       .endpoint = o->otlp_endpoint,
                       .headers = o->otlp_headers,
                       .service_name = o->service_name,
                       .version = rf_version()};
    s->model_name = name_model(o);
    a->model_name = s->model_name;
    a->started_unix = (int64_t)time(NULL);
    a->pooling = o->pooling == RF_POOLING_MODEL ? rf_model_pooling(a->model) : o->pooling;
    a->least_dimensions = vector_least_dimensions(a->model);
    a->metrics = metrics_new();
    s->guard = guard_new(o);
    a->traces = traces_new(&t, e);
    if (!a->traces) return false;
    a->jobs = jobs_new(a, &s->loop);
    if (o->context) a->workers = workers_new(&s->loop, CONTEXT_THREADS, CONTEXT_WAITING);
    if (o->context && !a->workers) return server_failed(e, ERR_NOMEM, "threads for the context store");
    if (!s->model_name || !a->metrics || !s->guard || !a->jobs)
        return server_failed(e, ERR_NOMEM, "the server's tables");
    if (getrandom(&s->id_seed, sizeof s->id_seed, 0) != sizeof s->id_seed) s->id_seed = (uint64_t)clock_us();
    return true;
}

static void close_handle(uv_handle_t *h, void *unused) {
    (void)unused;
    if (!uv_is_closing(h)) uv_close(h, NULL);
}

/* In the order that lets everything say goodbye: connections end, jobs are cancelled by that and their engine requests
 * end, then the books are closed. */
static void close_server(server *s) {
    take_signals(s, false);
    if (s->has_loop) {
        if (!uv_is_closing((uv_handle_t *)&s->listener)) uv_close((uv_handle_t *)&s->listener, NULL);
        drop_all(s);
        if (s->app.jobs) jobs_cancel_all(s->app.jobs);
        while (s->app.jobs && jobs_running(s->app.jobs)) uv_run(&s->loop, UV_RUN_ONCE);
    }
    jobs_free(s->app.jobs);
    workers_free(s->app.workers);
    if (s->has_loop) {
        uv_walk(&s->loop, close_handle, NULL);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        uv_loop_close(&s->loop);
    }
    traces_free(s->app.traces);
    metrics_free(s->app.metrics);
    guard_free(s->guard);
    tls_context_free(s->tls);
    mem_free(s->model_name);
    strbuf_free(&s->scratch);
    mem_free(s);
}

static void log_stopped(const server *s) {
    metrics_totals t = metrics_get_totals(s->app.metrics);
    log_event(LOG_INFO, "server", "stopped",
              (log_field[]){log_i("completed", (int64_t)t.completed),
                            log_i("failed", (int64_t)t.failed),
                            log_i("cancelled", (int64_t)t.cancelled),
                            log_i("tokens", (int64_t)t.generated_tokens),
                            {0}});
}

bool server_run(const server_options *opt, rf_model *m, rf_engine *g, void (*ready)(void *user, const char *address),
                void *user, rf_error *e) {
    json_init();
    if (!server_check(opt, e)) return false;
    server *s = mem_zalloc(sizeof *s);
    if (!s) return server_failed(e, ERR_NOMEM, "server");
    s->app = (app){.opt = opt, .model = m, .engine = g, .loop = &s->loop};
    s->n_most = server_raise_files(opt->max_connections);
    s->app.connections_limit = s->n_most;
    bool ok = start_loop(s, e);
    if (ok && opt->tls_cert) ok = (s->tls = tls_context_new(opt->tls_cert, opt->tls_key, e)) != NULL;
    ok = ok && open_books(s, e) && start_listening(s, e);
    if (ok) {
        char address[128];
        take_signals(s, true);
        write_address(s, address, sizeof address);
        if (ready) ready(user, address);
        notify_systemd("READY=1");
        if (opt->context) context_catch_up(&s->app);
        log_event(log_start_level(), "server", "listening",
                  (log_field[]){log_s("address", address),
                                log_s("model", s->model_name),
                                log_s("version", rf_version()),
                                log_i("connections", s->n_most),
                                {0}});
        uv_run(&s->loop, UV_RUN_DEFAULT);
        log_stopped(s);
    }
    close_server(s);
    return ok;
}
