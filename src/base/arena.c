#include "base/arena.h"

#include "base/mem.h"

#include <string.h>

enum { CHUNK_BYTES = 64 << 10, ALIGN = 16 };

struct arena_chunk {
    arena_chunk *before;
    size_t size, used; /* of data */
    _Alignas(ALIGN) char data[];
};

void *arena_take(arena *a, size_t n_bytes) {
    if (n_bytes > SIZE_MAX / 2) return NULL;
    n_bytes = (n_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    arena_chunk *c = a->last;
    if (!c || c->size - c->used < n_bytes) {
        size_t size = n_bytes > CHUNK_BYTES ? n_bytes : CHUNK_BYTES;
        c = mem_zalloc(sizeof *c + size);
        if (!c) return NULL;
        c->size = size;
        c->before = a->last;
        a->last = c;
    }
    void *p = c->data + c->used;
    c->used += n_bytes;
    return p;
}

void *arena_array(arena *a, size_t n, size_t elem_bytes) {
    size_t total;
    if (__builtin_mul_overflow(n, elem_bytes, &total)) return NULL;
    return arena_take(a, total);
}

char *arena_strndup(arena *a, const char *p, size_t n) {
    char *s = n < SIZE_MAX ? arena_take(a, n + 1) : NULL;
    if (s && n) memcpy(s, p, n);
    return s;
}

size_t arena_bytes(const arena *a) {
    size_t n = 0;
    for (const arena_chunk *c = a->last; c; c = c->before) n += sizeof *c + c->size;
    return n;
}

void arena_free(arena *a) {
    while (a->last) {
        arena_chunk *before = a->last->before;
        mem_free(a->last);
        a->last = before;
    }
}
