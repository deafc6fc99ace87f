#include "text/jinja_text.h"

#include "text/unicode.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const jtext jtext_empty = {.p = ""};
static jtext no_text = {.p = ""}; /* what a failed run gives: never written to, as n is 0 */

jtext *jtext_new(jrun *r, str s, bool input) {
    jtext *t = jrun_take(r, 1, sizeof *t);
    if (!t) return &no_text;
    *t = (jtext){.p = s.n ? s.p : "", .n = s.n, .input = input};
    return t;
}

jtext *jtext_copy(jrun *r, str s, bool input) {
    jbuild b = {.r = r};
    jbuild_add(&b, s.p, s.n, input);
    return jbuild_done(&b);
}

jtext *jtext_format(jrun *r, const char *fmt, ...) {
    char buf[400];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    return jtext_copy(r, (str){buf, n < 0 ? 0 : (size_t)n < sizeof buf ? (size_t)n : sizeof buf - 1}, false);
}

bool jtext_any_input(const jtext *t) { return t->n && (t->mark ? memchr(t->mark, 1, t->n) != NULL : t->input); }

static size_t count_chars(const char *p, size_t n) {
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((uint8_t)p[i] & 0xC0) != 0x80;
    return chars;
}

size_t jtext_chars(jtext *t) {
    if (t->n && !t->n_chars) t->n_chars = count_chars(t->p, t->n);
    return t->n_chars;
}

size_t jtext_at(const jtext *t, size_t i) {
    if (t->n_chars == t->n) return i;
    size_t at = 0;
    for (; i > 0 && at < t->n; i--) at += utf8_lead_len((uint8_t)t->p[at]);
    return at < t->n ? at : t->n;
}

jtext *jtext_cut(jrun *r, const jtext *t, size_t at, size_t n) {
    jtext *c = jtext_new(r, (str){t->p + at, n}, t->input);
    if (c != &no_text) {
        c->mark = t->mark ? t->mark + at : NULL;
        c->markup = t->markup;
    }
    return c;
}

static jtext *with_markup(jrun *r, jtext *t, bool markup) {
    if (t->markup == markup) return t;
    jtext *c = jtext_cut(r, t, 0, t->n);
    if (c != &no_text) c->markup = markup;
    return c;
}

jtext *jtext_plain(jrun *r, jtext *t) { return with_markup(r, t, false); }
jtext *jtext_safe(jrun *r, jtext *t) { return with_markup(r, t, true); }

static const char *entity(char c) {
    return c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '\'' ? "&#39;" : c == '"' ? "&#34;" : NULL;
}

jtext *jtext_escape(jrun *r, jtext *t) {
    if (t->markup) return t;
    jbuild b = {.r = r};
    size_t from = 0;
    for (size_t i = 0; i < t->n; i++) {
        const char *z = entity(t->p[i]);
        if (!z) continue;
        jbuild_part(&b, t, from, i - from);
        jbuild_add(&b, z, strlen(z), t->mark ? t->mark[i] : t->input);
        from = i + 1;
    }
    jbuild_part(&b, t, from, t->n - from);
    return jtext_safe(r, jbuild_done(&b));
}

jtext *jtext_concat(jrun *r, jtext *a, const jtext *b) {
    if (b->n == 0) return a;
    jbuild *g = a->grows;
    if (!g || g->p != a->p || g->n != a->n) { /* none, or someone else has added to it */
        g = jrun_take(r, 1, sizeof *g);
        if (!g) return &no_text;
        g->r = r;
        jbuild_text(g, a);
    }
    jbuild_text(g, b);
    jtext *t = jbuild_done(g);
    if (t != &no_text) {
        t->grows = g;
        t->markup = a->markup;
    }
    return t;
}

/* ---- writing ---- */

static bool room(jbuild *b, size_t n) {
    if (!jrun_step(b->r, n)) return false;
    if (n > JINJA_MAX_TEXT - b->n) {
        jrun_fail(b->r, "a text grows beyond %d MiB", JINJA_MAX_TEXT >> 20);
        return false;
    }
    if (b->n + n <= b->cap) return true;
    size_t cap = b->cap, mark_cap = b->cap;
    char *p = jrun_grow(b->r, b->p, b->n, b->n + n, &cap, 1);
    uint8_t *mark = b->mark && p ? jrun_grow(b->r, b->mark, b->n, b->n + n, &mark_cap, 1) : NULL;
    if (!p || (b->mark && !mark)) return false;
    b->p = p;
    b->mark = mark;
    b->cap = cap;
    return true;
}

/* From here on the bytes differ: each gets a mark of its own. */
static bool make_marks(jbuild *b) {
    if (b->mark) return true;
    b->mark = jrun_take(b->r, b->cap, 1);
    if (b->mark && b->input) memset(b->mark, 1, b->n);
    return b->mark != NULL;
}

/* Room for n more bytes whose marks are those of mark, or all `input`. */
static bool begin(jbuild *b, size_t n, const uint8_t *mark, bool input) {
    if (n == 0 || !room(b, n)) return false;
    if (b->n == 0 && !mark && !b->mark) b->input = input;
    if ((mark || input != b->input) && !make_marks(b)) return false;
    if (b->mark && mark) memcpy(b->mark + b->n, mark, n);
    if (b->mark && !mark) memset(b->mark + b->n, input, n);
    return true;
}

void jbuild_add(jbuild *b, const char *p, size_t n, bool input) {
    if (!begin(b, n, NULL, input)) return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

void jbuild_fill(jbuild *b, char c, size_t n, bool input) {
    if (!begin(b, n, NULL, input)) return;
    memset(b->p + b->n, c, n);
    b->n += n;
}

void jbuild_puts(jbuild *b, const char *z) { jbuild_add(b, z, strlen(z), false); }

void jbuild_part(jbuild *b, const jtext *t, size_t at, size_t n) {
    if (!begin(b, n, t->mark ? t->mark + at : NULL, t->input)) return;
    memcpy(b->p + b->n, t->p + at, n);
    b->n += n;
}

jtext *jbuild_done(jbuild *b) {
    jtext *t = jtext_new(b->r, (str){b->p, b->n}, b->input);
    if (t != &no_text) t->mark = b->mark;
    return t;
}

/* ---- searching ---- */

size_t jtext_find(jrun *r, str t, str what, size_t from) {
    if (from > t.n || what.n > t.n - from || !jrun_step(r, t.n - from)) return t.n + 1;
    if (what.n == 0) return from;
    const char *hit = memmem(t.p + from, t.n - from, what.p, what.n);
    if (hit) r->steps -= (t.n - (size_t)(hit - t.p)) / 16; /* what was not looked at */
    return hit ? (size_t)(hit - t.p) : t.n + 1;
}

size_t jtext_find_last(jrun *r, str t, str what) {
    if (what.n > t.n || !jrun_step(r, t.n)) return t.n + 1;
    for (size_t at = t.n - what.n + 1; at-- > 0;) {
        if (what.n == 0) return at;
        if (t.p[at] != what.p[0]) continue;
        if (!jrun_step(r, what.n)) break;
        if (memcmp(t.p + at, what.p, what.n) == 0) return at;
    }
    return t.n + 1;
}
