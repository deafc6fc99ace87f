#include "server/openai.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

openai_id openai_new_id(const char *prefix) {
    static const char digit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    enum { N = 24 };
    unsigned char random[N];
    uint64_t fallback[3] = {openai_random_seed(), openai_random_seed(), openai_random_seed()};
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != sizeof random) memcpy(random, fallback, sizeof random);
    openai_id id;
    size_t n = (size_t)snprintf(id.text, sizeof id.text - N, "%s", prefix);
    for (int i = 0; i < N; i++) id.text[n++] = digit[random[i] % (sizeof digit - 1)];
    id.text[n] = 0;
    return id;
}

int64_t openai_now(void) { return (int64_t)time(NULL); }

uint64_t openai_random_seed(void) {
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == sizeof seed) return seed;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)(t.tv_nsec ^ t.tv_sec << 20);
}

/* Of all that the file says about the model but its place. */
static uint64_t hash_model(const rf_model *m) {
    char *text = rf_model_inspect(m, RF_INSPECT_TENSORS | RF_INSPECT_METADATA, NULL);
    const char *rest = text ? strstr(text, "\"gguf_version\"") : NULL;
    uint64_t h = str_hash(str_of(rest ? rest : text));
    rf_free(text);
    return h;
}

const char *openai_fingerprint(app *a) {
    if (!a->fingerprint[0])
        snprintf(a->fingerprint, sizeof a->fingerprint, "rf-%s-%08x", rf_version(), (unsigned)hash_model(a->model));
    return a->fingerprint;
}

json_t *openai_usage(uint64_t n_prompt, uint64_t n_completion, uint64_t n_cached) {
    return json_pack("{sI sI sI s{sI} sI}", "prompt_tokens", (json_int_t)n_prompt, "completion_tokens",
                     (json_int_t)n_completion, "total_tokens", (json_int_t)(n_prompt + n_completion),
                     "prompt_tokens_details", "cached_tokens", (json_int_t)n_cached, "cached_tokens",
                     (json_int_t)n_cached);
}

bool openai_check_model(fields *f) {
    const char *name = NULL;
    size_t n = 0;
    fields_string(f, "model", &name, &n);
    const app *a = f->x->app;
    if (!name || !a->opt->strict_model || str_is((str){name, n}, a->model_name)) return true;
    exchange *x = f->x;
    fields_close(f);
    reply_fail(x, 404, "model_not_found", "model", "this server has one model, %s", a->model_name);
    return false;
}

void openai_ignored_fields(fields *f) {
    static const char *const names[] = {"user",
                                        "metadata",
                                        "store",
                                        "service_tier",
                                        "parallel_tool_calls",
                                        "prompt_cache_key",
                                        "prompt_cache_retention",
                                        "safety_identifier",
                                        "priority",
                                        "id_slot",
                                        "n_keep",
                                        "n_cache_reuse",
                                        "timings_per_token",
                                        "return_progress",
                                        "sse_ping_interval"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) fields_ignore(f, names[i]);
}

void openai_put_warnings(json_t *reply, json_t *warnings) {
    if (reply && json_array_size(warnings))
        json_object_set_new(reply, "warnings", warnings);
    else
        json_decref(warnings);
}

bool openai_fits(exchange *x, size_t n_tokens, const char *param) {
    uint32_t most = rf_engine_context(x->app->engine);
    if (n_tokens < most) return true;
    reply_fail(x, 400, "context_length_exceeded", param,
               "the prompt has %zu tokens and the context %u: one token at least must be left for the answer", n_tokens,
               most);
    return false;
}

/* --- models ----------------------------------------------------------------------------------------------------------- */

static json_t *model_card(const app *a) {
    return json_pack(
        "{ss ss sI ss sI s{sI sI sI sI}}", "id", a->model_name, "object", "model", "created",
        (json_int_t)a->started_unix, "owned_by", "rocmforge", "max_model_len", (json_int_t)rf_engine_context(a->engine),
        "meta", "n_vocab", (json_int_t)rf_model_n_vocab(a->model), "n_ctx", (json_int_t)rf_engine_context(a->engine),
        "n_ctx_train", (json_int_t)rf_model_context_train(a->model), "n_embd", (json_int_t)rf_model_n_embd(a->model));
}

static void list_models(app *a, exchange *x) {
    reply_json(x, 200, json_pack("{ss s[o]}", "object", "list", "data", model_card(a)));
}

static void get_model(app *a, exchange *x) {
    if (str_is(x->param, a->model_name))
        reply_json(x, 200, model_card(a));
    else
        reply_fail(x, 404, "model_not_found", "model", "this server has one model, %s", a->model_name);
}

const route openai_routes[] = {
    {.method = "POST", .path = "/v1/chat/completions", .run = openai_chat, .generates = true, .text = true},
    {.method = "POST", .path = "/chat/completions", .run = openai_chat, .generates = true, .text = true},
    {.method = "POST", .path = "/v1/completions", .run = openai_completion, .generates = true, .text = true},
    {.method = "POST", .path = "/v1/embeddings", .run = openai_embeddings, .generates = true},
    {.method = "POST", .path = "/v1/rerank", .run = openai_rerank, .generates = true},
    {.method = "POST", .path = "/rerank", .run = openai_rerank, .generates = true},
    {.method = "POST", .path = "/v1/reranking", .run = openai_rerank, .generates = true},
    {.method = "POST", .path = "/reranking", .run = openai_rerank, .generates = true},
    {.method = "GET", .path = "/v1/models", .run = list_models},
    {.method = "GET", .path = "/v1/models/{id}", .run = get_model},
    {0},
};
