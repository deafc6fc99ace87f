/* What pages hold: every computed page is known by the tokens that led to it, so that a request with the same beginning takes
 * it instead of computing it again. A tree: a node is one page; its path from the root is the tokens before it. A node is
 * found by a hash of its parent and its tokens (XXH3), and believed only after its tokens were compared, all the way down.
 * Pages are shared by counting holders in the pool: the tree is one of them. Nodes nobody else holds may be evicted, least
 * recently used first, leaves before their parents.
 * Owned by the scheduler; its thread alone calls. It listens to the pool (kv_pool_watch). Nothing is allocated after
 * kv_prefix_new. */
#ifndef ROCMFORGE_KV_PREFIX_H
#define ROCMFORGE_KV_PREFIX_H

#include "kv/kv.h"

typedef struct kv_prefix kv_prefix;
typedef uint32_t kv_node; /* index; KV_ROOT is before every first page */
enum { KV_ROOT = 0, KV_NO_NODE = UINT32_MAX };

size_t kv_prefix_memory(uint32_t n_pages, uint32_t page_tokens); /* what kv_prefix_new takes */
/* At most one node per page of the pool (borrowed). NULL: out of memory. */
kv_prefix *kv_prefix_new(kv_pool *pool, uint32_t n_pages, uint32_t page_tokens);
void kv_prefix_free(kv_prefix *p); /* drops its pages; NULL is fine */

typedef struct {
    kv_node node;       /* of the last whole page found; KV_ROOT: none */
    uint32_t n_pages;   /* whole pages found: each got one more holder, written to pages[] */
    uint32_t copy_from; /* page whose first n_copy tokens go on from there: copy them into a page of one's own */
    uint32_t n_copy;    /* 0: none */
} kv_match;
/* The longest known beginning of tokens[0 .. n). Marks what it finds as used now. The page to copy from is not held: copy
 * before anything else is taken from the pool. */
kv_match kv_prefix_match(kv_prefix *p, const int32_t *tokens, uint32_t n, uint32_t *pages);

/* Says what `page` holds: n_tokens (1 .. page_tokens) after `parent`. The tree becomes a holder, and so stays the caller.
 * A node of the same page grows when called again with more tokens; the page is the caller's to fill until it is whole.
 * Where a whole page exists already it is taken instead (equal tokens give equal bits): *page is exchanged, holders settled;
 * a page not yet whole is never exchanged, since its holder goes on writing. KV_NO_NODE: not kept, since another page begins
 * with these tokens, or the parent was KV_NO_NODE or was cleared away: it stays the caller's alone. */
kv_node kv_prefix_put(kv_prefix *p, kv_node parent, const int32_t *tokens, uint32_t n_tokens, uint32_t *page);

/* Frees one page that only the tree holds; false: there is none. */
bool kv_prefix_evict(kv_prefix *p);
void kv_prefix_clear(kv_prefix *p); /* forgets everything */

typedef struct {
    uint32_t n_nodes, n_evictable; /* pages the tree holds; of those nobody else does */
    uint64_t n_tokens;             /* in those pages */
    uint64_t queries, hits;        /* tokens */
    uint64_t evictions;
} kv_prefix_stats;
void kv_prefix_get_stats(const kv_prefix *p, kv_prefix_stats *out);

/* For keeping pages on disk: the chain key of a node (hash of all tokens up to its end), and its own tokens. */
uint64_t kv_prefix_key(uint64_t parent_key, const int32_t *tokens, uint32_t n_tokens);
uint64_t kv_prefix_node_key(const kv_prefix *p, kv_node node); /* KV_ROOT: 0 */

/* For tests, of an empty tree: keys count only as far as the mask, so that different tokens collide. */
void kv_prefix_mask_keys(kv_prefix *p, uint64_t mask);

#endif
