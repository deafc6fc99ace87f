#include "text/jinja_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LARGE_BYTES = 8 << 10, BYTES_A_STEP = 16 };

void jrun_fail(jrun *r, const char *fmt, ...) {
    if (r->code) return;
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    r->code = fail(r->e, ERR_TEMPLATE, "chat template, line %u: %s", r->line, why);
}

void *jrun_take(jrun *r, size_t n, size_t elem_bytes) {
    size_t total;
    if (r->code) return NULL;
    if (__builtin_mul_overflow(n, elem_bytes, &total) || total > JINJA_MAX_MEMORY - r->n_bytes) {
        jrun_fail(r, "it takes more than %d MiB of memory", JINJA_MAX_MEMORY >> 20);
        return NULL;
    }
    const size_t counted = total + 16;
    r->n_bytes += counted < JINJA_MAX_MEMORY - r->n_bytes ? counted : JINJA_MAX_MEMORY - r->n_bytes;
    void *p = arena_take(total >= LARGE_BYTES ? &r->large : &r->small, total);
    if (!p) r->code = fail(r->e, ERR_NOMEM, "a chat template");
    return p;
}

void *jrun_grow(jrun *r, void *old, size_t n, size_t want, size_t *cap, size_t elem_bytes) {
    if (want <= *cap) return old;
    size_t more = *cap ? 2 * *cap : 8;
    while (more < want) more *= 2;
    void *p = jrun_take(r, more, elem_bytes);
    if (!p) return NULL;
    if (n) memcpy(p, old, n * elem_bytes);
    *cap = more;
    return p;
}

bool jrun_step(jrun *r, size_t n_bytes) {
    if (r->code) return false;
    r->steps += 1 + n_bytes / BYTES_A_STEP;
    if (r->steps <= JINJA_MAX_STEPS) return true;
    jrun_fail(r, "it takes more than %d steps", JINJA_MAX_STEPS);
    return false;
}

bool jrun_enter(jrun *r) {
    r->depth++;
    if (r->depth > JINJA_MAX_DEPTH) jrun_fail(r, "nested more than %d levels deep", JINJA_MAX_DEPTH);
    return jrun_step(r, 0);
}

void jrun_free(jrun *r) {
    arena_free(&r->small);
    arena_free(&r->large);
}
