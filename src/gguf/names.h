/* A hash table from names to positions in an array whose items begin with their name (a `str`). Borrows the array, owns
 * the slots. The hash is keyed anew for each table: a file cannot be made so that its names collide. Immutable once
 * built, any thread may look up. */
#ifndef ROCMFORGE_GGUF_NAMES_H
#define ROCMFORGE_GGUF_NAMES_H

#include "base/err.h"
#include "base/str.h"

typedef struct {
    const void *items; /* n items of stride bytes, each beginning with its str */
    size_t n, stride;
    uint32_t *slot; /* position + 1, 0 is free; n_slots is a power of two, at least 2 n */
    size_t n_slots;
    uint64_t key[2];
} names; /* {0} is empty */

enum { NAMES_MAX = 1 << 20 };

/* *twice: the position of the first item whose name was there already, n when all differ. */
MUST_CHECK status names_build(names *t, const void *items, size_t n, size_t stride, size_t *twice, err *e);
const void *names_find(const names *t, str name); /* the item; NULL: absent */
void names_free(names *t);

#endif
