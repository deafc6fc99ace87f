/* A queue of records from one thread (the engine's) to one other (the loop's): a ring of fixed size, and when that is full a
 * list, so that nothing is lost and nobody waits. Putting allocates only when the ring is full; last records (the end of a
 * generation) then come from a reserve made at the start, so that an end is never lost. Records come out in the order in which
 * they were put in.
 *
 *     tail          head
 *      v             v          a record: n u32, 0 u32, n bytes, padding to 8
 *     |rec|rec|  rec |  free  |skip|        skip: n = UINT32_MAX, the rest of the round is unused
 */
#ifndef ROCMFORGE_SERVER_RING_H
#define ROCMFORGE_SERVER_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ring ring;

typedef struct {
    const void *p;
    size_t n;
} ring_part;

/* bytes: a power of two. n_last records of at most last_bytes are held in reserve. NULL: out of memory. */
ring *ring_new(size_t bytes, uint32_t n_last, size_t last_bytes);
void ring_free(ring *r); /* when neither thread uses it any more; NULL is fine */

/* The putting thread. A record is its parts, one after the other. */
bool ring_put(ring *r, const ring_part *part, uint32_t n_parts);      /* false: full and out of memory, not taken */
void ring_put_last(ring *r, const ring_part *part, uint32_t n_parts); /* at most n_last times, last_bytes each */

/* The taking thread: the next record, aligned to 8, valid until the next call. NULL: there is none. */
const void *ring_next(ring *r, size_t *n);

#endif
