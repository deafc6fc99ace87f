#include "check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "kv/prefix.h"

/* --- by hand ---------------------------------------------------------------------------------------------------------------- */

enum { PT = 4 };

/* Fills the cache with a sequence: whole pages and the open one; returns the last node. pages[] stay held. */
static kv_node put_all(kv_prefix *t, kv_pool *pool, const int32_t *tokens, uint32_t n, uint32_t *pages) {
    kv_node at = KV_ROOT;
    for (uint32_t i = 0; i * PT < n; i++) {
        assert_true(kv_pool_take(pool, &pages[i]));
        at = kv_prefix_put(t, at, tokens + i * PT, n - i * PT < PT ? n - i * PT : PT, &pages[i]);
    }
    return at;
}

static void drop_all(kv_pool *pool, const uint32_t *pages, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) kv_pool_drop(pool, pages[i]);
}

static void test_longest_beginning(void **state) {
    (void)state;
    kv_pool *pool = kv_pool_new(16);
    kv_prefix *t = kv_prefix_new(pool, 16, PT);
    int32_t a[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    uint32_t mine[3], got[4];
    kv_node open = put_all(t, pool, a, 10, mine);
    assert_true(open != KV_NO_NODE && kv_pool_n_holders(pool, mine[0]) == 2);
    kv_match m = kv_prefix_match(t, a, 10, got); /* all of it: two whole pages, two tokens of the open one */
    assert_true(m.n_pages == 2 && got[0] == mine[0] && got[1] == mine[1] && m.n_copy == 2 && m.copy_from == mine[2]);
    assert_int_equal(kv_pool_n_holders(pool, mine[1]), 3);
    assert_int_equal(kv_pool_n_holders(pool, mine[2]), 2); /* to copy from is not to hold */
    drop_all(pool, got, 2);
    m = kv_prefix_match(t, a, 7, got); /* ends inside the second page */
    assert_true(m.n_pages == 1 && m.n_copy == 3 && m.copy_from == mine[1]);
    drop_all(pool, got, 1);
    int32_t b[6] = {1, 2, 9, 4, 5, 6}; /* leaves it inside the first */
    m = kv_prefix_match(t, b, 6, got);
    assert_true(m.n_pages == 0 && m.node == KV_ROOT && m.n_copy == 2 && m.copy_from == mine[0]);
    m = kv_prefix_match(t, a + 1, 6, got);
    assert_true(m.n_pages == 0 && m.n_copy == 0);
    m = kv_prefix_match(t, a, 0, got);
    assert_true(m.n_pages == 0 && m.n_copy == 0);
    kv_prefix_stats s;
    kv_prefix_get_stats(t, &s);
    assert_true(s.queries == 10 + 7 + 6 + 6 && s.hits == 10 + 7 + 2 && s.n_nodes == 3 && s.n_evictable == 0);
    drop_all(pool, mine, 3);
    kv_prefix_get_stats(t, &s);
    assert_true(s.n_evictable == 3 && kv_pool_n_free(pool) == 13);
    kv_prefix_free(t);
    assert_int_equal(kv_pool_n_free(pool), 16);
    kv_pool_free(pool);
}

/* The same page content under other parents is another page: keys and values depend on all that came before. */
static void test_parents_count(void **state) {
    (void)state;
    kv_pool *pool = kv_pool_new(8);
    kv_prefix *t = kv_prefix_new(pool, 8, PT);
    kv_prefix_mask_keys(t, 0);
    int32_t a[8] = {1, 1, 1, 1, 7, 7, 7, 7}, b[8] = {2, 2, 2, 2, 7, 7, 7, 7};
    uint32_t pa[2], pb[2], got[2];
    kv_node na = put_all(t, pool, a, 8, pa), nb = put_all(t, pool, b, 8, pb);
    assert_true(na != nb && pa[1] != pb[1] && kv_prefix_node_key(t, na) != kv_prefix_node_key(t, nb));
    kv_match m = kv_prefix_match(t, b, 8, got);
    assert_true(m.n_pages == 2 && got[0] == pb[0] && got[1] == pb[1] && m.node == nb);
    uint64_t key = kv_prefix_key(kv_prefix_key(0, a, PT), a + PT, PT);
    assert_true(kv_prefix_node_key(t, na) == key && kv_prefix_node_key(t, KV_ROOT) == 0);
    kv_prefix_free(t);
    kv_pool_free(pool);
}

static void test_equal_pages_become_one(void **state) {
    (void)state;
    kv_pool *pool = kv_pool_new(8);
    kv_prefix *t = kv_prefix_new(pool, 8, PT);
    int32_t a[PT] = {1, 2, 3, 4};
    uint32_t p = 0, q = 0;
    assert_true(kv_pool_take(pool, &p) && kv_pool_take(pool, &q));
    uint32_t p0 = p, q0 = q;
    kv_node first = kv_prefix_put(t, KV_ROOT, a, 2, &p);
    assert_int_equal(kv_prefix_put(t, KV_ROOT, a, 2, &q), KV_NO_NODE); /* still written to: never exchanged */
    assert_true(p == p0 && q == q0 && kv_pool_n_holders(pool, q) == 1);
    kv_node other = kv_prefix_put(t, KV_ROOT, a, 3, &q); /* says more */
    assert_true(other != KV_NO_NODE && other != first && q == q0);
    assert_int_equal(kv_prefix_put(t, KV_ROOT, a, PT, &p), first);
    assert_int_equal(kv_prefix_put(t, KV_ROOT, a, PT, &q), first);
    assert_true(q == p0 && kv_pool_n_holders(pool, p0) == 3 && kv_pool_n_holders(pool, q0) == 0);
    kv_prefix_stats s;
    kv_prefix_get_stats(t, &s);
    assert_int_equal(s.n_nodes, 1);
    kv_pool_drop(pool, p);
    kv_pool_drop(pool, q);
    kv_prefix_free(t);
    assert_int_equal(kv_pool_n_free(pool), 8);
    kv_pool_free(pool);
}

static void test_least_recent_leaf_goes(void **state) {
    (void)state;
    kv_pool *pool = kv_pool_new(8);
    kv_prefix *t = kv_prefix_new(pool, 8, PT);
    int32_t a[8] = {1, 1, 1, 1, 2, 2, 2, 2}, b[4] = {3, 3, 3, 3}, c[4] = {4, 4, 4, 4};
    uint32_t pa[2], pb[1], pc[1], got[2];
    put_all(t, pool, a, 8, pa);
    put_all(t, pool, b, 4, pb);
    put_all(t, pool, c, 4, pc);
    assert_false(kv_prefix_evict(t)); /* all in use */
    drop_all(pool, pb, 1);
    drop_all(pool, pa, 2);
    assert_int_equal(kv_prefix_match(t, b, 4, got).n_pages, 1); /* b was used after a, */
    drop_all(pool, got, 1);
    assert_true(kv_prefix_evict(t) &&
                kv_pool_n_holders(pool, pa[1]) == 0); /* so a's leaf goes, then its parent, then b, */
    assert_true(kv_prefix_evict(t) && kv_pool_n_holders(pool, pa[0]) == 0);
    assert_true(kv_prefix_evict(t) && kv_pool_n_holders(pool, pb[0]) == 0);
    assert_false(kv_prefix_evict(t)); /* and c is held */
    assert_int_equal(kv_prefix_match(t, a, 8, got).n_pages, 0);
    kv_prefix_clear(t);
    assert_true(kv_pool_n_holders(pool, pc[0]) == 1 && kv_prefix_match(t, c, 4, got).n_pages == 0);
    kv_prefix_free(t);
    kv_pool_free(pool);
}

static void test_survives_oom(void **state) {
    (void)state;
    uint64_t live = mem_live();
    kv_pool *pool = kv_pool_new(10);
    for (uint64_t n = 1;; n++) {
        mem_fail_at(n);
        kv_prefix *t = kv_prefix_new(pool, 10, 16);
        bool fired = mem_fail_off();
        assert_true(fired == (t == NULL));
        kv_prefix_free(t);
        if (!fired) break;
    }
    kv_prefix_free(NULL);
    kv_pool_free(pool);
    assert_int_equal(mem_live(), live);
}

/* --- against a naive index ---------------------------------------------------------------------------------------------------
 * Requests that begin, compute, end; pages that know what was really written to them; and a plain list of what the tree
 * should hold. After every operation both agree about every page. */
enum { PAGES = 24, SEQS = 6, LONGEST = 40 };

typedef struct {
    bool known;
    uint32_t parent; /* page + 1, 0: root */
    uint32_t n;
    int32_t tokens[PT];
    uint64_t used;
} naive_node;

typedef struct {
    bool active;
    int32_t tokens[LONGEST];
    uint32_t n, n_done, pages[LONGEST / PT + 1], n_pages;
    kv_node node; /* of the last whole page */
    bool lost;    /* its chain was cleared away: it keeps nothing any more */
} naive_seq;

typedef struct {
    kv_pool *pool;
    kv_prefix *tree;
    uint64_t seed, i_random, tick;
    naive_node node[PAGES];
    uint32_t holders[PAGES];
    int32_t wrote[PAGES][PT][LONGEST]; /* what stands in a slot depends on all tokens up to it */
    uint32_t wrote_n[PAGES][PT];
    naive_seq seq[SEQS];
    uint64_t queries, hits, evictions;
    uint32_t n_copies, n_twins; /* so that the test knows it came by */
} world;

static uint32_t draw(world *w, uint32_t n) { return (uint32_t)(rng_u64(w->seed, w->i_random++) % n); }

static void hold(world *w, uint32_t page) { w->holders[page]++; }
static void let_go(world *w, uint32_t page) {
    if (--w->holders[page] == 1 && w->node[page].known) w->node[page].used = ++w->tick;
}
static bool has_children(const world *w, uint32_t page) {
    for (uint32_t i = 0; i < PAGES; i++)
        if (w->node[i].known && w->node[i].parent == page + 1) return true;
    return false;
}
static void unknow(world *w, uint32_t page) {
    w->node[page].known = false;
    let_go(w, page);
}

static void write_slot(world *w, uint32_t page, const int32_t *tokens, uint32_t pos) {
    memcpy(w->wrote[page][pos % PT], tokens, (pos + 1) * sizeof *tokens);
    w->wrote_n[page][pos % PT] = pos + 1;
}
static void check_slot(const world *w, uint32_t page, const int32_t *tokens, uint32_t pos) {
    assert_int_equal(w->wrote_n[page][pos % PT], pos + 1);
    assert_memory_equal(w->wrote[page][pos % PT], tokens, (pos + 1) * sizeof *tokens);
}

static uint32_t alike(const naive_node *x, const int32_t *tokens, uint32_t n) {
    uint32_t i = 0;
    while (i < n && i < x->n && x->tokens[i] == tokens[i]) i++;
    return i;
}

static uint32_t naive_whole(const world *w, uint32_t parent, const int32_t *tokens) {
    for (uint32_t i = 0; i < PAGES; i++)
        if (w->node[i].known && w->node[i].parent == parent && w->node[i].n == PT &&
            alike(&w->node[i], tokens, PT) == PT)
            return i;
    return UINT32_MAX;
}

static uint32_t naive_best(const world *w, uint32_t parent, const int32_t *tokens, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 0; i < PAGES; i++) {
        if (!w->node[i].known || w->node[i].parent != parent) continue;
        uint32_t same = alike(&w->node[i], tokens, n);
        best = same > best ? same : best;
    }
    return best;
}

static void evict(world *w) {
    uint32_t victim = UINT32_MAX;
    for (uint32_t i = 0; i < PAGES; i++)
        if (w->node[i].known && w->holders[i] == 1 && !has_children(w, i) &&
            (victim == UINT32_MAX || w->node[i].used < w->node[victim].used))
            victim = i;
    assert_int_equal(kv_prefix_evict(w->tree), victim != UINT32_MAX);
    if (victim == UINT32_MAX) return;
    w->evictions++;
    unknow(w, victim);
}

static bool take(world *w, uint32_t *page) {
    if (!kv_pool_n_free(w->pool)) evict(w);
    if (!kv_pool_take(w->pool, page)) return false;
    assert_int_equal(w->holders[*page], 0);
    w->holders[*page] = 1;
    memset(w->wrote_n[*page], 0, sizeof w->wrote_n[*page]);
    return true;
}

static void begin(world *w, naive_seq *s) {
    *s = (naive_seq){.active = true, .n = 1 + draw(w, LONGEST), .node = KV_ROOT};
    for (uint32_t i = 0; i < s->n; i++) s->tokens[i] = draw(w, 8) ? 5 : (int32_t)draw(w, 3);
    kv_match m = kv_prefix_match(w->tree, s->tokens, s->n, s->pages);
    uint32_t parent = 0, at = 0, page;
    for (; s->n - at >= PT && (page = naive_whole(w, parent, s->tokens + at)) != UINT32_MAX; at += PT) {
        assert_true(s->n_pages < m.n_pages && s->pages[s->n_pages] == page);
        s->n_pages++;
        hold(w, page);
        w->node[page].used = ++w->tick;
        parent = page + 1;
    }
    for (uint32_t i = 0; i < at; i++) check_slot(w, s->pages[i / PT], s->tokens, i);
    assert_true(m.n_pages == s->n_pages && m.node == parent);
    uint32_t rest = s->n - at < PT ? s->n - at : PT;
    assert_int_equal(m.n_copy, naive_best(w, parent, s->tokens + at, rest));
    w->queries += s->n;
    w->hits += at + m.n_copy;
    s->node = m.node;
    s->n_done = at;
    if (!m.n_copy) return;
    w->node[m.copy_from].used = ++w->tick;
    for (uint32_t i = 0; i < m.n_copy; i++) check_slot(w, m.copy_from, s->tokens, at + i);
    if (!kv_pool_n_free(w->pool) || !take(w, &s->pages[s->n_pages]))
        return; /* it would have to evict: compute instead */
    for (uint32_t i = 0; i < m.n_copy; i++) write_slot(w, s->pages[s->n_pages], s->tokens, at + i);
    s->n_pages++;
    s->n_done += m.n_copy;
    w->n_copies++;
}

/* What put should do, done to the list. */
static kv_node naive_put(world *w, kv_node parent, const int32_t *tokens, uint32_t n, uint32_t *page) {
    naive_node *x = &w->node[*page];
    if (parent == KV_NO_NODE || (parent && !(w->node[parent - 1].known && w->node[parent - 1].n == PT)))
        return KV_NO_NODE;
    if (x->known) {
        x->used = ++w->tick;
        if (n <= x->n) return *page + 1;
    }
    uint32_t twin = n == PT ? naive_whole(w, parent, tokens) : UINT32_MAX;
    if (twin != UINT32_MAX) {
        w->n_twins++;
        w->node[twin].used = ++w->tick;
        if (x->known) unknow(w, *page);
        hold(w, twin);
        let_go(w, *page);
        *page = twin;
        return twin + 1;
    }
    if (!x->known && n < PT && naive_best(w, parent, tokens, n) == n) return KV_NO_NODE;
    if (!x->known) {
        hold(w, *page);
        *x = (naive_node){.known = true, .parent = parent, .used = ++w->tick};
        for (uint32_t i = 0; i < PAGES; i++)
            if (i != *page && w->node[i].known && w->node[i].parent == parent && w->holders[i] == 1 &&
                w->node[i].n < n && alike(&w->node[i], tokens, n) == w->node[i].n)
                unknow(w, i);
    }
    x->n = n;
    memcpy(x->tokens, tokens, n * sizeof *tokens);
    return *page + 1;
}

static void advance(world *w, naive_seq *s) {
    uint32_t until = s->n_done + 1 + draw(w, 6);
    if (until > s->n) until = s->n;
    while (s->n_done < until) {
        uint32_t i = s->n_done / PT, end = (i + 1) * PT < until ? (i + 1) * PT : until;
        if (i == s->n_pages && !take(w, &s->pages[i])) return;
        if (i == s->n_pages) s->n_pages++;
        for (uint32_t k = s->n_done; k < end; k++) write_slot(w, s->pages[i], s->tokens, k);
        s->n_done = end;
        uint32_t mine = s->pages[i], n = end - i * PT;
        kv_node want = naive_put(w, s->node, s->tokens + i * PT, n, &mine);
        kv_node got = kv_prefix_put(w->tree, s->node, s->tokens + i * PT, n, &s->pages[i]);
        assert_true(got == want && s->pages[i] == mine);
        if (n == PT) s->node = got;
        for (uint32_t k = i * PT; k < end; k++) check_slot(w, s->pages[i], s->tokens, k);
    }
}

static void end(world *w, naive_seq *s) {
    for (uint32_t i = 0; i < s->n_pages; i++) {
        kv_pool_drop(w->pool, s->pages[i]);
        let_go(w, s->pages[i]);
    }
    s->active = false;
}

static void clear(world *w) {
    kv_prefix_clear(w->tree);
    for (uint32_t i = 0; i < PAGES; i++)
        if (w->node[i].known) unknow(w, i);
}

static void check_world(const world *w) {
    uint32_t n_nodes = 0, n_evictable = 0, n_free = 0, n_tokens = 0;
    for (uint32_t i = 0; i < PAGES; i++) {
        assert_int_equal(kv_pool_n_holders(w->pool, i), w->holders[i]);
        n_nodes += w->node[i].known;
        n_tokens += w->node[i].known ? w->node[i].n : 0;
        n_evictable += w->node[i].known && w->holders[i] == 1;
        n_free += w->holders[i] == 0;
    }
    kv_prefix_stats s;
    kv_prefix_get_stats(w->tree, &s);
    assert_int_equal(s.n_tokens, n_tokens);
    assert_true(s.n_nodes == n_nodes && s.n_evictable == n_evictable && kv_pool_n_free(w->pool) == n_free);
    assert_true(s.queries == w->queries && s.hits == w->hits && s.evictions == w->evictions);
}

static void run_world(uint64_t seed, uint64_t mask, uint32_t n_ops) {
    world *w = calloc(1, sizeof *w);
    w->seed = seed;
    w->pool = kv_pool_new(PAGES);
    w->tree = kv_prefix_new(w->pool, PAGES, PT);
    kv_prefix_mask_keys(w->tree, mask);
    uint64_t calls = mem_calls();
    for (uint32_t op = 0; op < n_ops; op++) {
        naive_seq *s = &w->seq[draw(w, SEQS)];
        uint32_t what = draw(w, 400);
        if (what == 0)
            clear(w);
        else if (what < 20)
            evict(w);
        else if (!s->active)
            begin(w, s);
        else if (s->n_done == s->n || what < 40)
            end(w, s);
        else
            advance(w, s);
        check_world(w);
    }
    assert_int_equal(mem_calls(), calls); /* nothing is allocated after new */
    assert_true(w->hits > n_ops / 8 && w->evictions > n_ops / 100 && w->n_copies > n_ops / 100 &&
                w->n_twins > n_ops / 400);
    for (uint32_t i = 0; i < SEQS; i++)
        if (w->seq[i].active) end(w, &w->seq[i]);
    kv_prefix_free(w->tree);
    assert_int_equal(kv_pool_n_free(w->pool), PAGES);
    kv_pool_free(w->pool);
    free(w);
}

static void test_against_a_naive_index(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) run_world(seed, UINT64_MAX, 8000);
}

/* Every key collides, or one in four does: tokens decide, so nothing changes. */
static void test_keys_never_decide(void **state) {
    (void)state;
    run_world(11, 0, 8000);
    run_world(12, 3, 8000);
    run_world(13, (uint64_t)3 << 60, 8000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest_beginning),      cmocka_unit_test(test_parents_count),
        cmocka_unit_test(test_equal_pages_become_one), cmocka_unit_test(test_least_recent_leaf_goes),
        cmocka_unit_test(test_survives_oom),           cmocka_unit_test(test_against_a_naive_index),
        cmocka_unit_test(test_keys_never_decide),
    };
    return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
