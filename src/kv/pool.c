#include "kv/kv.h"

#include "base/mem.h"

#include <assert.h>

/* Free pages stand on a stack: a page just dropped is taken again first, while it may still be in a cache. */
struct kv_pool {
    uint32_t n_pages, n_free;
    uint32_t *free;    /* [n_free] of [n_pages] */
    uint32_t *holders; /* [n_pages] 0: free */
    void (*lone)(void *ctx, uint32_t page, bool lone);
    void *ctx;
};

kv_pool *kv_pool_new(uint32_t n_pages) {
    kv_pool *p = mem_zalloc(sizeof *p);
    if (!p) return NULL;
    p->n_pages = p->n_free = n_pages;
    p->free = mem_array(n_pages, sizeof *p->free);
    p->holders = mem_array(n_pages, sizeof *p->holders);
    if (!p->free || !p->holders) {
        kv_pool_free(p);
        return NULL;
    }
    for (uint32_t i = 0; i < n_pages; i++) p->free[i] = n_pages - 1 - i; /* page 0 first */
    return p;
}

size_t kv_pool_memory(uint32_t n_pages) { return sizeof(kv_pool) + 2 * sizeof(uint32_t) * (size_t)n_pages; }

void kv_pool_free(kv_pool *p) {
    if (!p) return;
    mem_free(p->free);
    mem_free(p->holders);
    mem_free(p);
}

bool kv_pool_take(kv_pool *p, uint32_t *page) {
    if (p->n_free == 0) return false;
    *page = p->free[--p->n_free];
    p->holders[*page] = 1;
    return true;
}

void kv_pool_share(kv_pool *p, uint32_t page) {
    assert(page < p->n_pages && p->holders[page] > 0 && p->holders[page] < UINT32_MAX);
    if (p->holders[page]++ == 1 && p->lone) p->lone(p->ctx, page, false);
}

void kv_pool_drop(kv_pool *p, uint32_t page) {
    assert(page < p->n_pages && p->holders[page] > 0);
    if (--p->holders[page] == 0)
        p->free[p->n_free++] = page;
    else if (p->holders[page] == 1 && p->lone)
        p->lone(p->ctx, page, true);
}

void kv_pool_watch(kv_pool *p, void (*lone)(void *ctx, uint32_t page, bool lone), void *ctx) {
    p->lone = lone;
    p->ctx = ctx;
}

uint32_t kv_pool_n_holders(const kv_pool *p, uint32_t page) { return p->holders[page]; }

uint32_t kv_pool_n_free(const kv_pool *p) { return p->n_free; }

kv_use kv_use_of(uint32_t n_pages, uint32_t n_taken, uint32_t page_tokens, uint64_t n_tokens) {
    double taken = (double)n_taken * page_tokens, all = (double)n_pages * page_tokens;
    kv_use u = {0};
    if (taken > 0) u.fragmentation = 1 - (double)n_tokens / taken;
    if (all > 0) u.efficiency = (double)n_tokens / all;
    return u;
}
