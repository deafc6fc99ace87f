/* Text of a rendering: immutable UTF-8 bytes, each of which knows whether it came from the request. Owned by the rendering.
 * Texts that are only ever added to at the end (ns.text = ns.text ~ more) share one growing buffer, so that building a
 * prompt piece by piece costs its length and not its square. */
#ifndef ROCMFORGE_TEXT_JINJA_TEXT_H
#define ROCMFORGE_TEXT_JINJA_TEXT_H

#include "base/str.h"
#include "text/jinja_run.h"

/* A text being written. Failures stand in the run. Starts as {.r = r}. */
typedef struct {
    jrun *r;
    char *p;
    uint8_t *mark; /* [cap] 1: from the request; NULL while every byte is as `input` says */
    size_t n, cap;
    bool input;
} jbuild;

typedef struct {
    const char *p;
    const uint8_t *mark; /* [n] as in jbuild */
    size_t n;
    size_t n_chars; /* 0: not counted yet */
    bool input;     /* where mark is NULL */
    bool markup;    /* jinja2's Markup: what |safe makes; + escapes what is added to it */
    jbuild *grows;  /* the buffer whose whole content this is; NULL: none */
} jtext;

extern const jtext jtext_empty;

jtext *jtext_new(jrun *r, str s, bool input); /* borrows the bytes */
jtext *jtext_copy(jrun *r, str s, bool input);
jtext *jtext_format(jrun *r, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* short ones; not input */
static inline str jtext_str(const jtext *t) { return (str){t->p, t->n}; }
bool jtext_any_input(const jtext *t);
size_t jtext_chars(jtext *t);                                   /* code points */
size_t jtext_at(const jtext *t, size_t i);                      /* byte place of character i; i <= chars */
jtext *jtext_cut(jrun *r, const jtext *t, size_t at, size_t n); /* bytes */
jtext *jtext_concat(jrun *r, jtext *a, const jtext *b);
jtext *jtext_plain(jrun *r, jtext *t);  /* the same, no Markup */
jtext *jtext_safe(jrun *r, jtext *t);   /* the same, Markup */
jtext *jtext_escape(jrun *r, jtext *t); /* & < > ' " as HTML wants them; Markup stays as it is */

void jbuild_add(jbuild *b, const char *p, size_t n, bool input);
void jbuild_puts(jbuild *b, const char *z);                       /* not input */
void jbuild_fill(jbuild *b, char c, size_t n, bool input);        /* n times c */
void jbuild_part(jbuild *b, const jtext *t, size_t at, size_t n); /* with its marks */
static inline void jbuild_text(jbuild *b, const jtext *t) { jbuild_part(b, t, 0, t->n); }
jtext *jbuild_done(jbuild *b); /* never NULL: an empty text where the run failed */

/* Place of the first `what` in t at or after byte `from`, or t.n + 1. The empty text is found at once. */
size_t jtext_find(jrun *r, str t, str what, size_t from);
size_t jtext_find_last(jrun *r, str t, str what);

#endif
