/* str() and repr(): what {{ value }} shows. */
#include "text/jinja_eval.h"
#include "text/jinja_value.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest decimal that reads back as f; an exponent below 1e-4 and from 1e16 on; always with a point or exponent. */
size_t j_float_text(double f, char out[32]) {
    if (isnan(f) || isinf(f)) return (size_t)snprintf(out, 32, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
    char digits[32];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1);
    if (exponent < -4 || exponent >= 16) {
        *e = 0;
        return (size_t)snprintf(out, 32, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
    }
    int decimals = precision - exponent;
    return (size_t)snprintf(out, 32, "%.*f", decimals < 1 ? 1 : decimals, f);
}

/* Python's repr of a string: single quotes unless it holds some and no double ones. */
static void repr_text(jbuild *out, const jtext *t) {
    const bool one = memchr(t->p, '\'', t->n), two = memchr(t->p, '"', t->n);
    const char quote = one && !two ? '"' : '\'';
    const bool input = jtext_any_input(t);
    if (t->markup) jbuild_add(out, "Markup(", 7, input);
    jbuild_add(out, &quote, 1, input);
    for (size_t at = 0; at < t->n && jrun_ok(out->r);) {
        utf8_char c = utf8_look((const uint8_t *)t->p + at, (const uint8_t *)t->p + t->n);
        const bool from = t->mark ? t->mark[at] : t->input;
        char esc[16];
        int n = 0;
        const char *letter = c.cp == '\n' ? "\\n" : c.cp == '\r' ? "\\r" : c.cp == '\t' ? "\\t" : NULL;
        if (letter)
            n = snprintf(esc, sizeof esc, "%s", letter);
        else if (c.cp == '\\' || c.cp == (uint32_t)quote)
            n = snprintf(esc, sizeof esc, "\\%c", (int)c.cp);
        else if (c.cp != ' ' && (!(c.is & ~(unsigned)(CHAR_ANY | CHAR_SPACE | CHAR_CONTROL)) || c.is & CHAR_SPACE))
            n = snprintf(esc, sizeof esc, c.cp < 0x100 ? "\\x%02x" : c.cp < 0x10000 ? "\\u%04x" : "\\U%08x", c.cp);
        if (n)
            jbuild_add(out, esc, (size_t)n, from);
        else
            jbuild_part(out, t, at, c.n);
        at += c.n;
    }
    jbuild_add(out, &quote, 1, input);
    if (t->markup) jbuild_add(out, ")", 1, input);
}

static void repr_to(jrun *r, jval v, jbuild *out);

static void repr_items(jrun *r, const jlist *l, const char *open, const char *close, jbuild *out) {
    jbuild_puts(out, open);
    for (size_t i = 0; i < l->n && jrun_ok(r); i++) {
        if (i) jbuild_add(out, ", ", 2, l->input);
        repr_to(r, l->item[i], out);
    }
    jbuild_puts(out, close);
}

static void repr_dict(jrun *r, const jdict *d, jbuild *out) {
    jbuild_add(out, "{", 1, d->input);
    for (size_t i = 0; i < d->n && jrun_ok(r); i++) {
        if (i) jbuild_add(out, ", ", 2, d->input);
        repr_to(r, d->pair[i].key, out);
        jbuild_add(out, ": ", 2, d->input);
        repr_to(r, d->pair[i].value, out);
    }
    jbuild_add(out, "}", 1, d->input);
}

static void repr_range(const jlist *l, jbuild *out) {
    char buf[96];
    int n = l->range[2] == 1
                ? snprintf(buf, sizeof buf, "range(%lld, %lld)", (long long)l->range[0], (long long)l->range[1])
                : snprintf(buf, sizeof buf, "range(%lld, %lld, %lld)", (long long)l->range[0], (long long)l->range[1],
                           (long long)l->range[2]);
    jbuild_add(out, buf, (size_t)n, false);
}

static void repr_nested(jrun *r, jval v, jbuild *out) {
    if (v.kind == J_LIST) {
        repr_items(r, v.list, "[", "]", out);
    } else if (v.kind == J_TUPLE) {
        repr_items(r, v.list, "(", v.list->n == 1 ? ",)" : ")", out);
    } else if (v.kind == J_VIEW) {
        jbuild_puts(out, v.list->name);
        repr_items(r, v.list, "([", "])", out);
    } else if (v.kind == J_DICT) {
        repr_dict(r, v.dict, out);
    } else {
        jbuild_puts(out, "<Namespace ");
        repr_dict(r, v.dict, out);
        jbuild_puts(out, ">");
    }
}

static void repr_to(jrun *r, jval v, jbuild *out) {
    char buf[48];
    switch (v.kind) {
    case J_UNDEFINED: jbuild_puts(out, "Undefined"); return;
    case J_NONE: jbuild_puts(out, "None"); return;
    case J_BOOL: jbuild_puts(out, v.b ? "True" : "False"); return;
    case J_INT: jbuild_add(out, buf, (size_t)snprintf(buf, sizeof buf, "%lld", (long long)v.i), false); return;
    case J_FLOAT: jbuild_add(out, buf, j_float_text(v.f, buf), false); return;
    case J_TEXT: repr_text(out, v.text); return;
    case J_RANGE: repr_range(v.list, out); return;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
    case J_DICT:
    case J_NAMESPACE:
        if (jrun_enter(r)) repr_nested(r, v, out);
        jrun_leave(r);
        return;
    case J_LOOP: jloop_repr(v.loop, out); return;
    default:
        jbuild_puts(out, "<");
        jbuild_puts(out, j_type_name(v));
        jbuild_puts(out, ">");
        return;
    }
}

void j_str_to(jrun *r, jval v, jbuild *out) {
    if (v.kind == J_TEXT)
        jbuild_text(out, v.text);
    else if (v.kind != J_UNDEFINED)
        repr_to(r, v, out);
}

jtext *j_str(jrun *r, jval v) {
    if (v.kind == J_TEXT) return v.text;
    jbuild b = {.r = r};
    j_str_to(r, v, &b);
    return jbuild_done(&b);
}

jtext *j_repr(jrun *r, jval v) {
    jbuild b = {.r = r};
    repr_to(r, v, &b);
    return jbuild_done(&b);
}
