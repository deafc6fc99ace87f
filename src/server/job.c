/* One generation: from the exchange to the engine, and the engine's events back to the exchange. */
#include "server/job_own.h"

#include "server/request_log.h"
#include "server/sse.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { RING_BYTES = 32 * 1024 };

/* --- the engine's thread ---------------------------------------------------------------------------------------------- */
typedef struct {
    uint32_t kind, choice; /* of job_event */
    int32_t id;
    float logprob;
    uint32_t n_top, n_text, n_embd; /* what follows: alternatives, floats, text; or an rf_event or rf_error */
    uint32_t prompt_done, prompt_total;
    int64_t at_us;
} packed;

enum { LAST_BYTES = sizeof(packed) + (sizeof(rf_event) > sizeof(rf_error) ? sizeof(rf_event) : sizeof(rf_error)) };

/* Once the loop has the last record the job may be gone, ring and all: what is needed behind it is read before. */
static void put(job_choice *c, packed *p, ring_part a, ring_part b) {
    jobs *all = c->job->all;
    p->choice = c->index;
    p->at_us = clock_us();
    const ring_part part[3] = {{p, sizeof *p}, a, b};
    if (p->kind == JOB_FINISHED || p->kind == JOB_FAILED) {
        ring_put_last(c->job->ring, part, 3);
    } else if (!c->lost && !ring_put(c->job->ring, part, 3)) {
        c->lost = true; /* read by the loop after the end it will see, which is put behind this */
        rf_request_cancel(c->request);
    }
    jobs_wake(all);
}

static void on_event(void *user, const rf_event *ev) {
    job_choice *c = user;
    const ring_part none = {NULL, 0};
    packed p = {.id = ev->id, .logprob = ev->logprob};
    switch (ev->kind) {
    case RF_EVENT_PROMPT:
        p.kind = JOB_PROMPT;
        p.prompt_done = ev->prompt_done;
        p.prompt_total = ev->prompt_total;
        put(c, &p, none, none);
        break;
    case RF_EVENT_TOKEN:
        p.kind = JOB_TOKEN;
        p.n_top = ev->n_top;
        p.n_text = (uint32_t)ev->n_text;
        put(c, &p, (ring_part){ev->top, ev->n_top * sizeof *ev->top}, (ring_part){ev->text, ev->n_text});
        break;
    case RF_EVENT_EMBEDDING:
        p.kind = JOB_EMBEDDING;
        p.n_embd = ev->n_embd;
        put(c, &p, (ring_part){ev->row, ev->n_embd * sizeof *ev->row}, none);
        break;
    case RF_EVENT_FINISHED:
        p.kind = JOB_FINISHED;
        put(c, &p, (ring_part){ev, sizeof *ev}, none);
        break;
    case RF_EVENT_FAILED:
        p.kind = JOB_FAILED;
        put(c, &p, (ring_part){ev->error, sizeof *ev->error}, none);
        break;
    case RF_EVENT_LOGITS: break; /* never asked for */
    }
}

/* --- the loop's thread: from here on ---------------------------------------------------------------------------------- */
static job_own *own(const job *j) { return (job_own *)(uintptr_t)j; }

void job_free(job_own *o) {
    if (!o) return;
    for (uint32_t i = 0; o->choice && i < o->j.n; i++) {
        rf_request_free(o->choice[i].request);
        strbuf_free(&o->choice[i].text);
        mem_free(o->choice[i].tokens);
    }
    ring_free(o->ring);
    mem_free(o->choice);
    mem_free(o->j.end);
    mem_free(o);
}

static uint64_t unix_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note_exchange(job_own *o, const exchange *x) {
    o->received_us = x->received_us;
    o->received_unix_ns = unix_ns() - (uint64_t)(clock_us() - x->received_us) * 1000u;
    snprintf(o->request_id, sizeof o->request_id, "%s", x->request_id);
    const str trace = exchange_header(x, "traceparent");
    if (trace.n && trace.n < sizeof o->traceparent) memcpy(o->traceparent, trace.p, trace.n);
}

static job_own *job_new(app *a, exchange *x, const job_options *opt) {
    job_own *o = mem_zalloc(sizeof *o);
    if (!o) return NULL;
    const uint32_t n = (opt->n ? opt->n : 1) * (opt->prompts ? opt->n_prompts : 1);
    o->all = a->jobs;
    o->opt = *opt;
    o->j = (job){.app = a, .x = x, .user = opt->user, .n = n, .started_us = clock_us(), .seed = opt->params.seed};
    o->j.request_id = o->request_id;
    o->j.end = mem_array(n, sizeof *o->j.end);
    o->choice = mem_array(n, sizeof *o->choice);
    o->ring = ring_new(RING_BYTES, n, LAST_BYTES);
    if (!o->j.end || !o->choice || !o->ring) {
        job_free(o);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) o->choice[i] = (job_choice){.job = o, .index = i};
    note_exchange(o, x);
    return o;
}

/* The server's own limit on time holds whatever a client asks for. */
static bool start_choice(job_own *o, uint32_t i, rf_error *e) {
    rf_request_params p = o->opt.params;
    const uint32_t n = o->opt.n ? o->opt.n : 1;
    const int64_t limit = o->j.app->opt->timeout_us;
    if (limit > 0 && (p.timeout_us <= 0 || p.timeout_us > limit)) p.timeout_us = limit;
    if (o->opt.prompts) {
        p.tokens = o->opt.prompts[i / n].ids;
        p.n_tokens = o->opt.prompts[i / n].n;
    }
    p.seed += i % n;
    return rf_request_start(&o->choice[i].request, o->j.app->engine, &p, on_event, &o->choice[i], e);
}

static bool start_choices(job_own *o, rf_error *e) {
    const uint32_t most = o->opt.window && o->opt.window < o->j.n ? o->opt.window : o->j.n;
    for (; o->n_started < most; o->n_started++)
        if (!start_choice(o, o->n_started, e)) return o->opt.window && o->n_started;
    return true;
}

/* Those that never started end here. */
static void skip_rest(job_own *o) {
    for (; o->n_started < o->j.n; o->n_started++) {
        o->choice[o->n_started].ended = true;
        o->j.n_ended++;
    }
}

static void cancel_choices(job_own *o) {
    skip_rest(o);
    for (uint32_t i = 0; i < o->j.n; i++)
        if (o->choice[i].request) rf_request_cancel(o->choice[i].request);
}

/* Those that started before one was refused end unseen, in their own time. */
static void refuse(job_own *o) {
    o->j.x = NULL;
    if (!o->n_started) {
        jobs_drop(o->all, o);
        return;
    }
    o->refused = true;
    cancel_choices(o);
}

static const char *refused_field(const job_options *opt, const rf_error *e) {
    static const char *const codes[] = {"request.context_length", "request.empty", "request.token"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(e->code, codes[i]) == 0) return opt->prompt_field ? opt->prompt_field : "prompt";
    return NULL;
}

static void on_exchange_closed(exchange *x) {
    job *j = x->user;
    j->x = NULL;
    job_cancel(j);
}

job *job_start(app *a, exchange *x, const job_options *opt) {
    if (a->draining) {
        reply_fail(x, 503, "server.draining", NULL, "the server is shutting down");
        return NULL;
    }
    job_own *o = job_new(a, x, opt);
    if (!o) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return NULL;
    }
    jobs_add(a->jobs, o);
    rf_error e;
    if (!start_choices(o, &e)) {
        const char *field = refused_field(opt, &e);
        refuse(o);
        reply_error(x, &e, field);
        return NULL;
    }
    x->user = &o->j;
    x->closed = on_exchange_closed;
    metrics_started(a->metrics);
    log_prompt(o->request_id, a->model, opt->params.tokens, opt->params.n_tokens);
    return &o->j;
}

void job_cancel(job *j) {
    if (j->n_ended == j->n) return;
    j->cancelled = true;
    cancel_choices(own(j));
}

void job_ping(job *j) {
    job_own *o = own(j);
    const int64_t now = clock_us();
    if (!j->x || now - o->pinged_us < 1000000) return;
    o->pinged_us = now;
    sse_ping(j->x);
}

/* --- events ----------------------------------------------------------------------------------------------------------- */
static void keep_token(job_choice *c, const packed *p, str text) {
    strbuf_add(&c->text, text.p, text.n);
    if (p->id < 0) return;
    c->n_predicted++;
    if (c->n_tokens == c->cap_tokens) {
        const size_t cap = c->cap_tokens ? 2 * c->cap_tokens : 64;
        int32_t *more = mem_resize(c->tokens, cap * sizeof *more);
        if (!more) return; /* /status knows fewer; the reply has them all */
        c->tokens = more;
        c->cap_tokens = cap;
    }
    c->tokens[c->n_tokens++] = p->id;
}

static void time_token(job_own *o, job_choice *c, int64_t at_us) {
    metrics *m = o->j.app->metrics;
    if (!o->j.first_us) {
        o->j.first_us = at_us;
        metrics_first_token(m, at_us - o->received_us);
    }
    if (c->last_us) metrics_next_token(m, at_us - c->last_us);
    c->last_us = at_us;
}

static void end_failed(job_own *o, job_choice *c, const rf_error *e) {
    if (!o->j.failed) o->j.error = *e;
    o->j.failed = c->failed = true;
}

static const rf_error stopped = {"server.draining", "Recoverable", 503, true, "the server ended before the answer did"};
static const rf_error out_of_memory = {"memory.exhausted", "Backend", 503, true, "no memory to hold the answer"};

/* What came out of the ring, as the dialects see it; the figures are brought up to date. */
static job_event unpack(job_own *o, const packed *p) {
    job_choice *c = &o->choice[p->choice];
    const void *more = p + 1;
    job_event ev = {.kind = p->kind, .choice = p->choice, .id = p->id, .logprob = p->logprob};
    switch (ev.kind) {
    case JOB_PROMPT:
        c->prompt_done = ev.prompt_done = p->prompt_done;
        c->prompt_total = ev.prompt_total = p->prompt_total;
        break;
    case JOB_TOKEN:
        ev.top = more;
        ev.n_top = p->n_top;
        ev.text = (str){(const char *)(ev.top + p->n_top), p->n_text};
        keep_token(c, p, ev.text);
        if (p->id >= 0) time_token(o, c, p->at_us);
        break;
    case JOB_EMBEDDING:
        ev.row = more;
        ev.n_embd = p->n_embd;
        break;
    case JOB_FINISHED:
        ev.end = &o->j.end[p->choice];
        memcpy(&o->j.end[p->choice], more, sizeof *ev.end);
        break;
    case JOB_FAILED: ev.error = more; break;
    }
    const bool cut = ev.kind == JOB_FINISHED && o->stopped && ev.end->finish == RF_FINISH_CANCELLED;
    if (cut || (ev.kind == JOB_FINISHED && c->lost)) {
        ev.kind = JOB_FAILED;
        ev.error = cut ? &stopped : &out_of_memory;
    }
    return ev;
}

static void end_choice(job_own *o, job_choice *c, const job_event *ev) {
    if (ev->kind == JOB_FAILED) end_failed(o, c, ev->error);
    c->ended = true;
    o->j.n_ended++;
    jobs_retire_request(o->all, c->request);
    c->request = NULL;
}

/* In the place of one that ended. A full queue is waited for while others of this job run: their end tries again. */
static void start_next(job_own *o) {
    rf_error e;
    if (o->n_started == o->j.n) return;
    if (start_choice(o, o->n_started, &e)) {
        o->n_started++;
    } else if (o->j.n_ended == o->n_started || !e.retry) {
        end_failed(o, &o->choice[o->n_started], &e);
        cancel_choices(o);
    }
}

static void end_job(job_own *o);

static void deliver_one(job_own *o, const packed *p) {
    const job_event ev = unpack(o, p);
    const bool ended = ev.kind == JOB_FINISHED || ev.kind == JOB_FAILED;
    if (ended) end_choice(o, &o->choice[p->choice], &ev);
    if (o->j.x && o->opt.event) o->opt.event(&o->j, &ev);
    if (ended) start_next(o);
}

void job_deliver(job_own *o) {
    const void *p;
    size_t n;
    while (o->j.n_ended < o->j.n && (p = ring_next(o->ring, &n))) deliver_one(o, p);
    if (o->j.n_ended == o->j.n) end_job(o);
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */
static request_record make_record(const job_own *o, int http) {
    const job *j = &o->j;
    const rf_request_params *p = &o->opt.params;
    const rf_event *end = &j->end[0];
    request_record r = {.request_id = o->request_id,
                        .route = o->opt.route,
                        .operation = o->opt.operation,
                        .id = j->id,
                        .model = j->app->model_name,
                        .response_id = j->response_id[0] ? j->response_id : NULL,
                        .traceparent = o->traceparent[0] ? o->traceparent : NULL,
                        .received_unix_ns = o->received_unix_ns,
                        .queue_us = end->queue_us,
                        .prompt_us = end->prompt_us,
                        .decode_us = end->predicted_us,
                        .ttft_us = j->first_us ? j->first_us - o->received_us : 0,
                        .total_us = o->ended_us - o->received_us,
                        .n_choices = j->n,
                        .waited_for = end->waited_for,
                        .error = j->failed ? &j->error : NULL,
                        .http = http,
                        .max_tokens = p->max_tokens,
                        .temperature = (double)p->temperature,
                        .top_p = (double)p->top_p,
                        .frequency_penalty = (double)p->frequency_penalty,
                        .presence_penalty = (double)p->presence_penalty,
                        .top_k = p->top_k,
                        .seed = p->seed,
                        .stream = o->opt.stream};
    const char *finish = job_finish_name(j, 0);
    r.finish = finish && strcmp(finish, "eos") == 0 ? "stop" : finish;
    for (uint32_t i = 0; i < j->n; i++) {
        r.n_predicted += o->choice[i].n_predicted;
        r.n_preempted += j->end[i].n_preempted;
        if (i % (o->opt.n ? o->opt.n : 1)) continue; /* choices share their prompt */
        r.n_prompt += j->end[i].n_prompt;
        r.n_cached += j->end[i].n_cached;
    }
    return r;
}

static void drop_all_but_first(job_own *o) {
    for (uint32_t i = 1; i < o->j.n; i++) {
        strbuf_free(&o->choice[i].text);
        mem_free(o->choice[i].tokens);
        o->choice[i].tokens = NULL;
        o->choice[i].n_tokens = o->choice[i].cap_tokens = 0;
    }
    ring_free(o->ring);
    o->ring = NULL;
}

/* http: what the client saw. 0: it left before a status was sent. */
static void end_job(job_own *o) {
    job *j = &o->j;
    app *a = j->app;
    const bool there = j->x != NULL;
    if (o->refused) {
        jobs_drop(o->all, o);
        return;
    }
    o->ended_us = clock_us();
    if (there && o->opt.done) o->opt.done(j);
    j->x = NULL;
    if (o->opt.released) o->opt.released(j);
    j->user = NULL;
    const request_record r = make_record(o, o->opt.stream ? 200 : !there ? 0 : j->failed ? j->error.http : 200);
    metrics_ended(a->metrics, &r);
    traces_add(a->traces, &r);
    log_request(&r);
    for (uint32_t i = 0; i < j->n; i++) log_answer(o->request_id, i, job_text(j, i));
    drop_all_but_first(o);
    jobs_ended(o->all, o);
}

/* --- what others ask -------------------------------------------------------------------------------------------------- */
str job_text(const job *j, uint32_t choice) {
    const strbuf *b = &own(j)->choice[choice].text;
    return (str){b->p ? b->p : "", b->n};
}

const int32_t *job_tokens(const job *j, uint32_t choice, size_t *n) {
    *n = own(j)->choice[choice].n_tokens;
    return own(j)->choice[choice].tokens;
}

const char *job_finish_name(const job *j, uint32_t choice) {
    const job_choice *c = &own(j)->choice[choice];
    const rf_event *end = &j->end[choice];
    if (!c->ended) return j->cancelled ? "cancelled" : NULL;
    if (c->failed) return "failed";
    switch (end->finish) {
    case RF_FINISH_STOP: return end->stop >= 0 ? "stop" : "eos";
    case RF_FINISH_LENGTH: return "length";
    case RF_FINISH_CANCELLED: return "cancelled";
    }
    return "failed";
}

json_t *job_tokens_json(const job *j, uint32_t choice) {
    size_t n;
    const int32_t *id = job_tokens(j, choice, &n);
    json_t *all = json_array();
    for (size_t i = 0; all && i < n; i++)
        if (json_array_append_new(all, json_integer(id[i]))) {
            json_decref(all);
            all = NULL;
        }
    return all;
}

json_t *job_status(const job *j) {
    const char *finish = job_finish_name(j, 0);
    const str text = job_text(j, 0);
    return json_pack("{sI so so sb ss?}", "request_id", (json_int_t)j->id, "text", json_text(text.p, text.n), "tokens",
                     job_tokens_json(j, 0), "finished", finish != NULL, "finish_reason", finish);
}

json_t *job_usage(const job *j) {
    const rf_event *end = &j->end[0];
    uint32_t n_predicted = 0;
    for (uint32_t i = 0; i < j->n; i++) n_predicted += own(j)->choice[i].n_predicted;
    const uint32_t n_prompt = own(j)->choice[0].ended ? end->n_prompt : own(j)->choice[0].prompt_total;
    return json_pack("{sI sI sI sI s{sI}}", "prompt_tokens", (json_int_t)n_prompt, "completion_tokens",
                     (json_int_t)n_predicted, "total_tokens", (json_int_t)n_prompt + n_predicted, "cached_tokens",
                     (json_int_t)end->n_cached, "prompt_tokens_details", "cached_tokens", (json_int_t)end->n_cached);
}

static void warn_host_drawn(json_t **all, const job *j) {
    uint64_t n = 0;
    const char *why = NULL;
    for (uint32_t i = 0; i < j->n; i++) {
        n += j->end[i].n_host_drawn;
        if (j->end[i].host_drawn_why) why = j->end[i].host_drawn_why;
    }
    if (!why) return;
    json_t *text = json_sprintf("sampler.host: %llu token%s drawn on the CPU: %s", (unsigned long long)n,
                                n == 1 ? " was" : "s were", why);
    if (!*all) *all = json_array();
    if (*all && text) json_array_append(*all, text); /* without memory: one word less */
    json_decref(text);
}

json_t *job_warnings(const job *j, const json_t *own_ones) {
    char *text = rf_engine_warnings(j->app->engine);
    json_t *all = json_array_size(own_ones) ? json_copy((json_t *)(uintptr_t)own_ones) : NULL;
    json_t *engine = text ? json_loads(text, 0, NULL) : NULL;
    if (engine && !all) all = json_array();
    if (engine && all) json_array_extend(all, engine);
    json_decref(engine);
    rf_free(text);
    warn_host_drawn(&all, j);
    return all;
}

static double per(double n, double of) { return of > 0 ? n / of : 0; }

/* Rates as the engine measures them: the first token belongs to the prompt, so n_predicted - 1 steps were timed. */
json_t *job_timings(const job *j) {
    const rf_event *end = &j->end[0];
    const job_choice *c = &own(j)->choice[0];
    const bool ended = c->ended && !c->failed;
    const double prompt_n = ended ? (double)(end->n_prompt - end->n_cached) : (double)c->prompt_done;
    const double prompt_ms = (double)(ended ? end->prompt_us : j->first_us ? j->first_us - j->started_us : 0) / 1000.0;
    const double n = ended ? end->n_predicted : c->n_predicted;
    const double ms = (double)(ended ? end->predicted_us : j->first_us ? c->last_us - j->first_us : 0) / 1000.0;
    const double steps = n > 1 ? n - 1 : 0;
    return json_pack("{sI sI sf sf sf sI sf sf sf}", "cache_n", (json_int_t)(ended ? end->n_cached : 0), "prompt_n",
                     (json_int_t)prompt_n, "prompt_ms", prompt_ms, "prompt_per_token_ms", per(prompt_ms, prompt_n),
                     "prompt_per_second", per(prompt_n, prompt_ms / 1000.0), "predicted_n", (json_int_t)n,
                     "predicted_ms", ms, "predicted_per_token_ms", per(ms, steps), "predicted_per_second",
                     per(steps, ms / 1000.0));
}
