#include "server/conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/routes.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

/* --- lists and waits -------------------------------------------------------------------------------------------------- */
static void list_remove(conn_list *l, conn *c) {
    if (c->prev)
        c->prev->next_in_list = c->next_in_list;
    else
        l->first = c->next_in_list;
    if (c->next_in_list)
        c->next_in_list->prev = c->prev;
    else
        l->last = c->prev;
    c->prev = c->next_in_list = NULL;
}

static void list_append(conn_list *l, conn *c) {
    c->prev = l->last;
    c->next_in_list = NULL;
    if (l->last)
        l->last->next_in_list = c;
    else
        l->first = c;
    l->last = c;
}

/* All of one list wait equally long, so a list is in the order of its deadlines. 0: no limit. */
static uint32_t wait_seconds(const server *s, conn_wait w) {
    const server_options *o = s->app.opt;
    switch (w) {
    case WAIT_IDLE: return o->idle_seconds;
    case WAIT_HEAD: return o->header_seconds;
    case WAIT_BODY: return o->body_seconds;
    case WAIT_LINGER: return CONN_LINGER_SECONDS;
    default: return 0;
    }
}

static void wait_for(conn *c, conn_wait w) {
    list_remove(&c->srv->waiting[c->wait], c);
    c->wait = w;
    c->since_us = clock_us();
    c->until_us = c->since_us + (int64_t)wait_seconds(c->srv, w) * 1000000;
    list_append(&c->srv->waiting[w], c);
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */
static void free_output(conn *c) {
    if (!c->out) return;
    strbuf_free(&c->out->running);
    strbuf_free(&c->out->next);
    mem_free(c->out);
    c->out = NULL;
}

static void free_request(conn *c) {
    request *r = c->req;
    c->req = NULL;
    if (!r) return;
    if (r->running) c->srv->n_running--;
    c->srv->request_bytes -= r->counted;
    http_parser_free(&r->parser);
    strbuf_free(&r->added);
    mem_free(r);
}

static void on_closed(uv_handle_t *h) {
    conn *c = h->data;
    server *s = c->srv;
    free_output(c); /* libuv has no write of it any more */
    tls_session_free(c->tls);
    strbuf_free(&c->pending);
    s->app.connections = --s->n_open;
    mem_free(c);
}

void conn_drop(conn *c) {
    if (c->closing) return;
    c->closing = true;
    for (conn **at = &c->srv->doomed; c->doomed && *at; at = &(*at)->next_doomed)
        if (*at == c) {
            *at = c->next_doomed;
            break;
        }
    list_remove(&c->srv->waiting[c->wait], c);
    exchange *x = c->req ? &c->req->x : NULL;
    if (x && c->req->running && x->closed) x->closed(x);
    free_request(c);
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) uv_close((uv_handle_t *)&c->tcp, on_closed);
}

void conn_doom(conn *c) {
    if (c->doomed || c->closing) return;
    c->doomed = true;
    c->next_doomed = c->srv->doomed;
    c->srv->doomed = c;
}

void conn_drop_doomed(server *s) {
    while (s->doomed) {
        conn *c = s->doomed;
        s->doomed = c->next_doomed;
        c->doomed = false;
        conn_drop(c);
    }
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */
static void next_request(conn *c);
static void pause_or_resume(conn *c);
static void on_written(uv_write_t *w, int result);

size_t conn_unsent(const conn *c) {
    return c->out ? uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) + c->out->next.n : 0;
}

static void write_next(conn *c) {
    conn_output *o = c->out;
    strbuf empty = o->running;
    o->running = o->next;
    o->next = empty;
    strbuf_clear(&o->next);
    o->handed += o->running.n;
    uv_buf_t b = uv_buf_init(o->running.p, (unsigned)o->running.n);
    if (uv_write(&o->write, (uv_stream_t *)&c->tcp, &b, 1, on_written)) conn_doom(c);
}

static void on_written(uv_write_t *w, int result) {
    conn *c = w->data;
    if (c->closing) return;
    if (result < 0) {
        conn_drop(c);
        return;
    }
    strbuf_clear(&c->out->running);
    if (c->out->next.n) {
        write_next(c);
        return;
    }
    free_output(c);
    if (!c->req || !c->req->running) next_request(c);
}

/* Keeps what the kernel did not take. */
static void queue_bytes(conn *c, const char *p, size_t n) {
    if (!c->out) {
        c->out = mem_zalloc(sizeof *c->out);
        if (!c->out) {
            conn_doom(c);
            return;
        }
        c->out->write.data = c;
        c->out->moved_us = clock_us();
    }
    strbuf_add(&c->out->next, p, n);
    if (c->out->next.failed)
        conn_doom(c);
    else if (c->out->running.n == 0)
        write_next(c);
}

static void send_raw(void *user, const char *p, size_t n) {
    conn *c = user;
    if (c->closing || c->doomed || n == 0) return;
    if (!c->out) {
        uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)(n > UINT32_MAX / 2 ? UINT32_MAX / 2 : n));
        int sent = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
        if (sent < 0 && sent != UV_EAGAIN) {
            conn_doom(c);
            return;
        }
        if (sent > 0) p += sent, n -= (size_t)sent;
    }
    if (n) queue_bytes(c, p, n);
}

void conn_write(conn *c, const char *p, size_t n) {
    if (c->tls && !c->closing && !c->doomed) {
        if (!tls_write(c->tls, p, n)) conn_doom(c);
        return;
    }
    send_raw(c, p, n);
}

static void on_shutdown(uv_shutdown_t *r, int result) {
    (void)result;
    mem_free(r);
}

/* The last reply was sent. A socket closed with bytes unread would reset the connection and take the reply with it: so only
 * our side is ended, and what still comes is thrown away for a moment. */
static void linger(conn *c) {
    if (c->ended) {
        conn_drop(c);
        return;
    }
    if (c->tls) tls_end(c->tls);
    uv_shutdown_t *r = mem_alloc(sizeof *r);
    if (!r || uv_shutdown(r, (uv_stream_t *)&c->tcp, on_shutdown)) {
        mem_free(r);
        conn_drop(c);
        return;
    }
    strbuf_free(&c->pending);
    wait_for(c, WAIT_LINGER);
    pause_or_resume(c);
}

/* --- requests --------------------------------------------------------------------------------------------------------- */

/* A request in the making goes on; a new one begins when the last reply has left, and unless that was to be the last. */
static bool may_parse(const conn *c) {
    if (c->closing || c->doomed || c->out || c->wait == WAIT_LINGER) return false;
    return c->req ? !c->req->running : !c->close;
}

static bool new_request(conn *c) {
    c->req = mem_zalloc(sizeof *c->req);
    if (!c->req) {
        conn_doom(c);
        return false;
    }
    c->req->c = c;
    http_parser_init(&c->req->parser, c->srv->app.opt->max_body);
    c->req->x.app = &c->srv->app;
    if (c->wait != WAIT_HEAD) wait_for(c, WAIT_HEAD);
    return true;
}

/* The exchange as far as the parser knows the request: from here on a reply can be made. */
static void begin_exchange(conn *c) {
    request *r = c->req;
    const http_parser *p = &r->parser;
    exchange *x = &r->x;
    x->method = p->method;
    x->path = p->path;
    x->query = p->query;
    x->headers = p->headers;
    x->n_headers = p->n_headers;
    x->body = p->body;
    r->no_body = str_is(p->method, "HEAD");
    if (!x->received_us) x->received_us = clock_us();
    if (!x->request_id[0]) exchange_name(x);
    r->running = true;
    c->srv->n_running++;
}

static void back_to_reading(conn *c) {
    c->req->running = false;
    c->srv->n_running--;
}

/* Answers what is no request, and closes: nothing that follows on this connection can be told apart. */
static void refuse(conn *c, int http, const char *why) {
    begin_exchange(c);
    c->close = true;
    wait_for(c, WAIT_BUSY);
    reply_fail(&c->req->x, http, NULL, NULL, "%s", why);
}

/* A refused request's body is not read, so that the connection ends with the refusal. */
static void on_head(conn *c) {
    const http_parser *p = &c->req->parser;
    const bool body = http_parser_wants_body(p);
    begin_exchange(c);
    c->close = body || !p->keep_alive;
    if (!guard_pass(c->srv->guard, &c->req->x)) return;
    c->close = !p->keep_alive;
    back_to_reading(c);
    if (!body) return;
    if (p->expect_continue) conn_write(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    wait_for(c, WAIT_BODY);
}

static void on_request(conn *c) {
    begin_exchange(c);
    c->srv->n_requests++;
    wait_for(c, WAIT_BUSY);
    routes_run(&c->srv->app, &c->req->x, &c->req->route);
}

/* Keeps the sum of what requests hold. false: too much at once. */
static bool count_bytes(conn *c) {
    request *r = c->req;
    server *s = c->srv;
    s->request_bytes += r->parser.cap - r->counted;
    r->counted = r->parser.cap;
    return s->request_bytes <= CONN_REQUESTS_BYTES || s->request_bytes / 4 <= s->app.opt->max_body ||
           r->parser.cap <= CONN_PENDING_BYTES;
}

/* Parses until the bytes are used up, or a route keeps a request. Gives the number of bytes used. */
static size_t feed(conn *c, const char *p, size_t n) {
    size_t at = 0;
    c->feeding = true;
    while (at < n && may_parse(c) && (c->req || new_request(c))) {
        request *r = c->req;
        http_progress did;
        do {
            size_t used;
            did = http_parser_feed(&r->parser, p + at, n - at, &used);
            at += used;
            if (!r->x.received_us && http_parser_past_line(&r->parser)) r->x.received_us = clock_us();
            if (did == HTTP_HEAD) on_head(c);
        } while (did == HTTP_HEAD && c->req == r && !r->running);
        if (c->req == r && !r->running && !count_bytes(c))
            refuse(c, 503, "too many large requests at once");
        else if (did == HTTP_REFUSED)
            refuse(c, r->parser.status, r->parser.why);
        else if (did == HTTP_DONE)
            on_request(c);
    }
    c->feeding = false;
    return at;
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b);

static void give_buffer(uv_handle_t *h, size_t hint, uv_buf_t *b) {
    (void)hint;
    server *s = ((conn *)h->data)->srv;
    *b = uv_buf_init(s->read_buffer, sizeof s->read_buffer);
}

static void pause_or_resume(conn *c) {
    bool full = c->pending.n >= CONN_PENDING_BYTES;
    if (c->closing || full == c->paused || c->ended) return;
    c->paused = full;
    if (full)
        uv_read_stop((uv_stream_t *)&c->tcp);
    else if (uv_read_start((uv_stream_t *)&c->tcp, give_buffer, on_read))
        conn_doom(c);
}

/* What to do when a reply has left or bytes have come: the next request, the end, or waiting. */
static void next_request(conn *c) {
    while (c->pending.n && may_parse(c)) {
        size_t used = feed(c, c->pending.p, c->pending.n);
        c->pending.n -= used;
        memmove(c->pending.p, c->pending.p + used, c->pending.n);
    }
    if (c->closing || c->doomed || c->out || c->wait == WAIT_LINGER) return;
    if (!c->req && c->close) {
        linger(c);
        return;
    }
    if (!c->pending.n) strbuf_free(&c->pending);
    pause_or_resume(c);
    if (!c->req && c->wait != WAIT_IDLE) wait_for(c, WAIT_IDLE);
}

void conn_exchange_over(conn *c) {
    if (c->req->close) c->close = true;
    free_request(c);
    if (!c->feeding) next_request(c);
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */
static void take(void *user, const char *p, size_t n) {
    conn *c = user;
    if (c->closing || c->doomed || c->wait == WAIT_LINGER) return;
    size_t used = c->pending.n ? 0 : feed(c, p, n);
    bool last = c->close && (!c->req || c->req->running); /* what follows the last request is nobody's */
    if (used < n && !last) strbuf_add(&c->pending, p + used, n - used);
    if (c->pending.failed)
        conn_doom(c);
    else
        next_request(c);
    pause_or_resume(c);
}

/* The peer sends no more. Who waits for an answer that takes time is taken for gone: a client that closes cannot be told
 * from one that only stopped sending. Replies already made are still delivered. */
static void on_end(conn *c) {
    c->ended = true;
    c->close = true;
    if (!c->out || (c->req && c->req->running)) conn_drop(c);
}

static void read_tls(conn *c, const char *p, size_t n) {
    if (c->wait == WAIT_IDLE && !tls_established(c->tls)) wait_for(c, WAIT_HEAD);
    switch (tls_read(c->tls, p, n, take, c)) {
    case TLS_FAILED:
        if (!tls_established(c->tls)) log_event(LOG_INFO, "server", "a TLS handshake failed", NULL);
        conn_doom(c);
        break;
    case TLS_ENDED: on_end(c); break;
    case TLS_OPEN:
        if (!c->closing && c->wait == WAIT_HEAD && !c->req && tls_established(c->tls)) wait_for(c, WAIT_IDLE);
        break;
    }
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b) {
    conn *c = h->data;
    if (c->closing || c->doomed || n == 0) return;
    if (n == UV_EOF)
        on_end(c);
    else if (n < 0)
        conn_drop(c);
    else if (c->wait != WAIT_LINGER && c->tls)
        read_tls(c, b->base, (size_t)n);
    else if (c->wait != WAIT_LINGER)
        take(c, b->base, (size_t)n);
}

static void never_mind(uv_handle_t *h) { mem_free(h->data); }

_Static_assert(sizeof(conn) <= 1024, "what an idle connection holds");

void conn_accept(server *s) {
    conn *c = mem_zalloc(sizeof *c);
    s->accept_owed = !c || uv_tcp_init(&s->loop, &c->tcp);
    if (s->accept_owed) { /* libuv accepts no other until this one is taken: at the next tick */
        mem_free(c);
        return;
    }
    c->tcp.data = c;
    c->srv = s;
    bool ok = uv_accept((uv_stream_t *)&s->listener, (uv_stream_t *)&c->tcp) == 0;
    if (ok && s->n_open >= s->n_most && s->waiting[WAIT_IDLE].first) conn_drop(s->waiting[WAIT_IDLE].first);
    if (ok && s->n_open >= s->n_most + CONN_SPARE) ok = false;
    if (ok && s->tls) ok = (c->tls = tls_session_new(s->tls, send_raw, c)) != NULL;
    if (!ok || uv_read_start((uv_stream_t *)&c->tcp, give_buffer, on_read)) {
        tls_session_free(c->tls);
        uv_close((uv_handle_t *)&c->tcp, never_mind);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    uv_tcp_keepalive(&c->tcp, 1, CONN_KEEPALIVE_SECONDS);
    s->app.connections = ++s->n_open;
    if (s->n_open > s->app.connections_most) s->app.connections_most = s->n_open;
    list_append(&s->waiting[WAIT_IDLE], c);
    wait_for(c, WAIT_IDLE);
}

/* --- limits of time --------------------------------------------------------------------------------------------------- */
static void too_slow(conn *c, const char *why) {
    if (c->req && !c->req->running && !c->out)
        refuse(c, 408, why);
    else
        conn_drop(c); /* a TLS handshake */
}

/* The first of a list whose time is over; NULL: none. */
static conn *overdue(const server *s, conn_wait w, int64_t now_us) {
    conn *c = s->waiting[w].first;
    return c && c->until_us <= now_us ? c : NULL;
}

static bool body_is_slow(const conn *c, int64_t now_us) {
    int64_t seconds = (now_us - c->since_us) / 1000000;
    return seconds >= CONN_BODY_GRACE_SECONDS &&
           http_parser_body_bytes(&c->req->parser) < (uint64_t)seconds * CONN_BODY_BYTES_PER_SECOND;
}

/* A reader that takes nothing, or a peer that left while we do not read from it. */
static bool is_gone(conn *c, int64_t now_us) {
    if (c->out) {
        uint64_t taken = c->out->handed - uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp);
        if (taken != c->out->taken) c->out->moved_us = now_us;
        c->out->taken = taken;
        if (now_us - c->out->moved_us > (int64_t)c->srv->app.opt->stall_seconds * 1000000) return true;
    }
    uv_os_fd_t fd;
    if (!c->paused || uv_fileno((uv_handle_t *)&c->tcp, &fd)) return false;
    struct pollfd f = {.fd = fd, .events = POLLRDHUP};
    return poll(&f, 1, 0) > 0;
}

void conn_tick(server *s, int64_t now_us) {
    conn *c, *next;
    if (s->accept_owed) conn_accept(s);
    while ((c = overdue(s, WAIT_HEAD, now_us))) too_slow(c, "the head took too long");
    while ((c = overdue(s, WAIT_BODY, now_us))) too_slow(c, "the body took too long");
    while ((c = overdue(s, WAIT_IDLE, now_us))) conn_drop(c);
    while ((c = overdue(s, WAIT_LINGER, now_us))) conn_drop(c);
    for (c = s->waiting[WAIT_BODY].first; c; c = next) {
        next = c->next_in_list;
        if (body_is_slow(c, now_us)) too_slow(c, "the body comes too slowly");
    }
    for (c = s->waiting[WAIT_BUSY].first; c; c = next) {
        next = c->next_in_list;
        if (is_gone(c, now_us)) conn_drop(c);
    }
}
