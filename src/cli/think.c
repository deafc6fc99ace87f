#include "cli/think.h"

#include <string.h>

static const char opening[] = "<think>", closing[] = "</think>";

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static str trim_end(str s) {
    while (s.n && is_space(s.p[s.n - 1])) s.n--;
    return s;
}

bool think_in_template(str tmpl) { return tmpl.n && memmem(tmpl.p, tmpl.n, closing, sizeof closing - 1); }

void think_start(think *t, bool on, str prompt) {
    const size_t k = sizeof opening - 1;
    prompt = trim_end(prompt);
    bool open = prompt.n >= k && memcmp(prompt.p + prompt.n - k, opening, k) == 0;
    *t = (think){.at = !on ? THINK_ANSWER : open ? THINK_INSIDE : THINK_BEFORE};
}

static void drop(strbuf *b, size_t n) {
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
}

static void give(think *t, size_t n, bool thinking, think_sink sink, void *user) {
    if (n) sink(user, thinking, t->held.p, n);
    t->said = t->said || n > 0;
    drop(&t->held, n);
}

static size_t leading_space(const strbuf *b) {
    size_t n = 0;
    while (n < b->n && is_space(b->p[n])) n++;
    return n;
}

/* Before anything was said: a whole opening tag, what may become one, or plain text, white space and all. */
static bool step_before(think *t, think_sink sink, void *user) {
    size_t at = leading_space(&t->held), have = t->held.n - at, k = sizeof opening - 1;
    if (memcmp(t->held.p + at, opening, have < k ? have : k) == 0) {
        if (have < k) return false;
        drop(&t->held, at + k);
        t->at = THINK_INSIDE;
        return true;
    }
    t->at = THINK_ANSWER;
    give(t, t->held.n, false, sink, user);
    return false;
}

/* Inside: all up to the closing tag, less what may be its beginning and the white space before it. */
static bool step_inside(think *t, think_sink sink, void *user) {
    if (!t->said) drop(&t->held, leading_space(&t->held));
    const char *end = memmem(t->held.p, t->held.n, closing, sizeof closing - 1);
    if (end) {
        size_t n = (size_t)(end - t->held.p);
        size_t said = trim_end((str){t->held.p, n}).n;
        give(t, said, true, sink, user);
        drop(&t->held, n - said + sizeof closing - 1);
        t->at = THINK_AFTER;
        return true;
    }
    size_t keep = t->held.n < sizeof closing - 2 ? t->held.n : sizeof closing - 2;
    while (keep && memcmp(t->held.p + t->held.n - keep, closing, keep)) keep--;
    give(t, trim_end((str){t->held.p, t->held.n - keep}).n, true, sink, user);
    return false;
}

static bool step_after(think *t, think_sink sink, void *user) {
    drop(&t->held, leading_space(&t->held));
    if (!t->held.n) return false;
    t->at = THINK_ANSWER;
    give(t, t->held.n, false, sink, user);
    return false;
}

void think_add(think *t, const char *p, size_t n, think_sink sink, void *user) {
    if (t->at == THINK_ANSWER) {
        if (n) sink(user, false, p, n);
        return;
    }
    strbuf_add(&t->held, p, n);
    bool more = t->held.n > 0;
    while (more && t->at != THINK_ANSWER)
        more = t->at == THINK_BEFORE   ? step_before(t, sink, user)
               : t->at == THINK_INSIDE ? step_inside(t, sink, user)
                                       : step_after(t, sink, user);
}

void think_end(think *t, think_sink sink, void *user) {
    if (t->held.n) sink(user, t->at == THINK_INSIDE, t->held.p, t->held.n);
    strbuf_free(&t->held);
}
