#include "cli/remote.h"

#include "base/clock.h"
#include "base/json.h"
#include "cli/events.h"
#include "cli/http.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct remote {
    const args *a;
    http *http;
};

static const char default_host[] = "http://127.0.0.1:8080";
enum { CONTROL_MS = 30000, CANCEL_MS = 3000, LAST_WORDS_MS = 2000 };

int remote_open(remote **out, const args *a) {
    rf_error e;
    remote *r = *out = calloc(1, sizeof *r);
    if (!r) return cli_error("memory.exhausted", "no memory for a request");
    r->a = a;
    r->http = http_open(a->host ? a->host : default_host, a->api_key, a->cacert, &e);
    if (r->http) return 0;
    remote_close(r);
    *out = NULL;
    return cli_fail(&e);
}

void remote_close(remote *r) {
    if (!r) return;
    http_close(r->http);
    free(r);
}

const char *remote_url(const remote *r) { return http_url(r->http); }

static json_t *parse_reply(const strbuf *body, rf_error *e) {
    json_t *v = body->n ? json_loadb(body->p, body->n, JSON_ALLOW_NUL, NULL) : NULL;
    if (v) return v;
    *e = (rf_error){.code = "remote.reply", .category = "Backend", .message = "the server's reply is no JSON"};
    return NULL;
}

/* A body, taken, or none. */
static json_t *exchange_json(remote *r, const char *method, const char *path, json_t *body, rf_error *e) {
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    http_call call = {
        .method = method, .path = path, .body = text, .timeout_ms = CONTROL_MS, .type = "application/json"};
    strbuf reply = {0};
    json_t *v = http_run(r->http, &call, &reply, NULL, e) ? parse_reply(&reply, e) : NULL;
    strbuf_free(&reply);
    rf_free(text);
    json_decref(body);
    return v;
}

json_t *remote_json(remote *r, const char *method, const char *path, rf_error *e) {
    return exchange_json(r, method, path, NULL, e);
}

/* --- an answer that streams -------------------------------------------------------------------------------------------- */
typedef struct {
    remote *r;
    answer *w;
    event_reader events;
    bool (*event)(answer *w, const json_t *v); /* the dialect's; true: this was the last */
    char id[32];                               /* X-Request-Id */
    int64_t give_up_us;                        /* 0: not cancelled */
    bool done, wrong;                          /* the last event came; one was no event */
} stream;

static void fail_with(answer *w, const char *code, const char *text) {
    rf_error e = {.category = "Backend"};
    snprintf(e.code, sizeof e.code, "%s", code);
    snprintf(e.message, sizeof e.message, "%s", text);
    for (char *p = e.message; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127) *p = ' '; /* a server's words, for a terminal */
    answer_fail(w, &e);
}

static bool on_error_event(answer *w, const json_t *v) {
    const json_t *error = json_object_get(v, "error"), *from = json_is_object(error) ? error : v;
    const char *text = json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    const char *code = json_string_value(json_object_get(from, "code"));
    if (!error) return false;
    fail_with(w, code && strchr(code, '.') ? code : "remote.failed", text ? text : "the server gave up");
    return true;
}

static bool on_event(void *user, str data) {
    stream *s = user;
    if (str_is(data, "[DONE]")) {
        s->done = true;
        return true;
    }
    json_t *v = json_loadb(data.p, data.n, JSON_ALLOW_NUL, NULL);
    s->wrong = !json_is_object(v);
    if (!s->wrong && on_error_event(s->w, v))
        s->done = true;
    else if (!s->wrong)
        s->done = s->event(s->w, v);
    json_decref(v);
    return !s->wrong && !s->w->deaf;
}

static bool on_data(void *user, const char *p, size_t n) {
    stream *s = user;
    s->w->started = true;
    return events_feed(&s->events, p, n, on_event, s);
}

/* Ends it at the server by a call of its own, so that it knows even where a proxy keeps the connection. */
static void cancel_there(const stream *s) {
    rf_error e;
    char path[64];
    snprintf(path, sizeof path, "/cancel/%s", s->id);
    const args *a = s->r->a;
    http *other = http_open(remote_url(s->r), a->api_key, a->cacert, &e);
    strbuf reply = {0};
    http_call call = {.method = "POST", .path = path, .timeout_ms = CANCEL_MS, .type = "application/json"};
    if (other && !http_run(other, &call, &reply, NULL, &e) && strcmp(e.code, "request.not_found"))
        cli_note("rocmforge: warning: %s", e.message);
    strbuf_free(&reply);
    http_close(other);
}

/* Ctrl-C cancels it there; what the server still has to say is heard for a moment. */
static bool go_on(void *user) {
    stream *s = user;
    if (!cli_interrupted()) return true;
    if (s->give_up_us) return clock_us() < s->give_up_us;
    cancel_there(s);
    s->give_up_us = clock_us() + LAST_WORDS_MS * 1000;
    return true;
}

static void settle(stream *s, bool ok, bool ended, const rf_error *e) {
    answer *w = s->w;
    if (s->give_up_us && !(w->failed && strcmp(w->error.code, "request.cancelled"))) {
        w->failed = false;
        w->finish = RF_FINISH_CANCELLED;
    } else if (w->failed || w->deaf) {
        return;
    } else if (s->wrong) {
        fail_with(w, "remote.reply", "the server's stream holds what is no event");
    } else if (!ok || ended) {
        answer_fail(w, e);
    } else if (!s->done || !w->finish) {
        fail_with(w, "remote.broken", "the server ended the stream before the answer was whole");
    }
}

/* Takes body. */
static void run_stream(remote *r, const char *path, json_t *body, bool (*event)(answer *, const json_t *), answer *w) {
    stream s = {.r = r, .w = w, .event = event};
    uint64_t random = 0;
    if (getentropy(&random, sizeof random)) random = (uint64_t)clock_us();
    snprintf(s.id, sizeof s.id, "cli-%016llx", (unsigned long long)random);
    char *text = json_dumps(body, JSON_COMPACT);
    http_call call = {.method = "POST",
                      .path = path,
                      .body = text,
                      .request_id = s.id,
                      .data = on_data,
                      .go_on = go_on,
                      .user = &s,
                      .type = "text/event-stream"};
    bool ended = false;
    rf_error e = {.code = "memory.exhausted", .category = "Backend", .message = "no memory for a request"};
    cli_hold_interrupts(true);
    bool ok = text && http_run(r->http, &call, NULL, &ended, &e);
    answer_end(w);
    settle(&s, ok, ended, &e);
    events_free(&s.events);
    rf_free(text);
    json_decref(body);
}

/* --- what is asked ------------------------------------------------------------------------------------------------------ */

static json_t *bias_list(const args *a) {
    json_t *all = json_array();
    for (uint32_t i = 0; i < a->n_bias; i++) {
        double x = (double)a->bias[i].bias;
        json_t *v = isinf(x) ? json_false() : json_real(x); /* false: never */
        json_array_append_new(all, json_pack("[io]", (int)a->bias[i].id, v));
    }
    return all;
}

static json_t *stop_list(const args *a) {
    json_t *all = json_array();
    for (uint32_t i = 0; i < a->n_stop; i++) json_array_append_new(all, json_text(a->stop[i], strlen(a->stop[i])));
    return all;
}

/* What every dialect calls the same. All of it is said: their defaults differ from ours. */
static json_t *sampling(const args *a, uint64_t seed) {
    json_t *v = json_object();
    json_object_set_new(v, "stream", json_true());
    json_object_set_new(v, "temperature", json_real(a->temperature));
    json_object_set_new(v, "top_k", json_integer(a->top_k));
    json_object_set_new(v, "top_p", json_real(a->top_p));
    json_object_set_new(v, "min_p", json_real(a->min_p));
    json_object_set_new(v, "repeat_penalty", json_real(a->repeat_penalty));
    json_object_set_new(v, "repeat_last_n", json_integer(a->repeat_last_n));
    json_object_set_new(v, "presence_penalty", json_real(a->presence_penalty));
    json_object_set_new(v, "frequency_penalty", json_real(a->frequency_penalty));
    json_object_set_new(v, "seed", json_integer((json_int_t)seed));
    if (a->ignore_eos) json_object_set_new(v, "ignore_eos", json_true());
    if (a->n_stop) json_object_set_new(v, "stop", stop_list(a));
    if (a->n_bias) json_object_set_new(v, "logit_bias", bias_list(a));
    if (a->model) json_object_set_new(v, "model", json_text(a->model, strlen(a->model)));
    return v;
}

static uint32_t count_of(const json_t *v, const char *key) {
    json_int_t n = json_integer_value(json_object_get(v, key));
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static int64_t us_of(const json_t *v, const char *key) {
    double ms = json_number_value(json_object_get(v, key));
    return ms > 0 && ms < 1e12 ? (int64_t)(ms * 1e3) : 0;
}

static void take_timings(answer *w, const json_t *v) {
    const json_t *t = json_object_get(v, "timings");
    if (!t) return;
    w->prompt_us = us_of(t, "prompt_ms");
    w->predicted_us = us_of(t, "predicted_ms");
    w->n_predicted = count_of(t, "predicted_n");
    w->n_cached = count_of(t, "cache_n");
    w->n_prompt = count_of(t, "prompt_n") + w->n_cached;
}

/* --- POST /completion, as llama.cpp speaks ------------------------------------------------------------------------------ */
static void take_probabilities(answer *w, const json_t *v) {
    const json_t *all = json_object_get(v, "completion_probabilities");
    for (size_t i = 0; w->logprobs && i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i), *top = json_object_get(one, "top_logprobs");
        rf_alternative list[ARGS_MAX_LIST];
        uint32_t n = 0, most = w->a->top_logprobs > 0 ? (uint32_t)w->a->top_logprobs : 0;
        for (size_t k = 0; n < most && n < ARGS_MAX_LIST && k < json_array_size(top); k++) {
            const json_t *t = json_array_get(top, k);
            list[n++] = (rf_alternative){(int32_t)json_integer_value(json_object_get(t, "id")),
                                         (float)json_number_value(json_object_get(t, "logprob"))};
        }
        json_t *tokens = w->tokens;
        w->tokens = NULL; /* they come by a field of their own */
        answer_add_token(w, (int32_t)json_integer_value(json_object_get(one, "id")),
                         (float)json_number_value(json_object_get(one, "logprob")), list, n);
        w->tokens = tokens;
    }
}

static bool on_completion(answer *w, const json_t *v) {
    const json_t *content = json_object_get(v, "content"), *tokens = json_object_get(v, "tokens");
    bool stop = json_is_true(json_object_get(v, "stop"));
    if (json_is_string(content)) answer_add(w, -1, json_string_value(content), json_string_length(content));
    if (w->tokens && !stop) json_array_extend(w->tokens, (json_t *)(uintptr_t)tokens);
    take_probabilities(w, v);
    if (!stop) return false;
    const char *why = json_string_value(json_object_get(v, "stop_type"));
    w->finish = !why || !strcmp(why, "none") ? RF_FINISH_CANCELLED /* by somebody else */
                : !strcmp(why, "limit")      ? RF_FINISH_LENGTH
                                             : RF_FINISH_STOP;
    take_timings(w, v);
    uint32_t n = count_of(v, "tokens_evaluated");
    if (n) w->n_prompt = n;
    return true;
}

/* Where the text is not to be read as usual, the server's tokenizer is asked first. */
static json_t *prompt_of(remote *r, const char *text, size_t n, rf_error *e) {
    const args *a = r->a;
    json_t *plain = json_text(text, n);
    if (!a->no_bos && !a->no_parse_special) return plain;
    json_t *ask =
        json_pack("{so sb sb}", "content", plain, "add_special", !a->no_bos, "parse_special", !a->no_parse_special);
    json_t *reply = exchange_json(r, "POST", "/tokenize", ask, e);
    json_t *ids = json_incref(json_object_get(reply, "tokens"));
    json_decref(reply);
    if (reply && !ids) *e = (rf_error){.code = "remote.reply", .message = "the server's /tokenize gave no tokens"};
    return ids;
}

/* What the JSON form says of the engine, where the server tells. */
static void take_engine(remote *r, answer *w) {
    rf_error e;
    json_t *health = w->a->json ? remote_json(r, "GET", "/health", &e) : NULL,
           *device = json_object_get(health, "device");
    if (device) w->info = json_pack("{sO}", "device", device);
    json_decref(health);
}

void remote_generate(remote *r, const char *text, size_t n, answer *w) {
    const args *a = r->a;
    rf_error e;
    w->seed = answer_params(a).seed;
    json_t *prompt = prompt_of(r, text, n, &e);
    if (!prompt) {
        answer_fail(w, &e);
        return;
    }
    json_t *body = sampling(a, w->seed);
    json_object_set_new(body, "prompt", prompt);
    json_object_set_new(body, "n_predict", json_integer(a->max_tokens));
    if (w->tokens) json_object_set_new(body, "return_tokens", json_true());
    if (w->logprobs) json_object_set_new(body, "n_probs", json_integer(a->top_logprobs > 0 ? a->top_logprobs : 1));
    run_stream(r, "/completion", body, on_completion, w);
    if (!w->failed) take_engine(r, w);
}

/* --- POST /v1/chat/completions ------------------------------------------------------------------------------------------ */
static void take_part(answer *w, const json_t *delta, const char *key, bool thinking) {
    const json_t *text = json_object_get(delta, key);
    if (json_string_length(text)) answer_add_part(w, thinking, json_string_value(text), json_string_length(text));
}

static void take_usage(answer *w, const json_t *v) {
    const json_t *u = json_object_get(v, "usage");
    if (!json_is_object(u)) return;
    w->n_prompt = count_of(u, "prompt_tokens");
    w->n_predicted = count_of(u, "completion_tokens");
    w->n_cached = count_of(json_object_get(u, "prompt_tokens_details"), "cached_tokens");
}

static bool on_chat(answer *w, const json_t *v) {
    const json_t *choice = json_array_get(json_object_get(v, "choices"), 0), *delta = json_object_get(choice, "delta");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    take_part(w, delta, "reasoning_content", true);
    take_part(w, delta, "content", false);
    if (finish)
        w->finish = !strcmp(finish, "length")      ? RF_FINISH_LENGTH
                    : !strcmp(finish, "cancelled") ? RF_FINISH_CANCELLED
                                                   : RF_FINISH_STOP;
    take_timings(w, v);
    take_usage(w, v);
    return false; /* [DONE] is */
}

/* An answer that came to the end of the context: how much that is. */
static void take_context(remote *r, answer *w) {
    rf_error e;
    if (w->failed || w->finish != RF_FINISH_LENGTH || w->a->max_tokens >= 0) return;
    json_t *props = remote_json(r, "GET", "/props", &e);
    w->context = count_of(json_object_get(props, "default_generation_settings"), "n_ctx");
    json_decref(props);
}

void remote_chat(remote *r, json_t *messages, json_t *kwargs, answer *w) {
    const args *a = w->a;
    json_t *body = sampling(a, w->seed);
    json_decref(w->tokens); /* this dialect does not tell ids */
    w->tokens = NULL;
    json_object_set(body, "messages", messages);
    json_object_set_new(body, "stream_options", json_pack("{sb}", "include_usage", 1));
    if (a->max_tokens >= 0) json_object_set_new(body, "max_tokens", json_integer(a->max_tokens));
    if (kwargs) json_object_set(body, "chat_template_kwargs", kwargs);
    run_stream(r, "/v1/chat/completions", body, on_chat, w);
    take_context(r, w);
    if (!w->failed) take_engine(r, w);
}
