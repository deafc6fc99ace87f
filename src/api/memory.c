/* The KV cache's memory as it is now, for rf_engine_memory. */
#include "api/api.h"

#include "base/mem.h"

/* Page tables of the sequences that may run, at their longest. */
static uint64_t page_table_bytes(const api_shape *s) {
    return (uint64_t)s->parallel * (s->context / s->exec.page_tokens + 1) * sizeof(uint32_t);
}

char *api_memory(const api_shape *s, const sched_stats *now, size_t page_bytes) {
    const exec_options *x = &s->exec;
    uint32_t taken = now->pages_used + now->pages_cached;
    size_t tables = kv_pool_memory(x->n_pages);
    if (!s->sched.no_prefix) tables += kv_prefix_memory(x->n_pages, x->page_tokens);
    kv_use use = kv_use_of(x->n_pages, taken, x->page_tokens, now->tokens_held);
    json_t *v =
        json_pack("{si sI sI sI s{si si si si} sI sI sI sf sf}", "page_tokens", (int)x->page_tokens, "page_bytes",
                  (json_int_t)page_bytes, "bytes", (json_int_t)((uint64_t)page_bytes * x->n_pages), "bytes_per_token",
                  (json_int_t)(page_bytes / x->page_tokens), "pages", "total", (int)x->n_pages, "used",
                  (int)now->pages_used, "cached", (int)now->pages_cached, "free", (int)(x->n_pages - taken), "tokens",
                  (json_int_t)now->tokens_held, "allocator_bytes", (json_int_t)tables, "page_table_bytes",
                  (json_int_t)page_table_bytes(s), "fragmentation", use.fragmentation, "efficiency", use.efficiency);
    status rc;
    return api_json(v, &rc, NULL);
}
