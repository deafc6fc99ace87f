/* Pages of a large block brought in before they are needed. The first touch of a huge page costs milliseconds (5 on a small
 * virtual machine), and sequences that began together meet new pages in the same step: without this their tokens stall.
 * A thread of its own at low priority touches as much again as is in use, contents unchanged (MADV_POPULATE_WRITE; a kernel
 * before 5.14 has none: then nothing is done, and steps pay as they go). */
#ifndef ROCMFORGE_BACKEND_CPU_WARM_H
#define ROCMFORGE_BACKEND_CPU_WARM_H

#include <stddef.h>

typedef struct warm warm;

warm *warm_open(void *block, size_t n_bytes); /* NULL: a small block, or no thread to be had; nothing is lost by it */
void warm_reach(warm *w, size_t n_bytes); /* so much of the block is in use; w may be NULL. Cheap, one thread calls */
size_t warm_done(warm *w);                /* brought in so far */
void warm_close(warm *w);                 /* before the block is unmapped */

#endif
