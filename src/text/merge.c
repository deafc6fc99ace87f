#include "text/merge.h"

#include "base/mem.h"

/* From this size on the scratch is mapped pages: they cost only what is touched. */
enum { MAPPED_BYTES = 1 << 20, MIN_CAP = 256 };

void merge_free(merger *m) {
    if (m->block_bytes >= MAPPED_BYTES)
        mem_unmap(m->block, m->block_bytes);
    else
        mem_free(m->block);
    *m = (merger){0};
}

/* At most n - 1 pairs wait at the start; each join takes one out and puts at most two in: never more than 2n. */
bool merge_reserve(merger *m, size_t n) {
    m->n = m->n_heap = m->n_queue = 0;
    if (n <= m->cap) return true;
    merge_free(m);
    size_t cap = n < MIN_CAP ? MIN_CAP : n, pairs_bytes = 2 * cap * sizeof *m->heap;
    size_t bytes = 2 * pairs_bytes + cap * sizeof *m->sym;
    m->block = bytes >= MAPPED_BYTES ? mem_map(bytes) : mem_alloc(bytes);
    if (!m->block) return false;
    m->block_bytes = bytes;
    m->queue = m->block;
    m->heap = m->queue + 2 * cap;
    m->sym = (merge_symbol *)(void *)(m->heap + 2 * cap);
    m->cap = cap;
    return true;
}

void merge_add(merger *m, uint32_t at, uint32_t n, token_id id) {
    int32_t i = (int32_t)m->n++;
    m->sym[i] = (merge_symbol){at, n, i - 1, MERGE_END, id, MERGE_NEVER, TOKEN_NONE};
    if (i > 0) m->sym[i - 1].next = i;
}

static void heap_push(merger *m, uint64_t key) {
    size_t i = m->n_heap++;
    for (; i > 0 && m->heap[(i - 1) / 4] > key; i = (i - 1) / 4) m->heap[i] = m->heap[(i - 1) / 4];
    m->heap[i] = key;
}

static uint64_t heap_pop(merger *m) {
    uint64_t top = m->heap[0], key = m->heap[--m->n_heap];
    size_t i = 0;
    for (size_t first; (first = 4 * i + 1) < m->n_heap;) {
        size_t best = first, end = first + 4 < m->n_heap ? first + 4 : m->n_heap;
        for (size_t c = first + 1; c < end; c++)
            if (m->heap[c] < m->heap[best]) best = c;
        if (m->heap[best] >= key) break;
        m->heap[i] = m->heap[best];
        i = best;
    }
    m->heap[i] = key;
    return top;
}

static void push(merger *m, uint64_t key) {
    if (m->n_queue && key < m->last) {
        heap_push(m, key);
        return;
    }
    size_t at = m->head + m->n_queue++, size = 2 * m->cap;
    m->queue[at < size ? at : at - size] = m->last = key;
}

static uint64_t pop(merger *m) {
    if (!m->n_queue || (m->n_heap && m->heap[0] < m->queue[m->head])) return heap_pop(m);
    uint64_t key = m->queue[m->head];
    m->n_queue--;
    if (++m->head == 2 * m->cap) m->head = 0;
    return key;
}

/* Looks again at the pair that begins at i, because one of the two is new. */
static void consider(merger *m, int32_t i, merge_rule rule, const void *ctx) {
    merge_symbol *left = &m->sym[i];
    left->order = MERGE_NEVER;
    if (left->next == MERGE_END || !rule(ctx, left, &m->sym[left->next])) return;
    push(m, (uint64_t)left->order << 32 | (uint32_t)i);
}

static void join(merger *m, int32_t i, merge_rule rule, const void *ctx) {
    merge_symbol *left = &m->sym[i], *right = &m->sym[left->next];
    left->id = left->joined;
    left->n += right->n;
    left->next = right->next;
    right->n = 0;
    right->order = MERGE_NEVER; /* the key that still waits for it is stale */
    if (left->next != MERGE_END) m->sym[left->next].prev = i;
    if (left->prev != MERGE_END) consider(m, left->prev, rule, ctx);
    consider(m, i, rule, ctx);
}

/* A key that waits is stale when its left symbol has another order by now; a pair of the same order at the same place
 * has a key of its own that compares equal, so taking it a little early changes nothing. */
void merge_run(merger *m, merge_rule rule, const void *ctx) {
    for (size_t i = 0; i + 1 < m->n; i++) consider(m, (int32_t)i, rule, ctx);
    while (m->n_heap || m->n_queue) {
        uint64_t key = pop(m);
        int32_t i = (int32_t)(uint32_t)key;
        if (m->sym[i].order == (uint32_t)(key >> 32)) join(m, i, rule, ctx);
    }
}

void token_vec_add(token_vec *v, token_id id) {
    if (v->failed) return;
    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 64;
        token_id *p = mem_resize(v->p, cap * sizeof *p);
        if (!p) {
            v->failed = true;
            return;
        }
        v->p = p;
        v->cap = cap;
    }
    v->p[v->n++] = id;
}
