#include "server/llamacpp.h"

#include "base/mem.h"
#include "server/asked.h"
#include "server/job.h"
#include "server/openai.h"
#include "server/sse.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBS_MOST = 64, TEMPERATURE_MOST = 100 };

/* --- what is asked ---------------------------------------------------------------------------------------------------- */
/* The figure itself, not the double nearest to the float nearest to it. */
static json_t *float_json(float v) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)v);
    return json_real(strtod(text, NULL));
}

static json_t *stops_json(const rf_request_params *p) {
    json_t *all = json_array();
    for (size_t i = 0; i < p->n_stop; i++) json_array_append_new(all, json_string(p->stop[i]));
    return all;
}

static json_t *biases_json(const rf_request_params *p) {
    json_t *all = json_array();
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        const rf_logit_bias b = p->logit_bias[i];
        json_t *value = isinf(b.bias) ? json_false() : json_real((double)b.bias);
        json_array_append_new(all, json_pack("{si so}", "token", (int)b.id, "bias", value));
    }
    return all;
}

json_t *llamacpp_settings_json(const rf_request_params *p, bool stream, bool timings_per_token) {
    return json_pack("{sI so si so so si so so so so sI sI sb sb so si sb sb s[sssss] ss s[]}", "seed",
                     (json_int_t)p->seed, "temperature", float_json(p->temperature), "top_k", (int)p->top_k, "top_p",
                     float_json(p->top_p), "min_p", float_json(p->min_p), "repeat_last_n", (int)p->repeat_last_n,
                     "repeat_penalty", float_json(p->repeat_penalty), "presence_penalty",
                     float_json(p->presence_penalty), "frequency_penalty", float_json(p->frequency_penalty), "stop",
                     stops_json(p), "max_tokens", (json_int_t)p->max_tokens, "n_predict", (json_int_t)p->max_tokens,
                     "ignore_eos", (int)p->ignore_eos, "stream", (int)stream, "logit_bias", biases_json(p), "n_probs",
                     (int)p->n_top, "timings_per_token", (int)timings_per_token, "cache_prompt", !p->no_cache,
                     "samplers", "penalties", "top_k", "top_p", "min_p", "temperature", "grammar", "", "lora");
}

typedef struct {
    bool stream, return_tokens, timings_per_token, return_progress;
    uint32_t n_probs;
    json_t *settings, *prompt, *warnings;
    json_t *probs; /* of a reply in one piece */
    uint32_t n_prompt, n_cached;
} completion;

typedef enum { NEUTRAL, EMPTY, ACCEPT, IGNORE, REFUSE } rule;

/* Fields of llama.cpp without a getter of their own. NEUTRAL and EMPTY: only the value that asks for nothing. ACCEPT: nothing
 * could come of it here. IGNORE: it is said in `warnings`. */
static const struct {
    const char *name;
    rule rule;
    double neutral;
} other_fields[] = {
    {"typical_p", NEUTRAL, 1},
    {"typ_p", NEUTRAL, 1},
    {"tfs_z", NEUTRAL, 1},
    {"dynatemp_range", NEUTRAL, 0},
    {"xtc_probability", NEUTRAL, 0},
    {"mirostat", NEUTRAL, 0},
    {"dry_multiplier", NEUTRAL, 0},
    {"top_n_sigma", NEUTRAL, -1},
    {"adaptive_target", NEUTRAL, -1},
    {"min_keep", NEUTRAL, 0},
    {"n_indent", NEUTRAL, 0},
    {"n_cmpl", NEUTRAL, 1},
    {"n", NEUTRAL, 1},
    {"grammar", EMPTY, 0},
    {"grammar_lazy", EMPTY, 0},
    {"grammar_triggers", EMPTY, 0},
    {"preserved_tokens", EMPTY, 0},
    {"post_sampling_probs", EMPTY, 0},
    {"response_fields", EMPTY, 0},
    {"lora", EMPTY, 0},
    {"image_data", EMPTY, 0},
    {"json_schema", REFUSE, 0},
    {"dynatemp_exponent", ACCEPT, 0},
    {"xtc_threshold", ACCEPT, 0},
    {"mirostat_tau", ACCEPT, 0},
    {"mirostat_eta", ACCEPT, 0},
    {"dry_base", ACCEPT, 0},
    {"dry_allowed_length", ACCEPT, 0},
    {"dry_penalty_last_n", ACCEPT, 0},
    {"dry_sequence_breakers", ACCEPT, 0},
    {"adaptive_decay", ACCEPT, 0},
    {"n_keep", IGNORE, 0},
    {"n_discard", IGNORE, 0},
    {"n_cache_reuse", IGNORE, 0},
    {"samplers", IGNORE, 0},
    {"slot_id", IGNORE, 0},
    {"penalize_nl", IGNORE, 0},
    {"sse_ping_interval", IGNORE, 0},
    {"user", IGNORE, 0},
};

static void read_other(fields *f) {
    for (size_t i = 0; i < sizeof other_fields / sizeof *other_fields; i++) {
        const char *name = other_fields[i].name;
        switch (other_fields[i].rule) {
        case NEUTRAL: fields_neutral(f, name, other_fields[i].neutral); break;
        case EMPTY: fields_empty(f, name); break;
        case ACCEPT: fields_accept(f, name); break;
        case IGNORE: fields_ignore(f, name); break;
        case REFUSE: fields_refuse(f, name, "is not supported yet"); break;
        }
    }
}

/* A client that asks for any place (-1) gets that; for one of its own, a word that places belong to nobody. */
static void read_slot(fields *f) {
    int64_t slot = -1, limit_ms = 0;
    if (fields_integer(f, "id_slot", -1, INT32_MAX, &slot) && slot >= 0) fields_ignore(f, "id_slot");
    if (fields_integer(f, "t_max_predict_ms", -1, INT32_MAX, &limit_ms) && limit_ms > 0)
        fields_refuse(f, "t_max_predict_ms", "is not supported yet; `timeout` limits the whole request");
}

static void read_settings(asked *q, completion *c) {
    bool cache = true;
    int64_t n_probs = 0;
    fields *f = &q->f;
    rf_request_params *p = &q->params;
    f->temperature_most = TEMPERATURE_MOST;
    fields_sampler(f, p, &q->lists);
    fields_integer(f, "max_tokens", -1, INT32_MAX, &p->max_tokens);
    fields_integer(f, "n_predict", -1, INT32_MAX, &p->max_tokens);
    fields_integer(f, "n_probs", 0, PROBS_MOST, &n_probs);
    c->n_probs = p->n_top = (uint32_t)n_probs;
    fields_bool(f, "cache_prompt", &cache);
    p->no_cache = !cache;
    fields_bool(f, "stream", &c->stream);
    fields_bool(f, "return_tokens", &c->return_tokens);
    fields_bool(f, "timings_per_token", &c->timings_per_token);
    fields_bool(f, "return_progress", &c->return_progress);
    fields_timeout(f, &p->timeout_us);
    read_slot(f);
    read_other(f);
}

/* --- the reply -------------------------------------------------------------------------------------------------------- */
static void completion_free(void *user) {
    completion *c = user;
    json_decref(c->settings);
    json_decref(c->prompt);
    json_decref(c->warnings);
    json_decref(c->probs);
    mem_free(c);
}

static void put(json_t *obj, const char *key, json_t *v) {
    json_object_set_new(obj, key, v); /* takes v where there is no obj too */
}

static json_t *bytes_json(const char *p, size_t n) {
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(all, json_integer((unsigned char)p[i]));
    return all;
}

static json_t *logprob_json(double logprob) { return json_real(logprob < -1e30 ? -1e30 : logprob); }

static json_t *prob_json(const app *a, int32_t id, double logprob) {
    char *piece;
    size_t n;
    rf_error e;
    if (!rf_token_piece(a->model, id, &piece, &n, &e)) return NULL;
    json_t *v = json_pack("{si so so so}", "id", (int)id, "token", json_text(piece, n), "bytes", bytes_json(piece, n),
                          "logprob", logprob_json(logprob));
    rf_free(piece);
    return v;
}

static json_t *token_probs(const app *a, const job_event *ev) {
    json_t *top = json_array(), *v = prob_json(a, ev->id, (double)ev->logprob);
    for (uint32_t i = 0; i < ev->n_top; i++)
        json_array_append_new(top, prob_json(a, ev->top[i].id, (double)ev->top[i].logprob));
    put(v, "top_logprobs", top);
    return v;
}

static json_t *partial(const job *j, const job_event *ev, str text) {
    const completion *c = j->user;
    size_t n;
    job_tokens(j, 0, &n);
    json_t *v =
        json_pack("{si so s[] sb si sI sI}", "index", 0, "content", json_text_of(text), "tokens", "stop", 0, "id_slot",
                  -1, "tokens_predicted", (json_int_t)n, "tokens_evaluated", (json_int_t)c->n_prompt);
    if (ev->kind == JOB_TOKEN && ev->id >= 0) {
        json_array_append_new(json_object_get(v, "tokens"), json_integer(ev->id));
        if (c->n_probs) put(v, "completion_probabilities", json_pack("[o]", token_probs(j->app, ev)));
    }
    if (c->timings_per_token) put(v, "timings", job_timings(j));
    return v;
}

static json_t *progress(const job *j, const job_event *ev) {
    const completion *c = j->user;
    json_t *v = partial(j, ev, (str){"", 0});
    put(v, "prompt_progress",
        json_pack("{sI sI sI}", "total", (json_int_t)ev->prompt_total, "cache", (json_int_t)c->n_cached, "processed",
                  (json_int_t)ev->prompt_done));
    return v;
}

/* "eos", "limit", "word" with the stop string, or "none" for one that was cancelled. */
static void put_stop(json_t *v, const job *j) {
    const completion *c = j->user;
    const rf_event *end = &j->end[0];
    const bool word = end->finish == RF_FINISH_STOP && end->stop >= 0;
    const char *type = word ? "word" : end->finish == RF_FINISH_STOP ? "eos" : "none";
    if (end->finish == RF_FINISH_LENGTH) type = "limit";
    const json_t *stops = json_object_get(c->settings, "stop");
    json_t *which = word ? json_array_get(stops, (size_t)end->stop) : NULL;
    put(v, "stop_type", json_string(type));
    put(v, "stopping_word", which ? json_incref(which) : json_string(""));
}

/* A stream has sent its text and ids already: its last event holds none. */
static json_t * final(const job *j) {
    completion *c = j->user;
    const rf_event *end = &j->end[0];
    const str all = job_text(j, 0), text = c->stream ? (str){"", 0} : all;
    json_t *v =
        json_pack("{si so so si sb so sI sI sO sO sb sb}", "index", 0, "content", json_text_of(text), "tokens",
                  c->return_tokens && !c->stream ? job_tokens_json(j, 0) : json_array(), "id_slot", -1, "stop", 1,
                  "model", json_text_of(str_of(j->app->model_name)), "tokens_predicted", (json_int_t)end->n_predicted,
                  "tokens_evaluated", (json_int_t)end->n_prompt, "generation_settings", c->settings, "prompt",
                  c->prompt, "has_new_line", memchr(all.p, '\n', all.n) != NULL, "truncated", 0);
    put_stop(v, j);
    put(v, "tokens_cached", json_integer(end->n_cached));
    put(v, "timings", job_timings(j));
    put(v, "usage", job_usage(j));
    put(v, "request_id", json_string(j->request_id));
    if (c->probs) put(v, "completion_probabilities", json_incref(c->probs));
    json_t *warnings = job_warnings(j, c->warnings);
    if (warnings) put(v, "warnings", warnings);
    return v;
}

static json_t *failure(const rf_error *e) {
    return json_pack("{s{si ss ss ss}}", "error", "code", e->http, "message", e->message, "type",
                     e->http == 503  ? "unavailable_error"
                     : e->http < 500 ? "invalid_request_error"
                                     : "server_error",
                     "reason", e->code);
}

/* --- events ----------------------------------------------------------------------------------------------------------- */
static void on_prompt(job *j, const job_event *ev) {
    completion *c = j->user;
    if (!c->n_prompt) c->n_cached = ev->prompt_done;
    c->n_prompt = ev->prompt_total;
    if (c->stream && c->return_progress)
        sse_json(j->x, progress(j, ev));
    else if (c->stream)
        job_ping(j);
}

static void on_event(job *j, const job_event *ev) {
    completion *c = j->user;
    switch (ev->kind) {
    case JOB_PROMPT: on_prompt(j, ev); break;
    case JOB_TOKEN:
        if (c->stream)
            sse_json(j->x, partial(j, ev, ev->text));
        else if (c->probs && ev->id >= 0)
            json_array_append_new(c->probs, token_probs(j->app, ev));
        break;
    case JOB_FINISHED:
        if (c->stream) sse_json(j->x, final(j));
        break;
    case JOB_FAILED:
        if (c->stream) sse_json(j->x, failure(ev->error));
        break;
    case JOB_EMBEDDING: break;
    }
}

static void on_done(job *j) {
    const completion *c = j->user;
    if (c->stream)
        exchange_end(j->x);
    else if (j->failed)
        reply_error(j->x, &j->error, NULL);
    else
        reply_json(j->x, 200, final(j));
}

static void on_released(job *j) { completion_free(j->user); }

/* --- the route -------------------------------------------------------------------------------------------------------- */
static json_t *prompt_text(const app *a, const rf_request_params *p) {
    char *text;
    size_t n;
    rf_error e;
    if (!rf_detokenize(a->model, p->tokens, p->n_tokens, true, &text, &n, &e)) return NULL;
    json_t *v = json_text(text, n);
    rf_free(text);
    return v;
}

static bool remember(completion *c, asked *q) {
    c->settings = llamacpp_settings_json(&q->params, c->stream, c->timings_per_token);
    c->prompt = prompt_text(q->f.app, &q->params);
    c->warnings = fields_take_warnings(&q->f);
    if (c->n_probs && !c->stream) c->probs = json_array();
    return c->settings && c->prompt;
}

static void start(asked *q, app *a, exchange *x) {
    completion *c = q->user;
    if (!remember(c, q)) {
        reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
        return;
    }
    const job_options opt = {.params = q->params,
                             .n = 1,
                             .operation = "text_completion",
                             .route = "/completion",
                             .stream = c->stream,
                             .event = on_event,
                             .done = on_done,
                             .released = on_released,
                             .tick = c->stream ? job_ping : NULL,
                             .user = c};
    if (!job_start(a, x, &opt)) return;
    q->user = NULL;
    if (c->stream) sse_open(x);
}

static void complete(app *a, exchange *x) {
    (void)a;
    asked *q = asked_open(x);
    if (!q) return;
    q->start = start;
    q->free_user = completion_free;
    completion *c = q->user = mem_zalloc(sizeof *c);
    if (c) {
        read_settings(q, c);
        asked_run(q);
        return;
    }
    asked_free(q);
    reply_fail(x, 503, "memory.exhausted", NULL, "no memory for another request");
}

const route llamacpp_routes[] = {
    {.method = "POST", .path = "/completion", .run = complete, .generates = true, .text = true},
    {.method = "POST", .path = "/completions", .run = complete, .generates = true, .text = true},
    {.method = "POST", .path = "/embedding", .run = llamacpp_embedding, .generates = true},
    {.method = "POST", .path = "/embeddings", .run = llamacpp_embedding, .generates = true},
    {.method = "POST", .path = "/tokenize", .run = llamacpp_tokenize},
    {.method = "POST", .path = "/detokenize", .run = llamacpp_detokenize},
    {.method = "POST", .path = "/apply-template", .run = llamacpp_apply_template},
    {.method = "GET", .path = "/props", .run = llamacpp_props},
    {.method = "GET", .path = "/slots", .run = llamacpp_slots},
    {.path = NULL}};
