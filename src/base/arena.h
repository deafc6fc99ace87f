/* An arena: memory that is born together and dies together. It grows by chunks, hands out zeroed pieces, frees all at
 * once. One owner, one thread at a time. */
#ifndef ROCMFORGE_BASE_ARENA_H
#define ROCMFORGE_BASE_ARENA_H

#include <stddef.h>

typedef struct arena_chunk arena_chunk;
typedef struct {
    arena_chunk *last;
} arena; /* {0} is an empty arena */

void *arena_take(arena *a, size_t n_bytes);               /* zeroed, 16-byte aligned; NULL: out of memory */
void *arena_array(arena *a, size_t n, size_t elem_bytes); /* the same, NULL on overflow of the product */
char *arena_strndup(arena *a, const char *p, size_t n);
size_t arena_bytes(const arena *a); /* taken from the allocator */
void arena_free(arena *a);          /* everything; the arena is empty again */

#endif
