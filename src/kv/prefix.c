#include "kv/prefix.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

/* The node of page i is nodes[i + 1]: a page holds one thing only, so it needs no more than one node, and the tree is never
 * too small. Whole pages stand in the hash table; a partly filled one is a leaf that is found among its parent's children.
 * Nodes that may go (a leaf whose page the tree alone holds) stand in a heap, least recently used on top. The pool says when
 * a page's other holders come and go. */
typedef struct {
    uint64_t key;
    uint64_t used; /* tick of the last use */
    kv_node parent, first_child, next, prev /* siblings; 0: none */, chain /* same bucket; 0: none */;
    uint32_t n_tokens; /* 0: no node */
    uint32_t heap_at;  /* 1 ..; 0: may not go now */
    bool lone;         /* the tree alone holds the page */
} tree_node;

struct kv_prefix {
    kv_pool *pool;
    uint32_t n_pages, page_tokens;
    tree_node *nodes;  /* [n_pages + 1] */
    int32_t *tokens;   /* [n_pages][page_tokens] */
    kv_node *bucket;   /* [n_buckets] */
    uint32_t n_bucket; /* power of two */
    kv_node *heap;     /* [n_heap + 1], from 1 on */
    uint32_t n_heap;
    uint64_t tick, key_mask;
    kv_prefix_stats stats;
};

static uint32_t page_of(kv_node i) { return i - 1; }
static int32_t *tokens_of(const kv_prefix *p, kv_node i) { return p->tokens + (size_t)page_of(i) * p->page_tokens; }

uint64_t kv_prefix_key(uint64_t parent_key, const int32_t *tokens, uint32_t n_tokens) {
    uint64_t key = XXH3_64bits_withSeed(tokens, n_tokens * sizeof *tokens, parent_key);
    return key ? key : 1; /* 0 is the root's */
}

uint64_t kv_prefix_node_key(const kv_prefix *p, kv_node node) { return p->nodes[node].key; }

/* --- what may go: a binary heap by the last use ------------------------------------------------------------------------ */

static void heap_set(kv_prefix *p, uint32_t at, kv_node i) {
    p->heap[at] = i;
    p->nodes[i].heap_at = at;
}

static void heap_up(kv_prefix *p, uint32_t at, kv_node i) {
    for (; at > 1 && p->nodes[p->heap[at / 2]].used > p->nodes[i].used; at /= 2) heap_set(p, at, p->heap[at / 2]);
    heap_set(p, at, i);
}

static void heap_down(kv_prefix *p, uint32_t at, kv_node i) {
    for (uint32_t child; (child = 2 * at) <= p->n_heap; at = child) {
        if (child < p->n_heap && p->nodes[p->heap[child + 1]].used < p->nodes[p->heap[child]].used) child++;
        if (p->nodes[p->heap[child]].used >= p->nodes[i].used) break;
        heap_set(p, at, p->heap[child]);
    }
    heap_set(p, at, i);
}

static void heap_remove(kv_prefix *p, kv_node i) {
    uint32_t at = p->nodes[i].heap_at;
    kv_node last = p->heap[p->n_heap--];
    p->nodes[i].heap_at = 0;
    if (last == i) return;
    if (at > 1 && p->nodes[p->heap[at / 2]].used > p->nodes[last].used)
        heap_up(p, at, last);
    else
        heap_down(p, at, last);
}

/* Puts the node where its state says: into the heap or out of it. */
static void settle(kv_prefix *p, kv_node i) {
    tree_node *n = &p->nodes[i];
    bool may_go = n->n_tokens && n->lone && !n->first_child;
    if (may_go && !n->heap_at) heap_up(p, ++p->n_heap, i);
    if (!may_go && n->heap_at) heap_remove(p, i);
}

static void touch(kv_prefix *p, kv_node i) {
    p->nodes[i].used = ++p->tick;
    if (p->nodes[i].heap_at) heap_down(p, p->nodes[i].heap_at, i);
}

/* The pool's word: from now on nobody but one holder has the page, or somebody has. Until a moment ago it was in use. */
static void on_lone(void *ctx, uint32_t page, bool lone) {
    kv_prefix *p = ctx;
    kv_node i = page + 1;
    if (page >= p->n_pages || !p->nodes[i].n_tokens || p->nodes[i].lone == lone) return;
    p->nodes[i].lone = lone;
    if (lone) {
        p->stats.n_evictable++;
        p->nodes[i].used = ++p->tick;
    } else {
        p->stats.n_evictable--;
    }
    settle(p, i);
}

/* --- the table of whole pages ------------------------------------------------------------------------------------------- */

static kv_node *bucket_of(const kv_prefix *p, uint64_t key) {
    return &p->bucket[key & p->key_mask & (p->n_bucket - 1)];
}

static void table_add(kv_prefix *p, kv_node i) {
    kv_node *b = bucket_of(p, p->nodes[i].key);
    p->nodes[i].chain = *b;
    *b = i;
}

static void table_remove(kv_prefix *p, kv_node i) {
    kv_node *at = bucket_of(p, p->nodes[i].key);
    while (*at != i) at = &p->nodes[*at].chain;
    *at = p->nodes[i].chain;
}

/* The child of `parent` that holds exactly these page_tokens tokens; 0: none. Keys lead there, tokens decide. */
static kv_node find_whole(const kv_prefix *p, kv_node parent, const int32_t *tokens) {
    uint64_t key = kv_prefix_key(p->nodes[parent].key, tokens, p->page_tokens);
    kv_node i = *bucket_of(p, key);
    for (; i; i = p->nodes[i].chain) {
        const tree_node *n = &p->nodes[i];
        if (((n->key ^ key) & p->key_mask) == 0 && n->parent == parent &&
            memcmp(tokens_of(p, i), tokens, p->page_tokens * sizeof *tokens) == 0)
            break;
    }
    return i;
}

/* --- nodes ---------------------------------------------------------------------------------------------------------------- */

static uint32_t n_common(const int32_t *a, const int32_t *b, uint32_t n) {
    uint32_t i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

static uint32_t n_common_with(const kv_prefix *p, kv_node i, const int32_t *tokens, uint32_t n) {
    return n_common(tokens_of(p, i), tokens, n < p->nodes[i].n_tokens ? n : p->nodes[i].n_tokens);
}

/* The child of `parent` that begins most like tokens[0 .. n), and how many are alike; 0 with none. */
static kv_node find_alike(const kv_prefix *p, kv_node parent, const int32_t *tokens, uint32_t n, uint32_t *n_alike) {
    kv_node best = 0;
    *n_alike = 0;
    for (kv_node i = p->nodes[parent].first_child; i && *n_alike < n; i = p->nodes[i].next) {
        uint32_t same = n_common_with(p, i, tokens, n);
        if (same <= *n_alike) continue;
        *n_alike = same;
        best = i;
    }
    return best;
}

static void fill(kv_prefix *p, kv_node i, const int32_t *tokens, uint32_t n) {
    tree_node *x = &p->nodes[i];
    memcpy(tokens_of(p, i), tokens, n * sizeof *tokens);
    p->stats.n_tokens += n - x->n_tokens;
    x->n_tokens = n;
    x->key = kv_prefix_key(p->nodes[x->parent].key, tokens, n);
    if (n == p->page_tokens) table_add(p, i);
}

static void link_child(kv_prefix *p, kv_node parent, kv_node i) {
    tree_node *x = &p->nodes[i], *up = &p->nodes[parent];
    *x = (tree_node){.parent = parent, .next = up->first_child};
    if (x->next) p->nodes[x->next].prev = i;
    up->first_child = i;
    settle(p, parent);
}

/* Takes a leaf out of the tree, which drops its page. */
static void forget(kv_prefix *p, kv_node i) {
    tree_node *x = &p->nodes[i];
    assert(x->n_tokens && !x->first_child);
    if (x->n_tokens == p->page_tokens) table_remove(p, i);
    if (x->heap_at) heap_remove(p, i);
    if (x->prev)
        p->nodes[x->prev].next = x->next;
    else
        p->nodes[x->parent].first_child = x->next;
    if (x->next) p->nodes[x->next].prev = x->prev;
    kv_node parent = x->parent;
    p->stats.n_nodes--;
    p->stats.n_tokens -= x->n_tokens;
    if (x->lone) p->stats.n_evictable--;
    *x = (tree_node){0};
    if (parent) settle(p, parent);
    kv_pool_drop(p->pool, page_of(i));
}

/* Partly filled pages that nobody uses and that say less than these tokens. */
static void forget_lesser(kv_prefix *p, kv_node parent, const int32_t *tokens, uint32_t n) {
    for (kv_node i = p->nodes[parent].first_child, next; i; i = next) {
        next = p->nodes[i].next;
        const tree_node *x = &p->nodes[i];
        if (x->lone && x->n_tokens < n && n_common_with(p, i, tokens, n) == x->n_tokens) forget(p, i);
    }
}

/* --- the rest of prefix.h ------------------------------------------------------------------------------------------------- */

enum { MAX_PAGES = 1 << 30 }; /* the pages themselves are then beyond any memory */

static uint32_t n_buckets(uint32_t n_pages) {
    uint32_t n = 16;
    while (n < n_pages && n < MAX_PAGES) n *= 2;
    return n;
}

size_t kv_prefix_memory(uint32_t n_pages, uint32_t page_tokens) {
    return ((size_t)n_pages + 1) * (sizeof(tree_node) + sizeof(kv_node)) +
           (size_t)n_pages * page_tokens * sizeof(int32_t) + n_buckets(n_pages) * sizeof(kv_node);
}

kv_prefix *kv_prefix_new(kv_pool *pool, uint32_t n_pages, uint32_t page_tokens) {
    if (n_pages > MAX_PAGES) return NULL;
    kv_prefix *p = mem_zalloc(sizeof *p);
    if (!p) return NULL;
    p->n_pages = n_pages;
    p->page_tokens = page_tokens;
    p->key_mask = UINT64_MAX;
    p->n_bucket = n_buckets(n_pages);
    p->nodes = mem_array((size_t)n_pages + 1, sizeof *p->nodes);
    p->tokens = mem_array(n_pages, page_tokens * sizeof *p->tokens);
    p->bucket = mem_array(p->n_bucket, sizeof *p->bucket);
    p->heap = mem_array((size_t)n_pages + 1, sizeof *p->heap);
    if (!p->nodes || !p->tokens || !p->bucket || !p->heap) {
        kv_prefix_free(p);
        return NULL;
    }
    p->pool = pool;
    kv_pool_watch(pool, on_lone, p);
    return p;
}

void kv_prefix_free(kv_prefix *p) {
    if (!p) return;
    if (p->pool) {
        kv_prefix_clear(p);
        kv_pool_watch(p->pool, NULL, NULL);
    }
    mem_free(p->nodes);
    mem_free(p->tokens);
    mem_free(p->bucket);
    mem_free(p->heap);
    mem_free(p);
}

void kv_prefix_mask_keys(kv_prefix *p, uint64_t mask) {
    assert(p->stats.n_nodes == 0);
    p->key_mask = mask;
}

kv_match kv_prefix_match(kv_prefix *p, const int32_t *tokens, uint32_t n, uint32_t *pages) {
    kv_match m = {.node = KV_ROOT};
    uint32_t at = 0;
    for (kv_node i; n - at >= p->page_tokens && (i = find_whole(p, m.node, tokens + at)); at += p->page_tokens) {
        touch(p, i);
        kv_pool_share(p->pool, page_of(i));
        pages[m.n_pages++] = page_of(i);
        m.node = i;
    }
    uint32_t rest = n - at < p->page_tokens ? n - at : p->page_tokens;
    kv_node alike = find_alike(p, m.node, tokens + at, rest, &m.n_copy);
    if (alike) {
        touch(p, alike);
        m.copy_from = page_of(alike);
    }
    p->stats.queries += n;
    p->stats.hits += at + m.n_copy;
    return m;
}

/* The whole page is known under another number: that one is taken, this one given back. */
static kv_node take_twin(kv_prefix *p, kv_node twin, uint32_t *page) {
    touch(p, twin);
    if (p->nodes[*page + 1].n_tokens) forget(p, *page + 1);
    kv_pool_share(p->pool, page_of(twin));
    kv_pool_drop(p->pool, *page);
    *page = page_of(twin);
    return twin;
}

static kv_node add_node(kv_prefix *p, kv_node parent, const int32_t *tokens, uint32_t n, uint32_t page) {
    uint32_t n_alike;
    if (n < p->page_tokens && find_alike(p, parent, tokens, n, &n_alike) && n_alike == n) return KV_NO_NODE;
    kv_node i = page + 1;
    kv_pool_share(p->pool, page);
    link_child(p, parent, i);
    fill(p, i, tokens, n);
    p->stats.n_nodes++;
    touch(p, i);
    forget_lesser(p, parent, tokens, n);
    return i;
}

kv_node kv_prefix_put(kv_prefix *p, kv_node parent, const int32_t *tokens, uint32_t n_tokens, uint32_t *page) {
    assert(n_tokens >= 1 && n_tokens <= p->page_tokens);
    if (*page >= p->n_pages || parent > p->n_pages) return KV_NO_NODE;
    if (parent && p->nodes[parent].n_tokens < p->page_tokens) return KV_NO_NODE; /* forgotten since */
    kv_node own = *page + 1;
    const tree_node *x = &p->nodes[own];
    if (x->n_tokens) {
        assert(x->parent == parent &&
               n_common_with(p, own, tokens, n_tokens) == (n_tokens < x->n_tokens ? n_tokens : x->n_tokens));
        touch(p, own);
        if (n_tokens <= x->n_tokens) return own;
    }
    kv_node twin = n_tokens == p->page_tokens ? find_whole(p, parent, tokens) : 0;
    if (twin) return take_twin(p, twin, page);
    if (!x->n_tokens) return add_node(p, parent, tokens, n_tokens, *page);
    fill(p, own, tokens, n_tokens);
    return own;
}

bool kv_prefix_evict(kv_prefix *p) {
    if (!p->n_heap) return false;
    forget(p, p->heap[1]);
    p->stats.evictions++;
    return true;
}

void kv_prefix_clear(kv_prefix *p) {
    for (kv_node i = 1; i <= p->n_pages; i++) { /* upwards from each leaf: whoever holds pages keeps them */
        kv_node leaf = i;
        while (leaf && p->nodes[leaf].n_tokens && !p->nodes[leaf].first_child) {
            kv_node parent = p->nodes[leaf].parent;
            forget(p, leaf);
            leaf = parent;
        }
    }
}

void kv_prefix_get_stats(const kv_prefix *p, kv_prefix_stats *out) { *out = p->stats; }
