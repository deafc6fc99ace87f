/* The k largest of n values, best first, the lowest index first among equals. Linear in n for any k: a histogram of the
 * upper bits finds a value that at least k reach, what reaches it is collected and sorted by radix. Nothing is allocated
 * but by topk_init. One thread at a time. */
#ifndef ROCMFORGE_SAMPLE_TOPK_H
#define ROCMFORGE_SAMPLE_TOPK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t *key, *spare; /* [n_max]; key: upper half an order-keeping form of the value, lower half the index */
    uint32_t *count;       /* histogram */
} topk;

bool topk_init(topk *t, uint32_t n_max); /* false: out of memory; topk_free is fine then, too */
void topk_free(topk *t);

/* Leaves in t->key the best min(k, n less those that are -infinity) and returns how many. No NaN in x. */
uint32_t topk_select(topk *t, const float *x, uint32_t n, uint32_t k);
static inline uint32_t topk_index(uint64_t key) { return (uint32_t)key; }

#endif
