#include "server/embed.h"

#include "base/mem.h"
#include "server/job.h"
#include "server/openai.h"
#include "server/prepare.h"
#include "server/vector.h"

#include <stdio.h>
#include <string.h>

enum { MOST_AT_ONCE = 64 };

struct embed_work {
    job_prompt *prompts;
    uint32_t n_rows; /* that came */
    bool failed;     /* no memory for them, or they differ in length */
    rf_error error;  /* of the tokenizer; code empty: none */
    uint32_t at;     /* which input it speaks of */
    strbuf reply;
};

static void drop(embed *c) {
    if (!c) return;
    fields_close(&c->f);
    openai_inputs_free(c->in, c->n_in);
    json_decref(c->warnings);
    mem_free(c->rows);
    if (c->work) {
        mem_free(c->work->prompts);
        strbuf_free(&c->work->reply);
    }
    mem_free(c->work);
    mem_free(c);
}

embed *embed_open(app *a, exchange *x) {
    embed *c = mem_zalloc(sizeof *c);
    if (c) c->work = mem_zalloc(sizeof *c->work);
    if (!c || !c->work) {
        mem_free(c);
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return NULL;
    }
    c->app = a;
    c->work->error = (rf_error){.code = "internal.bug", .http = 500}; /* until the tokenizer says otherwise */
    if (fields_open(&c->f, x) && openai_check_model(&c->f)) return c;
    drop(c);
    return NULL;
}

/* --- the reply -------------------------------------------------------------------------------------------------------- */

void embed_put_usage(embed *c, json_t *reply) {
    json_object_set_new(reply, "usage",
                        json_pack("{sI sI sI sI}", "prompt_tokens", (json_int_t)c->n_tokens, "completion_tokens",
                                  (json_int_t)0, "total_tokens", (json_int_t)c->n_tokens, "cached_tokens",
                                  (json_int_t)0));
    openai_put_warnings(reply, c->warnings);
    c->warnings = NULL;
}

/* The first row says how long they are. */
static void keep_row(embed *c, const job_event *ev) {
    if (!c->rows) {
        c->d_row = ev->n_embd;
        c->rows = mem_array((size_t)c->n_in * c->d_row, sizeof *c->rows);
    }
    if (!c->rows || ev->n_embd != c->d_row) {
        c->work->failed = true;
        return;
    }
    memcpy(c->rows + (size_t)ev->choice * c->d_row, ev->row, c->d_row * sizeof *c->rows);
    c->work->n_rows++;
}

static void on_event(job *j, const job_event *ev) {
    if (ev->kind == JOB_EMBEDDING) keep_row(j->user, ev);
    if (ev->kind == JOB_FAILED) job_cancel(j); /* no list with holes */
}

/* A million numbers take seconds to write: on another thread where there are many. */
static void write_reply(void *user) {
    embed *c = user;
    json_t *v = c->reply(c);
    if (v && json_write(v, &c->work->reply, NULL)) strbuf_free(&c->work->reply);
    json_decref(v);
}

static void send_reply(void *user, exchange *x) {
    embed *c = user;
    const strbuf *b = &c->work->reply;
    if (x && b->n)
        exchange_reply(x, 200, "application/json; charset=utf-8", b->p, b->n);
    else if (x)
        reply_json(x, 200, NULL);
    drop(c);
}

static void on_done(job *j) {
    static const rf_error cancelled = {"request.cancelled", "User", 400, false, "the request was cancelled"};
    embed *c = j->user;
    if (j->failed || j->cancelled) {
        reply_error(j->x, j->failed ? &j->error : &cancelled, NULL);
    } else if (c->work->failed) {
        reply_fail(j->x, 503, "memory.exhausted", NULL, "no memory for %u vectors", c->n_in);
    } else if (c->work->n_rows != c->n_in) {
        reply_fail(j->x, 500, "internal.bug", NULL, "the engine gave %u of %u vectors", c->work->n_rows, c->n_in);
    } else {
        j->user = NULL; /* the reply's now */
        prepare_run(j->x, (size_t)c->n_in * c->d_row * sizeof(float), write_reply, send_reply, c);
    }
}

static void on_released(job *j) { drop(j->user); }

/* --- the way there ---------------------------------------------------------------------------------------------------- */

static bool tokenize_one(const embed *c, openai_input *in, rf_error *e) {
    const rf_model *m = c->app->model;
    const size_t most = rf_engine_context(c->app->engine);
    if (!c->query.p) {
        if (!openai_input_tokenize(in, m, false, e)) return false;
    } else if (!rf_tokenize_pair(m, c->query.p, c->query.n, in->text, in->n_text, &in->ids, &in->n_ids, e)) {
        return false;
    }
    if (in->n_ids <= most || !c->truncate) return true;
    if (in->text) return vector_truncate(m, (str){in->text, in->n_text}, c->query.p, in->ids, &in->n_ids, most, e);
    in->n_ids = most; /* of ids nobody knows which end them */
    return true;
}

/* May run on another thread: touches nothing but c and the model. */
static void prepare(void *user) {
    embed *c = user;
    for (uint32_t i = 0; i < c->n_in; i++) {
        c->work->at = i;
        if (!tokenize_one(c, &c->in[i], &c->work->error)) return;
    }
    c->work->error.code[0] = 0;
}

static bool start(embed *c, exchange *x) {
    struct embed_work *w = c->work;
    w->prompts = mem_array(c->n_in, sizeof *w->prompts);
    if (!w->prompts) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for %u vectors", c->n_in);
        return false;
    }
    for (uint32_t i = 0; i < c->n_in; i++) {
        w->prompts[i] = (job_prompt){c->in[i].ids, c->in[i].n_ids};
        c->n_tokens += c->in[i].n_ids;
    }
    job_options o = {.params = rf_request_defaults(),
                     .prompts = w->prompts,
                     .n_prompts = c->n_in,
                     .n = 1,
                     .window = MOST_AT_ONCE,
                     .operation = "embeddings",
                     .route = c->route,
                     .prompt_field = c->field,
                     .event = on_event,
                     .done = on_done,
                     .released = on_released,
                     .user = c};
    o.params.embedding = true;
    o.params.pooling = c->pooling;
    o.params.max_tokens = 0;
    return job_start(c->app, x, &o) != NULL;
}

/* A vector needs no room for an answer: the whole context may be filled. */
static bool fits(const embed *c, exchange *x) {
    const uint32_t most = rf_engine_context(c->app->engine);
    for (uint32_t i = 0; i < c->n_in; i++) {
        if (c->in[i].n_ids <= most) continue;
        reply_fail(x, 400, "context_length_exceeded", c->field,
                   "element %u of %s has %zu tokens, the context %u; \"truncate\": true cuts it", i, c->field,
                   c->in[i].n_ids, most);
        return false;
    }
    return true;
}

static void prepared(void *user, exchange *x) {
    embed *c = user;
    const rf_error *e = &c->work->error;
    bool ok = x && !e->code[0];
    if (x && !ok) reply_error(x, e, c->field);
    ok = ok && fits(c, x);
    if (ok) c->warnings = fields_take_warnings(&c->f);
    if (!ok || !start(c, x)) drop(c);
}

void embed_run(embed *c) {
    fields *f = &c->f;
    fields_bool(f, "truncate", &c->truncate);
    for (uint32_t i = 0; i < c->n_in && !f->failed; i++)
        if (!c->query.p && c->in[i].text && !c->in[i].n_text) fields_bad(f, c->field, ": element %u is empty", i);
    openai_ignored_fields(f);
    if (fields_finish(f))
        prepare_run(f->x, openai_inputs_bytes(c->in, c->n_in) + c->query.n * c->n_in, prepare, prepared, c);
    else
        drop(c);
}
