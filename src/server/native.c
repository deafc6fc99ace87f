/* The native routes: /generate, /generate/stream, /status/{id}, /cancel/{id}, /models. */
#include "server/asked.h"
#include "server/job.h"
#include "server/sse.h"

/* --- /generate -------------------------------------------------------------------------------------------------------- */
static asked *read_fields(exchange *x) {
    asked *q = asked_open(x);
    if (!q) return NULL;
    const bool streams = str_is(x->path, "/generate/stream");
    bool stream = streams, cache = true;
    fields *f = &q->f;
    rf_request_params *p = &q->params;
    p->max_tokens = 100;
    p->temperature = 1;
    p->top_k = 50;
    p->top_p = 0.9f;
    p->min_p = 0;
    fields_sampler(f, p, &q->lists);
    fields_integer(f, "max_tokens", 1, INT32_MAX, &p->max_tokens);
    if (fields_bool(f, "stream", &stream) && stream != streams) fields_ignore(f, "stream"); /* the route says it */
    fields_bool(f, "cache_prompt", &cache);
    p->no_cache = !cache;
    fields_timeout(f, &p->timeout_us);
    return q;
}

static void put(json_t *obj, const char *key, json_t *v) {
    json_object_set_new(obj, key, v); /* takes v where there is no obj too */
}

static void put_warnings(json_t *v, const job *j) {
    json_t *w = job_warnings(j, j->user);
    if (w) put(v, "warnings", w);
}

/* What the last word about a generation holds beside its status. */
static json_t *finished(job *j) {
    json_t *v = job_status(j);
    put(v, "usage", job_usage(j));
    put(v, "timings", job_timings(j));
    put_warnings(v, j);
    return v;
}

static void reply_whole(job *j) {
    if (j->failed)
        reply_error(j->x, &j->error, NULL);
    else
        reply_json(j->x, 200, finished(j));
}

static json_t *stream_token(const job *j, const job_event *ev) {
    return json_pack("{sI so so sb sn}", "request_id", (json_int_t)j->id, "token",
                     ev->id < 0 ? json_null() : json_integer(ev->id), "text", json_text_of(ev->text), "finished", 0,
                     "finish_reason");
}

static json_t *stream_end(job *j) {
    json_t *v = json_pack("{sI sn ss sb ss}", "request_id", (json_int_t)j->id, "token", "text", "", "finished", 1,
                          "finish_reason", job_finish_name(j, 0));
    put(v, "usage", job_usage(j));
    put(v, "timings", job_timings(j));
    put_warnings(v, j);
    return v;
}

static json_t *stream_failure(const job *j) {
    const rf_error *e = &j->error;
    return json_pack("{sI sn ss sb ss ss ss ss sb ss}", "request_id", (json_int_t)j->id, "token", "text", "",
                     "finished", 1, "finish_reason", "failed", "error", e->message, "code", e->code, "category",
                     e->category, "recoverable", (int)e->retry, "status", "error");
}

static void on_stream_event(job *j, const job_event *ev) {
    switch (ev->kind) {
    case JOB_PROMPT: job_ping(j); break;
    case JOB_TOKEN: sse_json(j->x, stream_token(j, ev)); break;
    case JOB_FINISHED: sse_json(j->x, stream_end(j)); break;
    case JOB_FAILED: sse_json(j->x, stream_failure(j)); break;
    case JOB_EMBEDDING: break;
    }
}

static void end_stream(job *j) { exchange_end(j->x); }
static void release_warnings(job *j) { json_decref(j->user); }

static job *start(asked *q, app *a, exchange *x, job_options opt) {
    opt.params = q->params;
    opt.operation = "text_completion";
    opt.released = release_warnings;
    opt.user = fields_take_warnings(&q->f);
    job *j = job_start(a, x, &opt);
    if (!j) json_decref(opt.user);
    return j;
}

static void start_whole(asked *q, app *a, exchange *x) {
    start(q, a, x, (job_options){.route = "/generate", .done = reply_whole});
}

static void start_stream(asked *q, app *a, exchange *x) {
    const job_options opt = {
        .route = "/generate/stream", .stream = true, .event = on_stream_event, .tick = job_ping, .done = end_stream};
    if (start(q, a, x, opt)) sse_open(x);
}

static void generate(app *a, exchange *x) {
    (void)a;
    asked *q = read_fields(x);
    if (!q) return;
    q->start = start_whole;
    asked_run(q);
}

static void generate_stream(app *a, exchange *x) {
    (void)a;
    asked *q = read_fields(x);
    if (!q) return;
    q->start = start_stream;
    asked_run(q);
}

/* --- /status, /cancel ------------------------------------------------------------------------------------------------- */
static job *find(app *a, exchange *x) {
    job *j = jobs_find(a->jobs, x->param);
    if (!j) reply_fail(x, 404, "request.not_found", NULL, "no request of this id is running or lately ended");
    return j;
}

static json_t *status_of(const job *j) {
    json_t *v = job_status(j);
    if (j->n_ended == j->n) put(v, "usage", job_usage(j));
    if (j->failed) put(v, "error", json_string(j->error.message));
    return v;
}

static void status_route(app *a, exchange *x) {
    const job *j = find(a, x);
    if (j) reply_json(x, 200, status_of(j));
}

/* Seen before the engine's next step; the partial text is what came so far. One that ended already stays as it ended. */
static void cancel_route(app *a, exchange *x) {
    job *j = find(a, x);
    if (!j) return;
    job_cancel(j);
    reply_json(x, 200, status_of(j));
}

/* --- /models ---------------------------------------------------------------------------------------------------------- */
static void copy_key(json_t *to, const char *name, const json_t *from, const char *key) {
    json_t *v = json_object_get(from, key);
    if (v) json_object_set(to, name, v);
}

/* The older names of the figures, then the file's own keys. */
static json_t *metadata(const json_t *inspect) {
    static const char *const names[][2] = {
        {"architecture", "architecture"}, {"num_layers", "n_layer"},    {"num_heads", "n_head"},
        {"hidden_size", "n_embd"},        {"head_dim", "head_dim"},     {"max_position_embeddings", "context_train"},
        {"file_type", "file_type"},       {"num_kv_heads", "n_head_kv"}};
    const json_t *model = json_object_get(inspect, "model"), *text = json_object_get(inspect, "tokenizer");
    json_t *v = json_object();
    for (size_t i = 0; v && i < sizeof names / sizeof *names; i++) copy_key(v, names[i][0], model, names[i][1]);
    copy_key(v, "vocab_size", text, "n_vocab");
    put(v, "has_tokenizer", json_boolean(text != NULL));
    json_object_update_missing(v, json_object_get(inspect, "metadata"));
    return v;
}

static json_t *model_entry(const app *a, const json_t *inspect) {
    return json_pack("{so so ss sO so s{sb sb}}", "name", json_text_of(str_of(a->model_name)), "path",
                     json_text_of(str_of(a->opt->model_path)), "tokenizer", "embedded", "size",
                     json_object_get(inspect, "file_bytes"), "metadata", metadata(inspect), "cache_status", "cached", 1,
                     "refreshed", 0);
}

static void models_route(app *a, exchange *x) {
    rf_error e;
    char *text = rf_model_inspect(a->model, RF_INSPECT_METADATA, &e);
    if (!text) {
        reply_error(x, &e, NULL);
        return;
    }
    json_t *inspect = json_loads(text, 0, NULL);
    rf_free(text);
    json_t *entry = inspect ? model_entry(a, inspect) : NULL;
    json_decref(inspect);
    reply_json(
        x, 200,
        entry ? json_pack("{s[o] s{si si si}}", "models", entry, "tokenizer_cache", "hits", 0, "misses", 0, "bytes", 0)
              : NULL);
}

const route native_routes[] = {
    {.method = "POST", .path = "/generate", .run = generate, .generates = true, .text = true},
    {.method = "POST", .path = "/generate/stream", .run = generate_stream, .generates = true, .text = true},
    {.method = "GET", .path = "/status/{id}", .run = status_route},
    {.method = "POST", .path = "/cancel/{id}", .run = cancel_route},
    {.method = "GET", .path = "/models", .run = models_route},
    {.path = NULL}};
