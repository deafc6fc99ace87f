/* The one allocator seam. Every allocation of the engine (and of jansson) goes through here, so that a test can fail the
 * Nth of them, count what is alive, and show that a running step takes none. Thread-safe; the counters are atomic.
 * Blocks are freed with mem_free only. In normal use it is malloc with three relaxed atomic additions. */
#ifndef ROCMFORGE_BASE_MEM_H
#define ROCMFORGE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t n_bytes);                 /* NULL: out of memory. n_bytes 0 gives a unique block */
void *mem_zalloc(size_t n_bytes);                /* zeroed */
void *mem_array(size_t n, size_t elem_bytes);    /* zeroed; NULL on overflow of the product too */
void *mem_resize(void *p, size_t n_bytes);       /* as realloc; p stays valid when NULL comes back */
void *mem_aligned(size_t n_bytes, size_t align); /* zeroed; align a power of two */
char *mem_strndup(const char *p, size_t n);      /* n bytes and a terminator */
void mem_free(void *p);                          /* NULL is fine */

/* Anonymous pages for large blocks (weights, KV, activations): zeroed, 2 MiB aligned where that fits, huge pages asked
 * for. Resident only as touched. Counted and failed like the others. */
void *mem_map(size_t n_bytes);
void mem_unmap(void *p, size_t n_bytes);

/* For tests: fail allocation number n from now (1 is the next); off returns whether it fired. */
void mem_fail_at(uint64_t n);
bool mem_fail_off(void);
uint64_t mem_live(void);  /* blocks now alive */
uint64_t mem_calls(void); /* allocations so far, all threads */

#endif
