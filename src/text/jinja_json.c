/* tojson, as transformers defines it: Python's json.dumps(x, ensure_ascii=False, indent, separators, sort_keys). */
#include "text/jinja_eval.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    jrun *r;
    jbuild out;
    bool ascii, sort;
    bool lines;          /* indent was given */
    const jtext *indent; /* of one level */
    jtext *item, *key;   /* separators */
    uint32_t level;
} writer;

static void write_value(writer *w, jval v);

/* Escape of a code point; 0: it stands as it is. */
static int escape(const writer *w, uint32_t cp, char out[16]) {
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (known) return snprintf(out, 16, "\\%c", to[known - from]);
    if (cp < 0x20 || (w->ascii && cp >= 0x7F && cp < 0x10000)) return snprintf(out, 16, "\\u%04x", cp);
    if (!w->ascii || cp < 0x7F) return 0;
    cp -= 0x10000;
    return snprintf(out, 16, "\\u%04x\\u%04x", 0xD800 + (cp >> 10), 0xDC00 + (cp & 0x3FF));
}

static void write_text(writer *w, const jtext *t, bool input) {
    size_t from = 0;
    jbuild_add(&w->out, "\"", 1, input);
    for (size_t at = 0; at < t->n && jrun_ok(w->r);) {
        char esc[16];
        utf8_char c = utf8_look((const uint8_t *)t->p + at, (const uint8_t *)t->p + t->n);
        int n = escape(w, c.cp, esc);
        if (n) {
            jbuild_part(&w->out, t, from, at - from);
            jbuild_add(&w->out, esc, (size_t)n, t->mark ? t->mark[at] : t->input);
            from = at + c.n;
        }
        at += c.n;
    }
    jbuild_part(&w->out, t, from, t->n - from);
    jbuild_add(&w->out, "\"", 1, input);
}

static void write_number(writer *w, jval v) {
    char buf[40];
    if (v.kind == J_INT) {
        jbuild_add(&w->out, buf, (size_t)snprintf(buf, sizeof buf, "%lld", (long long)v.i), false);
    } else if (isnan(v.f) || isinf(v.f)) {
        jbuild_puts(&w->out, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
    } else {
        jbuild_add(&w->out, buf, j_float_text(v.f, buf), false);
    }
}

static void new_line(writer *w, bool input) {
    if (!w->lines) return;
    jbuild_add(&w->out, "\n", 1, input);
    for (uint32_t i = 0; i < w->level && jrun_ok(w->r); i++) jbuild_add(&w->out, w->indent->p, w->indent->n, input);
}

static void between(writer *w, const jtext *t, bool input) {
    if (input)
        jbuild_add(&w->out, t->p, t->n, true);
    else
        jbuild_text(&w->out, t);
}

static void write_list(writer *w, const jlist *l) {
    jbuild_add(&w->out, "[", 1, l->input);
    w->level++;
    for (size_t i = 0; i < l->n && jrun_ok(w->r); i++) {
        if (i) between(w, w->item, l->input);
        new_line(w, l->input);
        write_value(w, l->item[i]);
    }
    w->level--;
    if (l->n) new_line(w, l->input);
    jbuild_add(&w->out, "]", 1, l->input);
}

static void write_key(writer *w, jval k, bool input) {
    char buf[40];
    size_t n = 0;
    switch (k.kind) {
    case J_TEXT: write_text(w, k.text, input); return;
    case J_BOOL: n = (size_t)snprintf(buf, sizeof buf, "\"%s\"", k.b ? "true" : "false"); break;
    case J_NONE: n = (size_t)snprintf(buf, sizeof buf, "\"null\""); break;
    case J_INT: n = (size_t)snprintf(buf, sizeof buf, "\"%lld\"", (long long)k.i); break;
    case J_FLOAT:
        buf[0] = '"';
        n = 1 + j_float_text(k.f, buf + 1);
        buf[n++] = '"';
        break;
    default: jrun_fail(w->r, "keys must be str, int, float, bool or None, not %s", j_type_name(k)); return;
    }
    jbuild_add(&w->out, buf, n, false);
}

static void write_dict(writer *w, const jdict *d) {
    const jpair *pair = d->pair;
    if (w->sort && d->n > 1) pair = jpairs_sorted(w->r, d);
    jbuild_add(&w->out, "{", 1, d->input);
    w->level++;
    for (size_t i = 0; i < d->n && jrun_ok(w->r); i++) {
        if (i) between(w, w->item, d->input);
        new_line(w, d->input);
        write_key(w, pair[i].key, d->input);
        between(w, w->key, d->input);
        write_value(w, pair[i].value);
    }
    w->level--;
    if (d->n) new_line(w, d->input);
    jbuild_add(&w->out, "}", 1, d->input);
}

static void write_value(writer *w, jval v) {
    if (!jrun_enter(w->r)) {
        jrun_leave(w->r);
        return;
    }
    switch (v.kind) {
    case J_NONE: jbuild_puts(&w->out, "null"); break;
    case J_BOOL: jbuild_puts(&w->out, v.b ? "true" : "false"); break;
    case J_INT:
    case J_FLOAT: write_number(w, v); break;
    case J_TEXT: write_text(w, v.text, jtext_any_input(v.text)); break;
    case J_LIST:
    case J_TUPLE: write_list(w, v.list); break;
    case J_DICT: write_dict(w, v.dict); break;
    default: jrun_fail(w->r, "Object of type %s is not JSON serializable", j_type_name(v));
    }
    jrun_leave(w->r);
}

static bool read_indent(writer *w, jval v) {
    if (v.kind == J_ABSENT || v.kind == J_NONE) return true;
    w->lines = true;
    if (v.kind == J_TEXT) {
        w->indent = v.text;
        return true;
    }
    int64_t n;
    if (!jargs_int(w->r, v, 0, &n)) return false;
    if (n > JINJA_MAX_TEXT) {
        jrun_fail(w->r, "an indentation beyond %d MiB", JINJA_MAX_TEXT >> 20);
        return false;
    }
    jbuild b = {.r = w->r};
    jbuild_fill(&b, ' ', n > 0 ? (size_t)n : 0, false);
    w->indent = jbuild_done(&b);
    return jrun_ok(w->r);
}

jval jjson(jrun *r, jval v, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "tojson", a, "ensure_ascii? indent? separators? sort_keys?", p)) return v;
    writer w = {.r = r, .out = {.r = r}};
    w.ascii = p[0].kind != J_ABSENT && j_truth(r, p[0]);
    w.sort = p[3].kind != J_ABSENT && j_truth(r, p[3]);
    if (!read_indent(&w, p[1])) return v;
    w.item = jtext_new(r, str_of(w.lines ? "," : ", "), false);
    w.key = jtext_new(r, str_of(": "), false);
    if (p[2].kind != J_ABSENT && p[2].kind != J_NONE) {
        const jlist *l = p[2].kind == J_LIST || p[2].kind == J_TUPLE ? p[2].list : NULL;
        if (!l || l->n != 2 || l->item[0].kind != J_TEXT || l->item[1].kind != J_TEXT) {
            jrun_fail(r, "tojson(): separators must be two strings");
            return v;
        }
        w.item = l->item[0].text;
        w.key = l->item[1].text;
    }
    write_value(&w, v);
    return j_text(jbuild_done(&w.out));
}
