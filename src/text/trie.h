/* A trie of token texts, a byte a step: all tokens that begin at a place of a text are found in one walk. One flat hash of
 * edges with a seed of its own vocabulary, so that texts from a file cannot be made to collide. Owns its memory and keeps no
 * view of the texts. Immutable once filled: any thread may walk. */
#ifndef ROCMFORGE_TEXT_TRIE_H
#define ROCMFORGE_TEXT_TRIE_H

#include "text/vocab.h"

/* A walk ends after the longest text, so it bounds the time for each byte of an input. */
enum { TRIE_MAX_TEXT = 1024, TRIE_MAX_NODES = (1 << 24) - 1, TRIE_ROOT = 0 };

typedef struct {
    uint32_t key;   /* node << 8 | byte */
    uint32_t child; /* 0: free, since no edge leads to the root */
} trie_edge;

typedef struct {
    trie_edge *edge; /* [mask + 1], at most half full */
    token_id *value; /* [cap], of each node: the token that ends there, or TOKEN_NONE */
    uint32_t mask, n_nodes, cap;
    uint64_t seed;
} trie;

MUST_CHECK status trie_open(trie *t, uint64_t seed, err *e); /* t is {0}; on failure trie_close still applies */
/* Of equal texts the last counts; an empty one is left out. Refused: texts above TRIE_MAX_TEXT, too many nodes. */
MUST_CHECK status trie_add(trie *t, str text, token_id id, err *e);
void trie_close(trie *t);
size_t trie_bytes(const trie *t);

uint32_t trie_step(const trie *t, uint32_t node, uint8_t byte); /* the child, or 0: no text goes on so */
/* The longest text at the beginning of this one; *n: its bytes. TOKEN_NONE: there is none, *n is left. */
token_id trie_longest(const trie *t, str text, size_t *n);

#endif
