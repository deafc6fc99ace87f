/* The contract of template.h over the interpreter: source in, variables in, text and marks out. */
#include "text/template.h"

#include "base/mem.h"
#include "text/jinja_eval.h"
#include "text/jinja_parse.h"

#include <stdio.h>
#include <string.h>

struct chat_template {
    jrun memory; /* of all below */
    const jstmt *body;
    const jtext **names;
    size_t n_names;
};

/* ---- parsing ---- */

/* Lines end with \n whatever the file says, and one of them at the end goes. */
static str normal_lines(jrun *r, str source) {
    char *p = jrun_take(r, source.n + 1, 1);
    size_t n = 0;
    for (size_t i = 0; p && i < source.n; i++) {
        const bool cr = source.p[i] == '\r';
        p[n++] = cr ? '\n' : source.p[i];
        if (cr && i + 1 < source.n && source.p[i + 1] == '\n') i++;
    }
    if (n && p[n - 1] == '\n') n--;
    return (str){p, p ? n : 0};
}

enum { MAX_SOURCE = 4 << 20 };

status template_parse(chat_template **out, str source, err *e) {
    *out = NULL;
    chat_template *t = mem_zalloc(sizeof *t);
    if (!t) return fail(e, ERR_NOMEM, "a chat template");
    jrun *r = &t->memory;
    r->e = e;
    r->line = 1;
    if (source.n > MAX_SOURCE)
        jrun_fail(r, "%zu bytes; at most %d are read", source.n, MAX_SOURCE);
    else if (!str_is_utf8(source))
        jrun_fail(r, "it is not UTF-8");
    jparser p = {0};
    if (jrun_ok(r)) t->body = jparse(&p, r, normal_lines(r, source));
    t->names = p.names;
    t->n_names = p.n_names;
    const status s = r->code;
    r->e = NULL;
    if (s)
        template_free(t);
    else
        *out = t;
    return s;
}

void template_free(chat_template *t) {
    if (!t) return;
    jrun_free(&t->memory);
    mem_free(t);
}

/* ---- variables ---- */

/* The word of a role is the template's own: templates put it between the marks of special tokens. */
static bool is_role(const char *key, str text) {
    static const char *const roles[] = {"system",    "user",     "assistant", "tool",
                                        "developer", "function", "ipython",   "model"};
    for (size_t i = 0; key && strcmp(key, "role") == 0 && i < sizeof roles / sizeof *roles; i++)
        if (str_is(text, roles[i])) return true;
    return false;
}

static jval value_of(jrun *r, const json_t *v, const char *key, bool input) {
    jval out = j_none();
    if (!jrun_enter(r)) {
        jrun_leave(r);
        return out;
    }
    const char *name;
    size_t i, n_name;
    json_t *item;
    switch (json_typeof(v)) {
    case JSON_TRUE:
    case JSON_FALSE: out = j_bool(json_is_true(v)); break;
    case JSON_INTEGER: out = j_int(json_integer_value(v)); break;
    case JSON_REAL: out = j_float(json_real_value(v)); break;
    case JSON_STRING: {
        str s = {json_string_value(v), json_string_length(v)};
        out = j_text(jtext_new(r, s, input && !is_role(key, s)));
        break;
    }
    case JSON_ARRAY:
        out = j_list_of(J_LIST, jlist_new(r));
        if (out.kind == J_LIST) out.list->input = input;
        json_array_foreach((json_t *)v, i, item) if (jrun_ok(r)) jlist_add(r, out.list, value_of(r, item, NULL, input));
        break;
    case JSON_OBJECT:
        out = (jval){.kind = J_DICT, .dict = jdict_new(r)};
        if (out.dict) out.dict->input = input;
        json_object_keylen_foreach((json_t *)v, name, n_name, item) if (jrun_ok(r))
            jdict_put(r, out.dict, j_text(jtext_new(r, (str){name, n_name}, input)), value_of(r, item, name, input));
        break;
    case JSON_NULL: break;
    }
    jrun_leave(r);
    return out;
}

static bool is_trusted(const char *const *trusted, const char *name) {
    for (; trusted && *trusted; trusted++)
        if (strcmp(*trusted, name) == 0) return true;
    return false;
}

/* The outermost scope: each name the template uses, as the variables or our own functions have it. */
static void fill_root(jinterp *t, const json_t *variables, const char *const *trusted) {
    jrun *r = &t->run;
    t->root = t->scope = jrun_take(r, 1, sizeof *t->root);
    if (!t->root) return;
    t->root->binding = jrun_take(r, t->n_names + 1, sizeof *t->root->binding);
    for (size_t i = 0; t->root->binding && i < t->n_names && jrun_ok(r); i++) {
        jval *v = &t->root->binding[i].value;
        const str name = jtext_str(t->names[i]);
        const json_t *given = json_object_getn(variables, name.p, name.n);
        const jfunction *f = jglobal_find(name);
        v->kind = J_ABSENT;
        if (given && !json_is_null(given)) {
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)(name.n < 63 ? name.n : 63), name.p);
            *v = value_of(r, given, NULL, !is_trusted(trusted, key));
        } else if (f) {
            *v = (jval){.kind = J_FUNCTION, .function = f};
        }
    }
}

/* ---- rendering ---- */

static bool add_span(template_text *out, size_t *cap, size_t at, size_t n) {
    if (out->n_input == *cap) {
        const size_t more = *cap ? 2 * *cap : 16;
        text_span *p = mem_resize(out->input, more * sizeof *p);
        if (!p) return false;
        out->input = p;
        *cap = more;
    }
    out->input[out->n_input++] = (text_span){at, n};
    return true;
}

static bool find_spans(template_text *out, const jbuild *b) {
    size_t cap = 0;
    if (!b->mark) return !b->n || !b->input || add_span(out, &cap, 0, b->n);
    for (size_t at = 0; at < b->n;) {
        const uint8_t *from = memchr(b->mark + at, 1, b->n - at);
        if (!from) break;
        at = (size_t)(from - b->mark);
        const uint8_t *to = memchr(from, 0, b->n - at);
        const size_t n = to ? (size_t)(to - from) : b->n - at;
        if (!add_span(out, &cap, at, n)) return false;
        at += n;
    }
    return true;
}

status template_render(const chat_template *t, const json_t *variables, const char *const *trusted, template_text *out,
                       err *e) {
    *out = (template_text){0};
    jinterp run = {.run = {.e = e, .line = 1}, .names = t->names, .n_names = t->n_names};
    jbuild text = {.r = &run.run};
    run.out = &text;
    fill_root(&run, variables, trusted);
    if (jrun_ok(&run.run)) jexec(&run.run, t->body);
    status s = run.run.code;
    if (!s) {
        strbuf_add(&out->text, text.n ? text.p : "", text.n);
        if (out->text.failed || !find_spans(out, &text)) s = fail(e, ERR_NOMEM, "a prompt");
    }
    jrun_free(&run.run);
    if (s) template_text_free(out);
    return s;
}

void template_text_free(template_text *t) {
    strbuf_free(&t->text);
    mem_free(t->input);
    *t = (template_text){0};
}
