/* Pages of requests: taken from the pool, from the index (shared, or copied where it knows only the page's beginning) and
 * from the folder; given to both when filled. */
#include "sched/sched_own.h"

uint32_t pages_for(const sched *s, uint32_t n_tokens) {
    return n_tokens / s->shape.page_tokens + (n_tokens % s->shape.page_tokens != 0);
}

static bool take(sched *s, uint32_t *page) {
    while (!kv_pool_take(s->pool, page))
        if (!s->prefix || !kv_prefix_evict(s->prefix)) return false;
    return true;
}

/* Free, or the index's alone. */
static uint32_t available(const sched *s) {
    kv_prefix_stats x = {0};
    if (s->prefix) kv_prefix_get_stats(s->prefix, &x);
    return kv_pool_n_free(s->pool) + x.n_evictable;
}

void pages_drop(sched *s, sched_request *r) {
    for (uint32_t i = 0; i < r->n_pages; i++) kv_pool_drop(s->pool, r->pages[i]);
    r->n_pages = r->n_done = r->n_nodes = r->n_open = 0;
    r->node = KV_ROOT;
}

bool pages_grow(sched *s, sched_request *r) {
    if (r->n_pages >= pages_for(s, r->n_done + 1)) return true;
    if (!take(s, &r->pages[r->n_pages])) return false;
    r->n_pages++;
    return true;
}

/* --- what is known of a prompt ---------------------------------------------------------------------------------------- */

/* So much of its log may come from the cache: the last token is computed, for what follows from it; where a row is wanted
 * at each position only those already told. */
static uint32_t reusable(const sched_request *r) {
    if (request_wants_rows(r)) return r->n_rows;
    return r->p.no_cache ? 0 : r->n_log - 1;
}

/* The page that r's log goes on in: the beginning of one that is known, copied. Without it, it is computed. */
static void copy_open(sched *s, sched_request *r, const kv_match *m) {
    uint32_t own;
    err e;
    if (!take(s, &own)) return;
    if (exec_page_copy(s->x, own, m->copy_from, &e)) return kv_pool_drop(s->pool, own);
    r->pages[r->n_pages++] = own;
    r->n_done += m->n_copy;
    s->now.pages_copied++;
}

/* Whole pages that go on where the index ends, one after the other. */
static void load_saved(sched *s, sched_request *r, uint32_t n) {
    const uint32_t pt = s->shape.page_tokens;
    while (r->n_done + pt <= n) {
        const int32_t *tokens = r->log + r->n_done;
        uint64_t key = kv_prefix_key(kv_prefix_node_key(s->prefix, r->node), tokens, pt);
        uint32_t page;
        err e;
        if (!kv_disk_has(s->opt.disk, key)) return;
        if (!kv_disk_load(s->opt.disk, key, r->log, r->n_done + pt, s->page) || !take(s, &page)) return;
        kv_node known = KV_NO_NODE;
        if (exec_page_write(s->x, page, s->page, &e) == OK)
            known = kv_prefix_put(s->prefix, r->node, tokens, pt, &page);
        if (known == KV_NO_NODE) return kv_pool_drop(s->pool, page);
        r->pages[r->n_pages++] = page;
        r->n_nodes++;
        r->node = known;
        r->n_done += pt;
    }
}

static kv_match match(sched *s, sched_request *r) {
    r->node = KV_ROOT;
    r->n_pages = r->n_nodes = r->n_open = r->n_done = 0;
    uint32_t n = reusable(r);
    if (!s->prefix || !n) return (kv_match){.node = KV_ROOT};
    kv_match m = kv_prefix_match(s->prefix, r->log, n, r->pages);
    r->n_pages = r->n_nodes = m.n_pages;
    r->node = m.node;
    r->n_done = m.n_pages * s->shape.page_tokens;
    return m;
}

/* What goes on after the whole pages found: from the folder, else from the middle of a known page. */
static void extend(sched *s, sched_request *r, const kv_match *m) {
    if (m->n_copy) kv_pool_share(s->pool, m->copy_from); /* not to be given up for its own copy */
    if (s->opt.disk) load_saved(s, r, reusable(r));
    if (m->n_copy && r->n_pages == m->n_pages) copy_open(s, r, m);
    if (m->n_copy) kv_pool_drop(s->pool, m->copy_from);
}

bool pages_admit(sched *s, sched_request *r, uint32_t beside) {
    kv_match m = match(s, r);
    uint32_t need = pages_for(s, r->n_log);
    bool fits = available(s) >= (uint64_t)need - r->n_pages + beside;
    if (fits && s->prefix) extend(s, r, &m);
    for (; fits && r->n_pages < need; r->n_pages += fits) fits = take(s, &r->pages[r->n_pages]);
    r->keeps = fits && s->prefix;
    if (!fits) pages_drop(s, r);
    if (fits && !r->started_us) {
        s->now.prefix.queries += reusable(r);
        s->now.prefix.hits += r->n_done;
    }
    return fits;
}

/* --- what others may use again ---------------------------------------------------------------------------------------- */

/* Whole pages of the prompt, a few beyond those that this step filled: what was known is saved while others are computed. */
static void save(sched *s, sched_request *r, uint32_t most) {
    const uint32_t pt = s->shape.page_tokens;
    for (; most > 0 && r->n_saved < r->n_nodes && (r->n_saved + 1) * pt <= r->n_prompt; r->n_saved++, most--) {
        const int32_t *tokens = r->log + (size_t)r->n_saved * pt;
        uint64_t key = kv_prefix_key(r->saved_key, tokens, pt);
        err e;
        if (!kv_disk_has(s->opt.disk, key)) {
            if (exec_page_read(s->x, r->pages[r->n_saved], s->page, &e)) return;
            if (!kv_disk_save(s->opt.disk, key, r->log, (r->n_saved + 1) * pt, s->page)) return; /* in a later step */
        }
        r->saved_key = key;
    }
}

/* false: it is not kept, or what the page holds so far is known of another one. */
static bool put(sched *s, sched_request *r, uint32_t n_tokens) {
    const int32_t *tokens = r->log + (size_t)r->n_nodes * s->shape.page_tokens;
    kv_node known = kv_prefix_put(s->prefix, r->node, tokens, n_tokens, &r->pages[r->n_nodes]);
    if (known == KV_NO_NODE) return false;
    bool whole = n_tokens == s->shape.page_tokens;
    r->n_open = whole ? 0 : n_tokens;
    if (whole) r->node = known;
    r->n_nodes += whole;
    return true;
}

void pages_keep(sched *s, sched_request *r) {
    if (!r->keeps) return;
    uint32_t before = r->n_nodes;
    while (r->keeps && (r->n_nodes + 1) * s->shape.page_tokens <= r->n_done) r->keeps = put(s, r, s->shape.page_tokens);
    if (s->opt.disk) save(s, r, r->n_nodes - before + 2);
}

void pages_keep_open(sched *s, sched_request *r) {
    pages_keep(s, r);
    uint32_t n = r->n_done - r->n_nodes * s->shape.page_tokens;
    if (r->keeps && n) (void)put(s, r, n);
}
