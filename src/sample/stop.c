/* Stop strings by the failure function of Knuth, Morris and Pratt, one state per string: the text is met at the first byte
 * that completes one; of several that end there the longest counts, then the first in the list. So the answer does not
 * depend on how the text was cut into pieces. What is held back is always a prefix of the string whose state is longest:
 * no buffer is needed. */
#include "base/mem.h"
#include "sample/sample.h"

#include <string.h>

typedef struct {
    char *text; /* n bytes; owned, as is fallback */
    size_t n;
    size_t *fallback; /* [n]: length of the longest proper prefix of text[0..i] that also ends it */
    size_t state;     /* how much of text the stream now ends with, < n */
} pattern;

struct stop_matcher {
    size_t n;
    int met; /* index, -1: none so far */
    pattern *pat;
};

static status pattern_init(pattern *p, const char *z, err *e) {
    p->n = strlen(z);
    if (p->n == 0) return fail(e, ERR_RANGE, "an empty stop string");
    p->text = mem_strndup(z, p->n);
    p->fallback = mem_array(p->n, sizeof *p->fallback);
    if (!p->text || !p->fallback) return fail(e, ERR_NOMEM, "stop strings");
    for (size_t i = 1, k = 0; i < p->n; i++) {
        while (k > 0 && z[i] != z[k]) k = p->fallback[k - 1];
        if (z[i] == z[k]) k++;
        p->fallback[i] = k;
    }
    return OK;
}

/* True when the byte completes the string. */
static bool pattern_step(pattern *p, char c) {
    while (p->state > 0 && p->text[p->state] != c) p->state = p->fallback[p->state - 1];
    if (p->text[p->state] == c) p->state++;
    return p->state == p->n;
}

status stop_matcher_new(stop_matcher **out, const char *const *stops, size_t n, err *e) {
    *out = NULL;
    stop_matcher *m = mem_zalloc(sizeof *m);
    if (!m) return fail(e, ERR_NOMEM, "stop strings");
    m->met = -1;
    m->pat = mem_array(n, sizeof *m->pat);
    status s = m->pat ? OK : fail(e, ERR_NOMEM, "stop strings");
    if (!s) m->n = n;
    for (size_t i = 0; !s && i < n; i++) s = pattern_init(&m->pat[i], stops[i], e);
    if (s)
        stop_matcher_free(m);
    else
        *out = m;
    return s;
}

void stop_matcher_free(stop_matcher *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n; i++) {
        mem_free(m->pat[i].text);
        mem_free(m->pat[i].fallback);
    }
    mem_free(m->pat);
    mem_free(m);
}

/* The string that the stream now ends with the most of; NULL when nothing is held back. */
static const pattern *longest_held(const stop_matcher *m) {
    const pattern *best = NULL;
    for (size_t i = 0; i < m->n; i++)
        if (m->pat[i].state > (best ? best->state : 0)) best = &m->pat[i];
    return best;
}

/* Index of the longest string that c completes, or -1. */
static int step(stop_matcher *m, char c) {
    int met = -1;
    for (size_t i = 0; i < m->n; i++)
        if (pattern_step(&m->pat[i], c) && (met < 0 || m->pat[i].n > m->pat[met].n)) met = (int)i;
    return met;
}

/* The first n bytes of what was held back followed by text. */
static void show(strbuf *out, const char *held, size_t n_held, const char *text, size_t n) {
    strbuf_add(out, held, n < n_held ? n : n_held);
    if (n > n_held) strbuf_add(out, text, n - n_held);
}

int stop_matcher_push(stop_matcher *m, const char *text, size_t n, strbuf *out) {
    if (m->met >= 0) return m->met;
    const pattern *before = longest_held(m);
    const char *held = before ? before->text : "";
    const size_t n_held = before ? before->state : 0;
    for (size_t i = 0; i < n; i++) {
        m->met = step(m, text[i]);
        if (m->met < 0) continue;
        show(out, held, n_held, text, n_held + i + 1 - m->pat[m->met].n);
        return m->met;
    }
    const pattern *after = longest_held(m);
    show(out, held, n_held, text, n_held + n - (after ? after->state : 0));
    return -1;
}

void stop_matcher_flush(stop_matcher *m, strbuf *out) {
    const pattern *p = m->met < 0 ? longest_held(m) : NULL;
    if (p) strbuf_add(out, p->text, p->state);
    for (size_t i = 0; i < m->n; i++) m->pat[i].state = 0;
}
