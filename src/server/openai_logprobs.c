/* Log-probabilities of tokens in the forms of chat and of text completions. */
#include "server/openai_call.h"

#include <math.h>

/* JSON has no infinity; OpenAI's own word for "never" is -9999. */
static json_t *number(float logprob) { return json_real(isfinite(logprob) ? (double)logprob : -9999.0); }

static json_t *bytes_of(const char *p, size_t n) {
    json_t *a = json_array();
    for (size_t i = 0; a && i < n; i++)
        if (json_array_append_new(a, json_integer((unsigned char)p[i]))) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static json_t *chat_token(const rf_model *m, int32_t id, float logprob) {
    char *piece;
    size_t n;
    if (!rf_token_piece(m, id, &piece, &n, NULL)) return NULL;
    json_t *v =
        json_pack("{so so so}", "token", json_text(piece, n), "logprob", number(logprob), "bytes", bytes_of(piece, n));
    rf_free(piece);
    return v;
}

static json_t *chat_entry(const rf_model *m, const job_event *ev) {
    json_t *top = json_array(), *v = chat_token(m, ev->id, ev->logprob);
    bool ok = top && v;
    for (uint32_t i = 0; ok && i < ev->n_top; i++)
        ok = !json_array_append_new(top, chat_token(m, ev->top[i].id, ev->top[i].logprob));
    if (ok && !json_object_set(v, "top_logprobs", top)) {
        json_decref(top);
        return v;
    }
    json_decref(top);
    json_decref(v);
    return NULL;
}

static bool put_piece(json_t *obj, const rf_model *m, int32_t id, float logprob) {
    char *piece;
    size_t n;
    if (!rf_token_piece(m, id, &piece, &n, NULL)) return false;
    json_t *key = json_text(piece, n); /* cleaned: keys must be text as well */
    rf_free(piece);
    bool ok = key != NULL;
    str name = {ok ? json_string_value(key) : "", ok ? json_string_length(key) : 0};
    /* Two tokens may read the same; the likelier one came first. */
    if (ok && !json_object_getn(obj, name.p, name.n)) ok = json_put(obj, name, number(logprob));
    json_decref(key);
    return ok;
}

static json_t *text_entry(const rf_model *m, const job_event *ev, size_t offset) {
    char *piece;
    size_t n;
    json_t *top = ev->n_top ? json_object() : json_null();
    bool ok = top != NULL;
    for (uint32_t i = 0; ok && i < ev->n_top; i++) ok = put_piece(top, m, ev->top[i].id, ev->top[i].logprob);
    if (ok && ev->n_top) ok = put_piece(top, m, ev->id, ev->logprob);
    if (!ok || !rf_token_piece(m, ev->id, &piece, &n, NULL)) {
        json_decref(top);
        return NULL;
    }
    json_t *v = json_pack("{so so so sI}", "tokens", json_text(piece, n), "token_logprobs", number(ev->logprob),
                          "top_logprobs", top, "text_offset", (json_int_t)offset);
    rf_free(piece);
    return v;
}

json_t *openai_logprob(const openai_call *c, const job_event *ev, size_t offset) {
    return c->chat ? chat_entry(c->app->model, ev) : text_entry(c->app->model, ev, offset);
}

json_t *openai_logprobs_new(bool chat) {
    if (chat) return json_array();
    return json_pack("{s[] s[] s[] s[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
}

bool openai_logprobs_add(json_t *all, json_t *entry, bool chat) {
    if (chat || !all) return !json_array_append_new(all, entry);
    const char *key;
    json_t *v;
    bool ok = entry != NULL;
    json_object_foreach(entry, key, v) ok &= !json_array_append(json_object_get(all, key), v);
    json_decref(entry);
    return ok;
}
