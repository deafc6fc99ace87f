/* One rendering: its memory, its budget and its error. All memory of a rendering comes from here and is freed at once.
 * The first failure counts and stays (`code`); from then on every function returns quickly with something harmless, and
 * loops ask jrun_ok. One thread. */
#ifndef ROCMFORGE_TEXT_JINJA_RUN_H
#define ROCMFORGE_TEXT_JINJA_RUN_H

#include "base/arena.h"
#include "base/err.h"

#include <stdint.h>

enum {
    JINJA_MAX_DEPTH = 256,          /* of nesting, in a template and in its evaluation */
    JINJA_MAX_TEXT = 16 << 20,      /* bytes of any text, the output among them */
    JINJA_MAX_MEMORY = 256 << 20,   /* bytes of a rendering */
    JINJA_MAX_STEPS = 10 * 1000000, /* evaluated nodes, items, and 16 bytes of text each */
    JINJA_MAX_RANGE = 100000        /* jinja2's own limit in its sandbox */
};

typedef struct {
    arena small, large; /* large: pieces that would waste the rest of a chunk */
    size_t n_bytes;
    uint64_t steps;
    uint32_t depth, line; /* line: of the template, where we are */
    status code;
    err *e;
} jrun;

static inline bool jrun_ok(const jrun *r) { return r->code == OK; }
void *jrun_take(jrun *r, size_t n, size_t elem_bytes); /* zeroed; NULL: failed, and said so */
/* More room for an array of n elements, at least `want` and at most *cap afterwards; the old array stays readable. */
void *jrun_grow(jrun *r, void *old, size_t n, size_t want, size_t *cap, size_t elem_bytes);
bool jrun_step(jrun *r, size_t n_bytes); /* one step, and those of so many bytes; false: the budget is spent */
bool jrun_enter(jrun *r);                /* one level deeper; false: too deep. jrun_leave either way */
static inline void jrun_leave(jrun *r) { r->depth--; }
__attribute__((format(printf, 2, 3), cold)) void jrun_fail(jrun *r, const char *fmt, ...); /* "line 3: ..." */
void jrun_free(jrun *r);

#endif
