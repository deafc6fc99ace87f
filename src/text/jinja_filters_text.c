/* Filters that make texts. What they are given becomes a text first, as str() does it. */
#include "text/jinja_textops.h"

#include "text/jinja_chars.h"
#include "text/unicode.h"

#include <string.h>

static jtext *soft(jrun *r, jval v) { return j_str(r, v); }

static jval cased(jrun *r, jval in, const jargs *a, const char *name, jtext_casing to) {
    jval p[JARGS_MAX];
    return jargs_spread(r, name, a, "", p) ? j_text(jtext_case(r, soft(r, in), to)) : in;
}
static jval f_upper(jrun *r, jval in, const jargs *a) { return cased(r, in, a, "upper", TEXT_UPPER); }
static jval f_lower(jrun *r, jval in, const jargs *a) { return cased(r, in, a, "lower", TEXT_LOWER); }
static jval f_capitalize(jrun *r, jval in, const jargs *a) { return cased(r, in, a, "capitalize", TEXT_CAPITALIZE); }

/* The first letter of each word: words end at - white space ( { [ < only. */
static jval f_title(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "title", a, "", p)) return in;
    jtext *t = soft(r, in);
    jbuild b = {.r = r};
    bool first = true;
    for (size_t at = 0; at < t->n && jrun_ok(r);) {
        utf8_char c = utf8_look((const uint8_t *)t->p + at, (const uint8_t *)t->p + t->n);
        char out[12];
        size_t n = jchar_case(c.cp, first ? CASE_UPPER : CASE_LOWER, out);
        jbuild_add(&b, out, n, t->mark ? t->mark[at] : t->input);
        first = jchar_is_space(c.cp) || (c.cp < 0x80 && strchr("-({[<", (int)c.cp));
        at += c.n;
    }
    return j_text(jbuild_done(&b));
}

static jval f_trim(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    jtext *chars;
    if (!jargs_spread(r, "trim", a, "chars?", p) || !jargs_text(r, p[0], &chars)) return in;
    return j_text(jtext_strip(r, soft(r, in), chars, STRIP_LEFT | STRIP_RIGHT));
}

static jval f_replace(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t count;
    if (!jargs_spread(r, "replace", a, "old new count?", p)) return in;
    if (p[2].kind == J_NONE) p[2].kind = J_ABSENT;
    if (!jargs_int(r, p[2], -1, &count)) return in;
    jtext *old = j_str(r, p[0]), *with = j_str(r, p[1]);
    return j_text(jtext_replace(r, jtext_plain(r, soft(r, in)), old, with, count));
}

static jval f_string(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "string", a, "", p) ? j_text(soft(r, in)) : in;
}
static jval f_safe(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "safe", a, "", p) ? j_text(jtext_safe(r, soft(r, in))) : in;
}
static jval f_escape(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "escape", a, "", p) ? j_text(jtext_escape(r, soft(r, in))) : in;
}
static jval f_forceescape(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    return jargs_spread(r, "forceescape", a, "", p) ? j_text(jtext_escape(r, jtext_plain(r, soft(r, in)))) : in;
}

static jval f_center(jrun *r, jval in, const jargs *a) {
    static const jtext space = {.p = " ", .n = 1};
    jval p[JARGS_MAX];
    int64_t width;
    if (!jargs_spread(r, "center", a, "width?", p) || !jargs_int(r, p[0], 80, &width)) return in;
    return j_text(jtext_pad(r, soft(r, in), width, &space, 0));
}

static bool need_text(jrun *r, jval in, const char *name) {
    if (in.kind == J_UNDEFINED)
        jeval_refuse_undefined(r, in);
    else if (in.kind != J_TEXT)
        jrun_fail(r, "%s: '%s' object is no string", name, j_type_name(in));
    return jrun_ok(r);
}

static jtext *indentation(jrun *r, jval width) {
    if (width.kind == J_TEXT) return width.text;
    int64_t n;
    jbuild b = {.r = r};
    if (jargs_int(r, width, 4, &n))
        jbuild_fill(&b, ' ', n < 0 ? 0 : n > JINJA_MAX_TEXT ? JINJA_MAX_TEXT : (size_t)n, false);
    return jbuild_done(&b);
}

static jval f_indent(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "indent", a, "width? first? blank?", p) || !need_text(r, in, "indent")) return in;
    const bool first = p[1].kind != J_ABSENT && j_truth(r, p[1]), blank = p[2].kind != J_ABSENT && j_truth(r, p[2]);
    const jtext *by = indentation(r, p[0]);
    static const jtext newline = {.p = "\n", .n = 1};
    jlist *l = jtext_lines(r, jtext_concat(r, in.text, &newline), false);
    jbuild b = {.r = r};
    for (size_t i = 0; l && i < l->n && jrun_ok(r); i++) {
        const jtext *line = l->item[i].text;
        if (i) jbuild_puts(&b, "\n");
        if (i ? blank || line->n : first) jbuild_text(&b, by);
        jbuild_text(&b, line);
    }
    return j_text(jtext_like(r, in.text, jbuild_done(&b)));
}

static jval f_truncate(jrun *r, jval in, const jargs *a) {
    static const jtext dots = {.p = "...", .n = 3}, space = {.p = " ", .n = 1};
    jval p[JARGS_MAX];
    int64_t length, leeway;
    jtext *end;
    if (!jargs_spread(r, "truncate", a, "length? killwords? end? leeway?", p) || !need_text(r, in, "truncate"))
        return in;
    if (p[3].kind == J_NONE) p[3].kind = J_ABSENT;
    if (!jargs_int(r, p[0], 255, &length) || !jargs_text(r, p[2], &end) || !jargs_int(r, p[3], 5, &leeway)) return in;
    jtext tail = end ? *end : dots;
    const int64_t n_tail = (int64_t)jtext_chars(&tail);
    if (length < n_tail || leeway < 0)
        return jrun_fail(r, "truncate: expected length >= %lld, leeway >= 0", (long long)n_tail), in;
    jrun_step(r, in.text->n);
    if ((int64_t)jtext_chars(in.text) - leeway <= length) return in;
    jtext *cut = jtext_cut(r, in.text, 0, jtext_at(in.text, (size_t)(length - n_tail)));
    if (p[1].kind == J_ABSENT || !j_truth(r, p[1])) {
        jlist *parts = jtext_rsplit(r, cut, &space, 1);
        if (parts && parts->n) cut = parts->item[0].text;
    }
    return j_text(jtext_concat(r, cut, &tail));
}

static jval f_wordcount(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    int64_t n = 0;
    if (!jargs_spread(r, "wordcount", a, "", p)) return in;
    const jtext *t = soft(r, in);
    bool inside = false;
    for (size_t at = 0; at < t->n && jrun_step(r, 0);) {
        utf8_char c = utf8_look((const uint8_t *)t->p + at, (const uint8_t *)t->p + t->n);
        bool word = c.cp == '_' || c.is & (CHAR_LETTER | CHAR_NUMBER);
        n += word && !inside;
        inside = word;
        at += c.n;
    }
    return j_int(n);
}

/* Tags go, white space becomes single spaces, the five entities that escape makes become characters again. */
static jval f_striptags(jrun *r, jval in, const jargs *a) {
    static const jtext space = {.p = " ", .n = 1};
    static const struct {
        const char *entity, *text;
    } known[] = {{"&lt;", "<"}, {"&gt;", ">"}, {"&#39;", "'"}, {"&#34;", "\""}, {"&quot;", "\""}, {"&amp;", "&"}};
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "striptags", a, "", p)) return in;
    jtext *t = jtext_plain(r, soft(r, in));
    jbuild b = {.r = r};
    size_t from = 0;
    for (size_t at; jrun_ok(r) && (at = jtext_find(r, jtext_str(t), str_of("<"), from)) < t->n;) {
        bool comment = str_starts((str){t->p + at, t->n - at}, "<!--");
        size_t end = jtext_find(r, jtext_str(t), str_of(comment ? "-->" : ">"), at + (comment ? 4 : 0));
        if (end > t->n) break;
        jbuild_part(&b, t, from, at - from);
        from = end + (comment ? 3 : 1);
    }
    jbuild_part(&b, t, from, t->n - from);
    t = jtext_join(r, &space, jtext_split(r, jbuild_done(&b), NULL, -1), true);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        t = jtext_replace(r, t, jtext_new(r, str_of(known[i].entity), false),
                          jtext_new(r, str_of(known[i].text), false), -1);
    return j_text(t);
}

static void add_quoted(jbuild *b, const jtext *t, bool slash) { /* else a space is + */
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < t->n && jrun_ok(b->r); i++) {
        const uint8_t c = (uint8_t)t->p[i];
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c && strchr("_.-~", c)) || (slash && c == '/');
        char esc[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (plain)
            jbuild_part(b, t, i, 1);
        else if (c == ' ' && !slash)
            jbuild_add(b, "+", 1, t->mark ? t->mark[i] : t->input);
        else
            jbuild_add(b, esc, 3, t->mark ? t->mark[i] : t->input);
    }
}

static jval f_urlencode(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "urlencode", a, "", p)) return in;
    jbuild b = {.r = r};
    if (!j_is_list(in) && in.kind != J_DICT) {
        add_quoted(&b, soft(r, in), true);
        return j_text(jbuild_done(&b));
    }
    const jlist *l = in.kind == J_DICT ? NULL : j_items(r, in);
    const size_t n = l ? l->n : in.kind == J_DICT ? in.dict->n : 0;
    for (size_t i = 0; i < n && jrun_ok(r); i++) {
        const jlist *pair = l && (l->item[i].kind == J_TUPLE || l->item[i].kind == J_LIST) ? l->item[i].list : NULL;
        if (l && (!pair || pair->n != 2)) return jrun_fail(r, "urlencode: pairs are expected"), in;
        if (i) jbuild_puts(&b, "&");
        add_quoted(&b, j_str(r, l ? pair->item[0] : in.dict->pair[i].key), false);
        jbuild_puts(&b, "=");
        add_quoted(&b, j_str(r, l ? pair->item[1] : in.dict->pair[i].value), false);
    }
    return j_text(jbuild_done(&b));
}

static jval f_join(jrun *r, jval in, const jargs *a) {
    jval p[JARGS_MAX];
    if (!jargs_spread(r, "join", a, "d? attribute?", p)) return in;
    jlist *l = j_items(r, in);
    if (l && p[1].kind != J_ABSENT && p[1].kind != J_NONE) {
        jlist *picked = jlist_new(r);
        for (size_t i = 0; i < l->n && jrun_ok(r); i++) jlist_add(r, picked, jeval_path(r, l->item[i], p[1]));
        l = picked;
    }
    const jtext *by = p[0].kind == J_ABSENT ? &jtext_empty : j_str(r, p[0]);
    return l ? j_text(jtext_join(r, by, l, true)) : in;
}

/* "%s and %s"|format(a, b) */
static jval f_format(jrun *r, jval in, const jargs *a) {
    if (a->n && a->n_named)
        return jrun_fail(r, "format: can't handle positional and keyword arguments at the same time"), in;
    if (a->n_named) {
        jdict *d = jdict_new(r);
        for (size_t i = 0; d && i < a->n_named; i++)
            jdict_put(r, d, j_text(jtext_new(r, jtext_str(a->name[i]), false)), a->named[i]);
        return d ? jop_percent(r, soft(r, in), j_dict(d)) : in;
    }
    jlist *l = jlist_new(r);
    for (size_t i = 0; l && i < a->n; i++) jlist_add(r, l, a->positional[i]);
    return l ? jop_percent(r, soft(r, in), j_list(J_TUPLE, l)) : in;
}

const jfilter jfilters_text[] = {{"upper", f_upper},
                                 {"lower", f_lower},
                                 {"capitalize", f_capitalize},
                                 {"title", f_title},
                                 {"trim", f_trim},
                                 {"replace", f_replace},
                                 {"string", f_string},
                                 {"safe", f_safe},
                                 {"e", f_escape},
                                 {"escape", f_escape},
                                 {"forceescape", f_forceescape},
                                 {"center", f_center},
                                 {"indent", f_indent},
                                 {"truncate", f_truncate},
                                 {"wordcount", f_wordcount},
                                 {"striptags", f_striptags},
                                 {"urlencode", f_urlencode},
                                 {"join", f_join},
                                 {"format", f_format},
                                 {"tojson", jjson},
                                 {NULL, NULL}};
