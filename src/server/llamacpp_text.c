/* Text to ids, ids to text, messages to a prompt: llama.cpp's routes that run no model. */
#include "server/llamacpp.h"

#include "base/mem.h"
#include "server/fields.h"
#include "server/prepare.h"

#include <string.h>

/* --- /tokenize -------------------------------------------------------------------------------------------------------- */
/* A piece is text, or a list of bytes where it is a part of a character. */
static json_t *piece_json(const char *p, size_t n) {
    if (str_is_utf8((str){p, n})) return json_text(p, n);
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(all, json_integer((unsigned char)p[i]));
    return all;
}

static json_t *id_with_piece(const app *a, int32_t id) {
    char *piece;
    size_t n;
    rf_error e;
    if (!rf_token_piece(a->model, id, &piece, &n, &e)) return NULL;
    json_t *v = json_pack("{si so}", "id", (int)id, "piece", piece_json(piece, n));
    rf_free(piece);
    return v;
}

static json_t *ids_json(const app *a, const int32_t *id, size_t n, bool pieces) {
    json_t *all = json_array();
    bool whole = all != NULL;
    for (size_t i = 0; whole && i < n; i++)
        whole = json_array_append_new(all, pieces ? id_with_piece(a, id[i]) : json_integer(id[i])) == 0;
    if (whole) return json_pack("{so}", "tokens", all);
    json_decref(all);
    return NULL;
}

/* One /tokenize; much text is done on another thread, up to the reply's text. */
typedef struct {
    fields f;
    const char *text;
    size_t n;
    unsigned flags;
    bool pieces, good;
    strbuf reply;
    rf_error error;
} tokenizing;

static void tokenize(void *user) {
    tokenizing *t = user;
    int32_t *ids;
    size_t n;
    t->good = rf_tokenize(t->f.app->model, t->text, t->n, t->flags, &ids, &n, &t->error);
    if (!t->good) return;
    json_t *v = ids_json(t->f.app, ids, n, t->pieces);
    if (v && json_write(v, &t->reply, NULL)) strbuf_free(&t->reply);
    json_decref(v);
    rf_free(ids);
}

static void reply_tokens(void *user, exchange *x) {
    tokenizing *t = user;
    if (x && !t->good)
        reply_error(x, &t->error, "content");
    else if (x && t->reply.n)
        exchange_reply(x, 200, "application/json; charset=utf-8", t->reply.p, t->reply.n);
    else if (x)
        reply_json(x, 200, NULL);
    strbuf_free(&t->reply);
    fields_close(&t->f);
    mem_free(t);
}

void llamacpp_tokenize(app *a, exchange *x) {
    (void)a;
    fields f;
    if (!fields_open(&f, x) || !fields_model(&f)) return;
    const char *text = "";
    size_t n = 0;
    bool add = false, parse = true, pieces = false;
    if (!fields_string(&f, "content", &text, &n)) fields_bad(&f, "content", "is missing");
    fields_bool(&f, "add_special", &add);
    fields_bool(&f, "parse_special", &parse);
    fields_bool(&f, "with_pieces", &pieces);
    if (!fields_finish(&f)) return;
    tokenizing *t = mem_zalloc(sizeof *t);
    if (!t) {
        reply_json(x, 200, NULL);
        fields_close(&f);
        return;
    }
    *t = (tokenizing){.f = f, .text = text, .n = n, .pieces = pieces};
    t->flags = (add ? 0u : RF_NO_SPECIAL) | (parse ? 0u : RF_NO_PARSE_SPECIAL);
    prepare_run(x, n, tokenize, reply_tokens, t);
}

/* --- /detokenize ------------------------------------------------------------------------------------------------------ */
static int32_t *read_ids(fields *f, size_t *n) {
    const json_t *v = fields_any(f, "tokens");
    *n = json_array_size(v);
    if (!v) fields_bad(f, "tokens", "is missing");
    if (v && !json_is_array(v)) fields_bad(f, "tokens", "must be a list of token ids");
    int32_t *ids = f->failed ? NULL : mem_array(*n + 1, sizeof *ids);
    if (!ids) {
        fields_no_memory(f, "the tokens");
        return NULL;
    }
    const uint32_t n_vocab = rf_model_n_vocab(f->app->model);
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(v, i);
        const int64_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= (int64_t)n_vocab) fields_bad(f, "tokens", "must hold integers of 0 to %u", n_vocab - 1);
        ids[i] = f->failed ? 0 : (int32_t)id;
    }
    return ids;
}

void llamacpp_detokenize(app *a, exchange *x) {
    fields f;
    if (!fields_open(&f, x) || !fields_model(&f)) return;
    size_t n;
    int32_t *ids = read_ids(&f, &n);
    if (fields_finish(&f)) {
        char *text;
        size_t n_text;
        rf_error e;
        if (rf_detokenize(a->model, ids, n, true, &text, &n_text, &e)) {
            reply_json(x, 200, json_pack("{so}", "content", json_text(text, n_text)));
            rf_free(text);
        } else {
            reply_error(x, &e, "tokens");
        }
        fields_close(&f);
    }
    mem_free(ids);
}

/* --- /apply-template -------------------------------------------------------------------------------------------------- */
/* The variables of the template: the body's, with the server's defaults below chat_template_kwargs below the body. */
static json_t *template_request(fields *f) {
    json_t *v = json_object(), *messages = fields_any(f, "messages"), *tools = fields_any(f, "tools");
    const json_t *kwargs = fields_any(f, "chat_template_kwargs");
    bool add = true;
    if (!messages || !json_is_array(messages)) fields_bad(f, "messages", "must be a list of messages");
    if (tools && !json_is_array(tools)) fields_bad(f, "tools", "must be a list");
    if (kwargs && !json_is_object(kwargs)) fields_bad(f, "chat_template_kwargs", "must be an object");
    fields_bool(f, "add_generation_prompt", &add);
    const char *key;
    json_t *item;
    if (f->failed || !v) return v;
    json_t *defaults = f->app->opt->template_kwargs ? json_loads(f->app->opt->template_kwargs, 0, NULL) : NULL;
    json_object_update(v, defaults);
    json_decref(defaults);
    json_object_foreach((json_t *)(uintptr_t)kwargs, key, item) {
        if (strcmp(key, "enable_thinking") && strcmp(key, "thinking") && strcmp(key, "reasoning_effort"))
            fields_bad(f, "chat_template_kwargs", "may set enable_thinking, thinking and reasoning_effort only");
        json_object_set(v, key, item);
    }
    if (json_object_set(v, "messages", messages) || (json_array_size(tools) && json_object_set(v, "tools", tools)) ||
        json_object_set_new(v, "add_generation_prompt", json_boolean(add)))
        fields_no_memory(f, "the messages");
    return v;
}

typedef struct {
    app *app;
    json_t *request;
    bool written, good;
    rf_prompt out;
    rf_error error;
} rendering;

static void render(void *user) {
    rendering *r = user;
    strbuf text = {0};
    const char *own = r->app->opt->chat_template;
    r->written = json_write(r->request, &text, NULL) == OK;
    if (r->written) r->good = rf_render(&r->out, r->app->model, own, own ? strlen(own) : 0, text.p, text.n, &r->error);
    strbuf_free(&text);
}

static void reply_prompt(void *user, exchange *x) {
    rendering *r = user;
    if (x && r->good)
        reply_json(x, 200, json_pack("{so}", "prompt", json_text(r->out.text, r->out.n)));
    else if (x && r->written)
        reply_error(x, &r->error, "messages");
    else if (x)
        reply_json(x, 200, NULL);
    rf_prompt_free(&r->out);
    json_decref(r->request);
    mem_free(r);
}

void llamacpp_apply_template(app *a, exchange *x) {
    fields f;
    if (!fields_open(&f, x) || !fields_model(&f)) return;
    json_t *request = template_request(&f);
    rendering *r = mem_zalloc(sizeof *r);
    if (!fields_finish(&f)) {
        json_decref(request);
        mem_free(r);
        return;
    }
    fields_close(&f); /* what the request holds of the body is counted */
    if (r && request) {
        *r = (rendering){.app = a, .request = request};
        prepare_run(x, x->body.n, render, reply_prompt, r);
        return;
    }
    json_decref(request);
    mem_free(r);
    reply_json(x, 200, NULL);
}
