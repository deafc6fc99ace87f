#include "text/trie.h"

#include "base/mem.h"

#include <string.h>

enum { FIRST_NODES = 1 << 8 };

static uint32_t home_of(const trie *t, uint32_t key) {
    return (uint32_t)vocab_mix(key ^ t->seed, 0x9E3779B97F4A7C15u) & t->mask;
}

/* The slot of the edge, or the free one where it belongs. */
static uint32_t slot_of(const trie *t, uint32_t key) {
    uint32_t i = home_of(t, key);
    while (t->edge[i].child && t->edge[i].key != key) i = (i + 1) & t->mask;
    return i;
}

uint32_t trie_step(const trie *t, uint32_t node, uint8_t byte) { return t->edge[slot_of(t, node << 8 | byte)].child; }

token_id trie_longest(const trie *t, str text, size_t *n) {
    token_id id = TOKEN_NONE;
    uint32_t node = TRIE_ROOT;
    for (size_t i = 0; i < text.n; i++) {
        node = trie_step(t, node, (uint8_t)text.p[i]);
        if (!node) break;
        if (t->value[node] < 0) continue;
        id = t->value[node];
        *n = i + 1;
    }
    return id;
}

/* Room for cap nodes: twice as many slots. */
static bool grow(trie *t, uint32_t cap) {
    token_id *value = mem_resize(t->value, cap * sizeof *value);
    if (!value) return false;
    t->value = value;
    trie_edge *old = t->edge, *edge = mem_zalloc(2 * (size_t)cap * sizeof *edge);
    if (!edge) return false;
    uint32_t n_old = t->cap ? t->mask + 1 : 0;
    t->edge = edge;
    t->cap = cap;
    t->mask = 2 * cap - 1;
    for (uint32_t i = 0; i < n_old; i++)
        if (old[i].child) t->edge[slot_of(t, old[i].key)] = old[i];
    mem_free(old);
    return true;
}

status trie_open(trie *t, uint64_t seed, err *e) {
    t->seed = seed;
    if (!grow(t, FIRST_NODES)) return fail(e, ERR_NOMEM, "trie of tokens");
    t->value[TRIE_ROOT] = TOKEN_NONE;
    t->n_nodes = 1;
    return OK;
}

static status add_node(trie *t, uint32_t slot, uint32_t key, uint32_t *node, err *e) {
    if (t->n_nodes == TRIE_MAX_NODES)
        return fail(e, ERR_TOKENIZER, "the token texts have more than %d prefixes", TRIE_MAX_NODES);
    if (t->n_nodes == t->cap) {
        if (!grow(t, 2 * t->cap)) return fail(e, ERR_NOMEM, "trie of tokens");
        slot = slot_of(t, key);
    }
    *node = t->n_nodes++;
    t->edge[slot] = (trie_edge){key, *node};
    t->value[*node] = TOKEN_NONE;
    return OK;
}

status trie_add(trie *t, str text, token_id id, err *e) {
    uint32_t node = TRIE_ROOT;
    status s = OK;
    if (text.n > TRIE_MAX_TEXT)
        return fail(e, ERR_TOKENIZER, "token %d has %zu bytes, at most %d are accepted in a vocabulary of this kind",
                    id, text.n, TRIE_MAX_TEXT);
    for (size_t i = 0; !s && i < text.n; i++) {
        uint32_t key = node << 8 | (uint8_t)text.p[i], slot = slot_of(t, key);
        if (t->edge[slot].child)
            node = t->edge[slot].child;
        else
            s = add_node(t, slot, key, &node, e);
    }
    if (!s && text.n) t->value[node] = id;
    return s;
}

void trie_close(trie *t) {
    mem_free(t->edge);
    mem_free(t->value);
    *t = (trie){0};
}

size_t trie_bytes(const trie *t) {
    return t->cap ? t->cap * sizeof *t->value + (t->mask + (size_t)1) * sizeof *t->edge : 0;
}
