/* Chat templates: from a request to a prompt, and its ids. A template that cannot be read does not refuse the model: its
 * error is kept and given to whoever renders. */
#include "api/api.h"

#include "base/mem.h"

#include <string.h>

uint32_t rf_model_n_embd(const rf_model *m) { return m->info.d_model; }

/* ---- the model's own template ---- */

static str own_source(const rf_model *m) {
    str s = {0};
    const gguf_kv *kv = gguf_find(m->file, "tokenizer.chat_template");
    if (!kv || kv->type != GGUF_STRING || gguf_get_str(m->file, "tokenizer.chat_template", &s, NULL) || !s.n)
        s = (str){0};
    return s;
}

const char *rf_model_template(const rf_model *m, size_t *n) {
    str s = own_source(m);
    *n = s.n;
    return s.n ? s.p : NULL;
}

status api_chat_open(api_chat *c, str source, err *e) {
    *c = (api_chat){0};
    c->code = source.p
                  ? template_parse(&c->parsed, source, &c->why)
                  : fail(&c->why, ERR_NO_TEMPLATE, "the model's file has no chat template (tokenizer.chat_template)");
    if (c->code != ERR_NOMEM) return OK;
    return fail(e, ERR_NOMEM, "a chat template");
}

status api_chat_of_model(rf_model *m, err *e) { return api_chat_open(&m->chat, own_source(m), e); }

void api_chat_close(api_chat *c) { template_free(c->parsed); }

/* ---- message content in parts ---- */

static bool is_text_part(const json_t *part) {
    const char *type = json_string_value(json_object_get(part, "type"));
    return type && strcmp(type, "text") == 0 && json_is_string(json_object_get(part, "text"));
}

static bool all_text_parts(const json_t *content) {
    if (!json_is_array(content)) return false;
    for (size_t i = 0; i < json_array_size(content); i++)
        if (!is_text_part(json_array_get(content, i))) return false;
    return true;
}

static bool has_parts(const json_t *request) {
    const json_t *messages = json_object_get(request, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (all_text_parts(json_object_get(json_array_get(messages, i), "content"))) return true;
    return false;
}

/* Does the template itself walk through parts? One message of one part is rendered: its text must come out, and nothing
 * of the form around it. */
static bool takes_parts(const chat_template *t) {
    static const char needle[] = "rocmforgeprobe";
    json_t *probe = json_pack("{s[{ss s[{ssss}]}] sb ss ss}", "messages", "role", "user", "content", "type", "text",
                              "text", needle, "add_generation_prompt", 1, "bos_token", "", "eos_token", "");
    template_text out;
    bool takes = false;
    if (probe && template_render(t, probe, NULL, &out, NULL) == OK) {
        const char *hit = out.text.p ? strstr(out.text.p, needle) : NULL;
        takes = hit && (hit == out.text.p || (hit[-1] != '\'' && hit[-1] != '"')) && !strstr(out.text.p, "'type'") &&
                !strstr(out.text.p, "\"type\"");
        template_text_free(&out);
    }
    json_decref(probe);
    return takes;
}

static json_t *joined(const json_t *content) {
    strbuf b = {0};
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (i) strbuf_puts(&b, "\n");
        strbuf_add(&b, json_string_value(text), json_string_length(text));
    }
    json_t *v = api_text(&b);
    strbuf_free(&b);
    return v;
}

static bool join_parts(json_t *request) { /* false: no memory */
    json_t *messages = json_object_get(request, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i), *content = json_object_get(message, "content");
        if (all_text_parts(content) && json_object_set_new(message, "content", joined(content))) return false;
    }
    return true;
}

/* ---- variables ---- */

enum { MAX_TRUSTED = 6 };

/* The model's special tokens, by the names templates use; a request may say otherwise, and then its word is no longer the
 * model's. */
static status add_tokens(json_t *request, const rf_model *m, const char *trusted[MAX_TRUSTED], err *e) {
    const tokenizer_info *info = m ? tokenizer_get_info(m->text) : NULL;
    const struct {
        const char *name;
        token_id id;
        bool always;
    } rows[] = {{"bos_token", info ? info->bos : TOKEN_NONE, true},
                {"eos_token", info ? info->eos : TOKEN_NONE, true},
                {"unk_token", info ? info->unk : TOKEN_NONE, false},
                {"pad_token", info ? info->pad : TOKEN_NONE, false},
                {"sep_token", info ? info->sep : TOKEN_NONE, false}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *given = json_object_get(request, rows[i].name);
        if ((given && !json_is_null(given)) || (rows[i].id < 0 && !rows[i].always)) continue;
        str text = rows[i].id >= 0 ? tokenizer_text(m->text, rows[i].id) : (str){"", 0};
        if (!json_put(request, str_of(rows[i].name), json_text_of(text))) return fail(e, ERR_NOMEM, "a chat request");
        trusted[n++] = rows[i].name;
    }
    trusted[n] = NULL;
    return OK;
}

static status read_request(json_t **out, const char *p, size_t n, err *e) {
    json_error_t why;
    json_init();
    *out = json_loadb(p, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &why);
    if (!*out && json_error_code(&why) == json_error_out_of_memory) return fail(e, ERR_NOMEM, "a chat request");
    if (!*out) return fail(e, ERR_RANGE, "the chat request is not JSON: line %d: %s", why.line, why.text);
    if (!json_is_object(*out)) return fail(e, ERR_RANGE, "the chat request must be a JSON object");
    const json_t *messages = json_object_get(*out, "messages");
    if (!json_is_array(messages)) return fail(e, ERR_RANGE, "messages: an array of messages is needed");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_object(json_array_get(messages, i)))
            return fail(e, ERR_RANGE, "messages[%zu]: must be an object", i);
    return OK;
}

/* ---- rendering ---- */

static status render(template_text *out, const rf_model *m, const api_chat *c, json_t *request, err *e) {
    const char *trusted[MAX_TRUSTED];
    if (c->code) {
        *e = c->why;
        return c->code;
    }
    status s = add_tokens(request, m, trusted, e);
    if (!s && has_parts(request) && !takes_parts(c->parsed) && !join_parts(request))
        s = fail(e, ERR_NOMEM, "a chat request");
    return s ? s : template_render(c->parsed, request, trusted, out, e);
}

_Static_assert(sizeof(rf_span) == sizeof(text_span), "the spans are handed over as they are");

bool rf_render(rf_prompt *out, const rf_model *m, const char *tmpl, size_t n_tmpl, const char *request,
               size_t n_request, rf_error *e) {
    *out = (rf_prompt){0};
    err why = {0};
    json_t *r = NULL;
    api_chat given = {0};
    template_text text = {0};
    status s = read_request(&r, request, n_request, &why);
    if (!s && !tmpl && !m) s = fail(&why, ERR_NO_TEMPLATE, "neither a model nor a template is given");
    if (!s && tmpl) s = api_chat_open(&given, (str){tmpl, n_tmpl}, &why);
    if (!s) s = render(&text, m, tmpl ? &given : &m->chat, r, &why);
    if (m) s = api_if_unchanged(m->file, s, &why);
    if (s) {
        template_text_free(&text);
    } else {
        strbuf_add(&text.text, "", 0);
        *out = (rf_prompt){text.text.p, text.text.n, (rf_span *)(void *)text.input, text.n_input};
        if (!out->text) s = fail(&why, ERR_NOMEM, "a prompt");
    }
    json_decref(r);
    api_chat_close(&given);
    return api_result(s, &why, e);
}

void rf_prompt_free(rf_prompt *p) {
    mem_free(p->text);
    mem_free(p->input);
    *p = (rf_prompt){0};
}

/* ---- ids ---- */

/* Does the text begin with the BOS token, written by the template? */
static bool begins_with_bos(const rf_model *m, const rf_prompt *p) {
    const tokenizer_info *info = tokenizer_get_info(m->text);
    if (info->bos < 0) return false;
    str bos = tokenizer_text(m->text, info->bos);
    if (bos.n == 0 || p->n < bos.n || memcmp(p->text, bos.p, bos.n) != 0) return false;
    return p->n_input == 0 || p->input[0].at >= bos.n;
}

bool rf_tokenize_prompt(const rf_model *m, const rf_prompt *p, int32_t **ids, size_t *n_ids, rf_error *e) {
    err why = {0};
    token_list list = {0};
    tokenize_options opt = {.add_special = true, .parse_special = true, .no_bos = begins_with_bos(m, p)};
    opt.input = (const byte_span *)(const void *)p->input;
    opt.n_input = p->n_input;
    status s = tokenizer_encode(m->text, (str){p->text, p->n}, opt, &list, &why);
    s = api_if_unchanged(m->file, s, &why);
    if (s) {
        mem_free(list.ids);
        list = (token_list){0};
    }
    *ids = list.ids;
    *n_ids = list.n;
    return api_result(s, &why, e);
}
