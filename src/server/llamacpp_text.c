/* Text to ids, ids to text, messages to a prompt: llama.cpp's routes that run no model. */
#include "server/llamacpp.h"

#include "base/mem.h"
#include "server/fields.h"

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

void llamacpp_tokenize(app *a, exchange *x) {
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
    const unsigned flags = (add ? 0u : RF_NO_SPECIAL) | (parse ? 0u : RF_NO_PARSE_SPECIAL);
    int32_t *ids;
    size_t n_ids;
    rf_error e;
    if (!rf_tokenize(a->model, text, n, flags, &ids, &n_ids, &e)) {
        reply_error(x, &e, "content");
    } else {
        reply_json(x, 200, ids_json(a, ids, n_ids, pieces));
        rf_free(ids);
    }
    fields_close(&f);
}

/* --- /detokenize ------------------------------------------------------------------------------------------------------ */
static int32_t *read_ids(fields *f, size_t *n) {
    const json_t *v = fields_any(f, "tokens");
    *n = json_array_size(v);
    if (!v) fields_bad(f, "tokens", "is missing");
    if (v && !json_is_array(v)) fields_bad(f, "tokens", "must be a list of token ids");
    int32_t *ids = f->failed ? NULL : mem_array(*n + 1, sizeof *ids);
    if (!ids) {
        fields_bad(f, "tokens", "no memory for the list");
        return NULL;
    }
    const uint32_t n_vocab = rf_model_n_vocab(f->x->app->model);
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
    json_t *defaults = f->x->app->opt->template_kwargs ? json_loads(f->x->app->opt->template_kwargs, 0, NULL) : NULL;
    json_object_update(v, defaults);
    json_decref(defaults);
    json_object_foreach((json_t *)(uintptr_t)kwargs, key, item) {
        if (strcmp(key, "enable_thinking") && strcmp(key, "thinking") && strcmp(key, "reasoning_effort"))
            fields_bad(f, "chat_template_kwargs", "may set enable_thinking, thinking and reasoning_effort only");
        json_object_set(v, key, item);
    }
    json_object_set(v, "messages", messages);
    if (json_array_size(tools)) json_object_set(v, "tools", tools);
    json_object_set_new(v, "add_generation_prompt", json_boolean(add));
    return v;
}

static void render(app *a, exchange *x, const json_t *request) {
    strbuf text = {0};
    err why;
    rf_error e;
    rf_prompt out = {0};
    const char *own = a->opt->chat_template;
    if (!request || json_write(request, &text, &why))
        reply_json(x, 200, NULL);
    else if (!rf_render(&out, a->model, own, own ? strlen(own) : 0, text.p, text.n, &e))
        reply_error(x, &e, "messages");
    else
        reply_json(x, 200, json_pack("{so}", "prompt", json_text(out.text, out.n)));
    rf_prompt_free(&out);
    strbuf_free(&text);
}

void llamacpp_apply_template(app *a, exchange *x) {
    fields f;
    if (!fields_open(&f, x) || !fields_model(&f)) return;
    json_t *request = template_request(&f);
    if (fields_finish(&f)) {
        render(a, x, request);
        fields_close(&f);
    }
    json_decref(request);
}
