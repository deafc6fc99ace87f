/* Merging neighbours: SPM and BPE both cut a word into characters and then join the best pair of neighbours, again and
 * again, the leftmost of equals first. What differs is which pairs join and how good that is: a function given here.
 * O(n log n) in time, about 60 bytes of scratch for each character of the longest word. Not shared between threads. */
#ifndef ROCMFORGE_TEXT_MERGE_H
#define ROCMFORGE_TEXT_MERGE_H

#include "text/tokenizer.h"

enum { MERGE_END = -1 };
#define MERGE_NEVER UINT32_MAX

typedef struct {
    uint32_t at, n;     /* bytes of the word; n 0: was merged into the one before */
    int32_t prev, next; /* MERGE_END */
    token_id id;        /* TOKEN_NONE: a character that is no token */
    uint32_t order;     /* of joining with the next: lowest first; MERGE_NEVER */
    token_id joined;    /* the token that this would make */
} merge_symbol;

/* Sets left->order and left->joined for the pair (left, right), which are neighbours; false: they do not join. */
typedef bool (*merge_rule)(const void *ctx, merge_symbol *left, const merge_symbol *right);

typedef struct {
    merge_symbol *sym; /* [n] in text order; the caller appends characters with merge_add */
    size_t n, cap;
    /* Pairs waiting, as order << 32 | index of the left one. Most come in ascending order: those stand in a queue, a ring
     * that takes what is not below its last; the others in a heap with four children a node. */
    uint64_t *queue, *heap; /* [2 * cap] each */
    size_t head, n_queue, n_heap;
    uint64_t last;
    void *block; /* holds all three */
    size_t block_bytes;
} merger; /* {0} is empty */

void merge_free(merger *m);
bool merge_reserve(merger *m, size_t n); /* room for a word of n characters; empties it. false: out of memory */
void merge_add(merger *m, uint32_t at, uint32_t n, token_id id);
void merge_run(merger *m, merge_rule rule, const void *ctx); /* then walk sym[0], sym[.next], ... */

/* A list of tokens that grows; remembers when it could not. */
typedef struct {
    token_id *p;
    size_t n, cap;
    bool failed;
} token_vec;
void token_vec_add(token_vec *v, token_id id);

#endif
