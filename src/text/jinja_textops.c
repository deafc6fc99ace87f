#include "text/jinja_textops.h"

#include "text/jinja_chars.h"
#include "text/unicode.h"

#include <string.h>

jtext *jtext_like(jrun *r, const jtext *like, jtext *t) { return like->markup ? jtext_safe(r, t) : t; }

static utf8_char char_at(const jtext *t, size_t at) {
    return utf8_look((const uint8_t *)t->p + at, (const uint8_t *)t->p + t->n);
}

/* ---- strip ---- */

static bool is_among(const jtext *chars, uint32_t cp) {
    if (!chars) return jchar_is_space(cp);
    for (size_t at = 0; at < chars->n;) {
        utf8_char c = char_at(chars, at);
        if (c.cp == cp) return true;
        at += c.n;
    }
    return false;
}

jtext *jtext_strip(jrun *r, jtext *t, const jtext *chars, int sides) {
    size_t from = 0, to = t->n;
    const size_t cost = chars ? chars->n : 0;
    while (sides & STRIP_LEFT && from < to) {
        utf8_char c = char_at(t, from);
        if (!jrun_step(r, cost) || !is_among(chars, c.cp)) break;
        from += c.n;
    }
    while (sides & STRIP_RIGHT && to > from) {
        size_t at = to - 1;
        while (at > from && ((uint8_t)t->p[at] & 0xC0) == 0x80) at--;
        if (!jrun_step(r, cost) || !is_among(chars, char_at(t, at).cp)) break;
        to = at;
    }
    return from == 0 && to == t->n ? t : jtext_cut(r, t, from, to - from);
}

/* ---- replace, split, join ---- */

jtext *jtext_replace(jrun *r, jtext *t, const jtext *what, const jtext *with, int64_t count) {
    jbuild b = {.r = r};
    size_t from = 0;
    if (count < 0) count = INT64_MAX; /* all */
    if (what->n == 0) {               /* between all characters */
        for (; count != 0 && jrun_ok(r); count--) {
            jbuild_text(&b, with);
            if (from >= t->n) break;
            size_t n = char_at(t, from).n;
            jbuild_part(&b, t, from, n);
            from += n;
        }
    } else {
        for (; count != 0 && jrun_ok(r); count--) {
            size_t at = jtext_find(r, jtext_str(t), jtext_str(what), from);
            if (at > t->n) break;
            jbuild_part(&b, t, from, at - from);
            jbuild_text(&b, with);
            from = at + what->n;
        }
        if (from == 0) return t;
    }
    if (from < t->n) jbuild_part(&b, t, from, t->n - from);
    return jtext_like(r, t, jbuild_done(&b));
}

static void add_cut(jrun *r, jlist *l, const jtext *t, size_t from, size_t to) {
    jlist_add(r, l, j_text(jtext_cut(r, t, from, to - from)));
}

static jlist *split_space(jrun *r, jtext *t, int64_t most) {
    jlist *l = jlist_new(r);
    for (size_t at = 0; l && jrun_ok(r);) {
        at += jspace_left((str){t->p + at, t->n - at});
        if (at >= t->n) break;
        size_t to = at;
        if (most >= 0 && (int64_t)l->n >= most) {
            add_cut(r, l, t, at, t->n); /* with the spaces at its end, as Python has it */
            break;
        }
        while (to < t->n) {
            utf8_char c = char_at(t, to);
            if (jchar_is_space(c.cp)) break;
            to += c.n;
        }
        jrun_step(r, to - at);
        add_cut(r, l, t, at, to);
        at = to;
    }
    return l;
}

jlist *jtext_split(jrun *r, jtext *t, const jtext *by, int64_t most) {
    if (!by) return split_space(r, t, most);
    jlist *l = jlist_new(r);
    if (by->n == 0) jrun_fail(r, "empty separator");
    for (size_t from = 0; l && jrun_ok(r);) {
        size_t at = most >= 0 && (int64_t)l->n >= most ? t->n + 1 : jtext_find(r, jtext_str(t), jtext_str(by), from);
        if (at > t->n) {
            add_cut(r, l, t, from, t->n);
            break;
        }
        add_cut(r, l, t, from, at);
        from = at + by->n;
    }
    return l;
}

static void reverse(jlist *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        jval v = l->item[i];
        l->item[i] = l->item[l->n - 1 - i];
        l->item[l->n - 1 - i] = v;
    }
}

static jlist *rsplit_space(jrun *r, jtext *t, int64_t most) {
    jlist *l = jlist_new(r);
    for (size_t to = t->n; l && jrun_ok(r);) {
        to -= jspace_right((str){t->p, to});
        if (to == 0) break;
        size_t at = to;
        if ((int64_t)l->n >= most) {
            at = 0;
        } else {
            while (at > 0) {
                size_t k = at - 1;
                while (k > 0 && ((uint8_t)t->p[k] & 0xC0) == 0x80) k--;
                if (jchar_is_space(char_at(t, k).cp)) break;
                at = k;
            }
        }
        jrun_step(r, to - at);
        add_cut(r, l, t, at, to);
        if ((int64_t)l->n > most) break;
        to = at;
    }
    if (l) reverse(l);
    return l;
}

jlist *jtext_rsplit(jrun *r, jtext *t, const jtext *by, int64_t most) {
    if (most < 0) return jtext_split(r, t, by, most);
    if (!by) return rsplit_space(r, t, most);
    jlist *l = jlist_new(r);
    if (by->n == 0) jrun_fail(r, "empty separator");
    for (size_t to = t->n; l && jrun_ok(r);) {
        size_t at = (int64_t)l->n >= most ? t->n + 1 : jtext_find_last(r, (str){t->p, to}, jtext_str(by));
        if (at > to) {
            add_cut(r, l, t, 0, to);
            break;
        }
        add_cut(r, l, t, at + by->n, to);
        to = at;
    }
    if (l) reverse(l);
    return l;
}

jlist *jtext_lines(jrun *r, jtext *t, bool keep_ends) {
    jlist *l = jlist_new(r);
    size_t from = 0;
    jrun_step(r, t->n);
    for (size_t at = 0; l && at < t->n && jrun_ok(r);) {
        utf8_char c = char_at(t, at);
        size_t next = at + c.n;
        if (jchar_is_line_end(c.cp)) {
            if (c.cp == '\r' && next < t->n && t->p[next] == '\n') next++;
            add_cut(r, l, t, from, keep_ends ? next : at);
            from = next;
        }
        at = next;
    }
    if (l && from < t->n) add_cut(r, l, t, from, t->n);
    return l;
}

jtext *jtext_join(jrun *r, const jtext *by, const jlist *l, bool any) {
    jbuild b = {.r = r};
    for (size_t i = 0; l && i < l->n && jrun_step(r, 0); i++) {
        if (i) jbuild_text(&b, by);
        if (!any && l->item[i].kind != J_TEXT)
            jrun_fail(r, "sequence item %zu: expected str instance, %s found", i, j_type_name(l->item[i]));
        else if (by->markup && !any)
            jbuild_text(&b, jtext_escape(r, l->item[i].text));
        else
            j_str_to(r, l->item[i], &b);
    }
    return jbuild_done(&b);
}

/* ---- case ---- */

static bool cased(uint32_t cp) { return jchar_is_upper(cp) || jchar_is_lower(cp); }

/* Greek sigma at a word's end has a form of its own: 03C2. */
static bool final_sigma(const jtext *t, size_t at, bool after_cased) {
    if (!after_cased) return false;
    utf8_char c = char_at(t, at + 2);
    return !(c.n && c.cp < UNICODE_LIMIT && cased(c.cp));
}

jtext *jtext_case(jrun *r, jtext *t, jtext_casing to) {
    jbuild b = {.r = r};
    bool begun = false, after = false; /* a first character was seen; the one before has case */
    for (size_t at = 0; at < t->n && jrun_ok(r);) {
        utf8_char c = char_at(t, at);
        jcase how = to == TEXT_UPPER ? CASE_UPPER : CASE_LOWER;
        if (to == TEXT_CAPITALIZE && !begun) how = CASE_TITLE;
        if (to == TEXT_TITLE && !after) how = CASE_TITLE;
        if (to == TEXT_SWAP) how = jchar_is_upper(c.cp) ? CASE_LOWER : CASE_UPPER;
        char out[12];
        size_t n = jchar_case(c.cp, how, out);
        if (how == CASE_LOWER && c.cp == 0x3A3 && final_sigma(t, at, after)) n = utf8_write(0x3C2, out);
        jbuild_add(&b, out, n, t->mark ? t->mark[at] : t->input);
        begun = true;
        after = cased(c.cp);
        at += c.n;
    }
    return jtext_like(r, t, jbuild_done(&b));
}

/* ---- the rest ---- */

jtext *jtext_pad(jrun *r, jtext *t, int64_t width, const jtext *fill, int where) {
    jrun_step(r, t->n);
    int64_t more = width - (int64_t)jtext_chars(t);
    if (more <= 0) return t;
    int64_t left = where < 0 ? 0 : where > 0 ? more : more / 2 + (more & width & 1);
    jbuild b = {.r = r};
    if (more > JINJA_MAX_TEXT) jrun_fail(r, "a text grows beyond %d MiB", JINJA_MAX_TEXT >> 20);
    for (int64_t i = 0; i < left && jrun_ok(r); i++) jbuild_text(&b, fill);
    jbuild_text(&b, t);
    for (int64_t i = left; i < more && jrun_ok(r); i++) jbuild_text(&b, fill);
    return jtext_like(r, t, jbuild_done(&b));
}

bool jtext_all(const jtext *t, unsigned classes) {
    for (size_t at = 0; at < t->n;) {
        utf8_char c = char_at(t, at);
        if (!(c.is & classes)) return false;
        at += c.n;
    }
    return t->n > 0;
}
