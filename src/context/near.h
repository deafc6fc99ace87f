/* The k best of many, best first: by similarity, and by the smaller id among equals. Plain data; one thread. */
#ifndef ROCMFORGE_CONTEXT_NEAR_H
#define ROCMFORGE_CONTEXT_NEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t id; /* a message */
    float similarity;
} near_one;

typedef struct {
    near_one *item; /* [cap], sorted up to n */
    size_t n, cap;
} near_list;

bool near_open(near_list *l, size_t cap); /* false: out of memory */
void near_close(near_list *l);
void near_put(near_list *l, int64_t id, float similarity);

#endif
