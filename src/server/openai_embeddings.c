/* POST /v1/embeddings: texts or ids to vectors of length 1, the mean of the model's last hidden states. */
#include "base/mem.h"
#include "server/job.h"
#include "server/openai.h"
#include "server/openai_input.h"
#include "server/prepare.h"

#include <math.h>
#include <string.h>

enum { MOST_INPUTS = 2048, MOST_AT_ONCE = 64 };

typedef struct {
    app *app;
    fields f;
    bool fields_open, base64;
    openai_input *in;
    uint32_t n_in, n_embd, n_rows; /* n_rows: that came */
    float *rows;                   /* [n_in, n_embd] */
    uint64_t n_tokens;
    job_prompt *prompts;
    json_t *warnings;
    rf_error error; /* of prepare; code empty: none */
    strbuf reply;
} call;

static void drop(call *c) {
    if (!c) return;
    if (c->fields_open) fields_close(&c->f);
    openai_inputs_free(c->in, c->n_in);
    json_decref(c->warnings);
    mem_free(c->rows);
    mem_free(c->prompts);
    strbuf_free(&c->reply);
    mem_free(c);
}

/* --- the reply -------------------------------------------------------------------------------------------------------- */

static void keep_row(call *c, const job_event *ev) {
    if (ev->n_embd != c->n_embd) return;
    c->n_rows++;
    float *row = c->rows + (size_t)ev->choice * c->n_embd;
    double sum = 0;
    for (uint32_t i = 0; i < c->n_embd; i++) sum += (double)ev->row[i] * (double)ev->row[i];
    const double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t i = 0; i < c->n_embd; i++) row[i] = (float)((double)ev->row[i] * scale);
}

/* RFC 4648, of little-endian float32. */
static json_t *base64_of(const float *row, size_t n_embd) {
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "floats are sent as they lie");
    const size_t n = n_embd * sizeof *row;
    const unsigned char *p = (const unsigned char *)row;
    char *out = mem_alloc((n + 2) / 3 * 4), *at = out;
    if (!out) return NULL;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const unsigned v = p[i] * 65536u + (left > 1 ? p[i + 1] * 256u : 0) + (left > 2 ? p[i + 2] : 0);
        *at++ = digit[v >> 18];
        *at++ = digit[v >> 12 & 63];
        *at++ = left > 1 ? digit[v >> 6 & 63] : '=';
        *at++ = left > 2 ? digit[v & 63] : '=';
    }
    json_t *v = json_text(out, (size_t)(at - out));
    mem_free(out);
    return v;
}

static json_t *floats_of(const float *row, size_t n_embd) {
    json_t *v = json_array();
    for (size_t i = 0; v && i < n_embd; i++)
        if (json_array_append_new(v, json_real((double)row[i]))) {
            json_decref(v);
            return NULL;
        }
    return v;
}

static json_t *reply_of(call *c) {
    json_t *data = json_array();
    bool ok = data != NULL;
    for (uint32_t i = 0; ok && i < c->n_in; i++) {
        const float *row = c->rows + (size_t)i * c->n_embd;
        json_t *v = c->base64 ? base64_of(row, c->n_embd) : floats_of(row, c->n_embd);
        ok = !json_array_append_new(data,
                                    json_pack("{ss si so}", "object", "embedding", "index", (int)i, "embedding", v));
    }
    if (!ok) {
        json_decref(data);
        return NULL;
    }
    json_t *v = json_pack("{ss so ss s{sI sI sI sI}}", "object", "list", "data", data, "model", c->app->model_name,
                          "usage", "prompt_tokens", (json_int_t)c->n_tokens, "completion_tokens", (json_int_t)0,
                          "total_tokens", (json_int_t)c->n_tokens, "cached_tokens", (json_int_t)0);
    openai_put_warnings(v, c->warnings);
    c->warnings = NULL;
    return v;
}

static void on_event(job *j, const job_event *ev) {
    if (ev->kind == JOB_EMBEDDING) keep_row(j->user, ev);
    if (ev->kind == JOB_FAILED) job_cancel(j); /* no list with holes */
}

/* A million numbers take seconds to write: on another thread where there are many. */
static void write_reply(void *user) {
    call *c = user;
    json_t *v = reply_of(c);
    if (v && json_write(v, &c->reply, NULL)) strbuf_free(&c->reply);
    json_decref(v);
}

static void send_reply(void *user, exchange *x) {
    call *c = user;
    if (x && c->reply.n)
        exchange_reply(x, 200, "application/json; charset=utf-8", c->reply.p, c->reply.n);
    else if (x)
        reply_json(x, 200, NULL);
    drop(c);
}

static void on_done(job *j) {
    static const rf_error cancelled = {"request.cancelled", "User", 400, false, "the request was cancelled"};
    call *c = j->user;
    if (j->failed || j->cancelled) {
        reply_error(j->x, j->failed ? &j->error : &cancelled, NULL);
    } else if (c->n_rows != c->n_in) {
        reply_fail(j->x, 500, "internal.bug", NULL, "the engine gave %u of %u vectors", c->n_rows, c->n_in);
    } else {
        j->user = NULL; /* the reply's now */
        prepare_run(j->x, (size_t)c->n_in * c->n_embd * sizeof(float), write_reply, send_reply, c);
    }
}

static void on_released(job *j) { drop(j->user); }

/* --- the way there ---------------------------------------------------------------------------------------------------- */

static void read_fields(call *c) {
    const char *format = "float";
    size_t n;
    int64_t dimensions = c->n_embd;
    fields *f = &c->f;
    openai_inputs_read(f, "input", MOST_INPUTS, &c->in, &c->n_in);
    fields_string(f, "encoding_format", &format, &n);
    c->base64 = !strcmp(format, "base64");
    if (!c->base64 && strcmp(format, "float")) fields_bad(f, "encoding_format", "must be float or base64");
    if (fields_integer(f, "dimensions", 1, INT32_MAX, &dimensions) && dimensions != c->n_embd)
        fields_bad(f, "dimensions", ": this model's vectors have %u numbers, fewer are not built", c->n_embd);
    for (uint32_t i = 0; i < c->n_in && !f->failed; i++)
        if (c->in[i].text && !c->in[i].n_text) fields_bad(f, "input", ": element %u is empty", i);
    openai_ignored_fields(f);
}

/* May run on another thread: touches nothing but c and the model. */
static void prepare(void *user) {
    call *c = user;
    for (uint32_t i = 0; i < c->n_in; i++)
        if (!openai_input_tokenize(&c->in[i], c->app->model, false, &c->error)) return;
    c->error.code[0] = 0;
}

static bool start(call *c, exchange *x) {
    c->prompts = mem_array(c->n_in, sizeof *c->prompts);
    c->rows = mem_array((size_t)c->n_in * c->n_embd, sizeof *c->rows);
    if (!c->prompts || !c->rows) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for %u vectors", c->n_in);
        return false;
    }
    for (uint32_t i = 0; i < c->n_in; i++) {
        c->prompts[i] = (job_prompt){c->in[i].ids, c->in[i].n_ids};
        c->n_tokens += c->in[i].n_ids;
    }
    job_options o = {.params = rf_request_defaults(),
                     .prompts = c->prompts,
                     .n_prompts = c->n_in,
                     .n = 1,
                     .window = MOST_AT_ONCE,
                     .operation = "embeddings",
                     .route = "/v1/embeddings",
                     .prompt_field = "input",
                     .event = on_event,
                     .done = on_done,
                     .released = on_released,
                     .user = c};
    o.params.embedding = true;
    o.params.max_tokens = 0;
    return job_start(c->app, x, &o) != NULL;
}

/* A vector needs no room for an answer: the whole context may be filled. */
static bool fits(const call *c, exchange *x) {
    const uint32_t most = rf_engine_context(c->app->engine);
    for (uint32_t i = 0; i < c->n_in; i++) {
        if (c->in[i].n_ids <= most) continue;
        reply_fail(x, 400, "context_length_exceeded", "input", "element %u of input has %zu tokens, the context %u", i,
                   c->in[i].n_ids, most);
        return false;
    }
    return true;
}

static void prepared(void *user, exchange *x) {
    call *c = user;
    bool ok = x && !c->error.code[0];
    if (x && !ok) reply_error(x, &c->error, "input");
    ok = ok && fits(c, x);
    if (ok) c->warnings = fields_take_warnings(&c->f);
    if (!ok || !start(c, x)) {
        drop(c);
        return;
    }
    fields_close(&c->f); /* the ids are what is needed from here on */
    c->fields_open = false;
}

void openai_embeddings(app *a, exchange *x) {
    call *c = mem_zalloc(sizeof *c);
    if (!c) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return;
    }
    *c = (call){.app = a, .n_embd = rf_model_n_embd(a->model), .error = {.code = "internal.bug", .http = 500}};
    c->fields_open = fields_open(&c->f, x) && openai_check_model(&c->f);
    if (c->fields_open) {
        read_fields(c);
        c->fields_open = fields_finish(&c->f);
    }
    if (c->fields_open)
        prepare_run(x, openai_inputs_bytes(c->in, c->n_in), prepare, prepared, c);
    else
        drop(c);
}
