#include "text/bpe.h"

#include "base/mem.h"
#include "text/unicode.h"

#include <string.h>

static const char key_merges[] = "tokenizer.ggml.merges";

/* ---- bytes as characters: the 188 that print in Latin-1 stand for themselves, the other 68 for U+0100 and on ---- */

static bool stands_for_itself(uint32_t b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

/* The others in ascending order: 0x00..0x20, 0x7F..0xA0, 0xAD. */
uint32_t bpe_byte_to_char(uint8_t b) {
    if (stands_for_itself(b)) return b;
    return 0x100 + (b <= 0x20 ? b : b <= 0xA0 ? b - 0x7Fu + 33 : 67u);
}

int bpe_char_to_byte(uint32_t cp) {
    if (cp < 0x100) return stands_for_itself(cp) ? (int)cp : -1;
    uint32_t k = cp - 0x100;
    return k <= 32 ? (int)k : k <= 66 ? (int)(k - 33 + 0x7F) : k == 67 ? 0xAD : -1;
}

/* ---- the merges ---- */

static uint32_t home_of(const bpe *b, uint64_t pair) {
    return (uint32_t)vocab_mix(pair ^ b->v->seed, 0x9E3779B97F4A7C15u) & b->mask;
}

static uint64_t pair_of(token_id left, token_id right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

static void insert(bpe *b, bpe_merge m) {
    uint32_t i = home_of(b, m.pair);
    for (; b->slot[i].pair != UINT64_MAX; i = (i + 1) & b->mask)
        if (b->slot[i].pair == m.pair) return;
    b->slot[i] = m;
}

static const bpe_merge *find(const bpe *b, token_id left, token_id right) {
    uint64_t pair = pair_of(left, right);
    for (uint32_t i = home_of(b, pair); b->slot[i].pair != UINT64_MAX; i = (i + 1) & b->mask)
        if (b->slot[i].pair == pair) return &b->slot[i];
    return NULL;
}

/* Merges are looked up a batch at a time: left, right and joined text of each. */
enum { BATCH = VOCAB_MANY / 3 };
typedef struct {
    str text[VOCAB_MANY];
    uint32_t rank[BATCH];
    uint32_t n;
    char *joined; /* the joined texts, copied together */
    size_t n_joined;
} batch;

static void batch_insert(bpe *b, batch *c) {
    token_id id[VOCAB_MANY];
    vocab_find_many(b->v, c->text, 3 * c->n, id);
    for (uint32_t i = 0; i < c->n; i++) __builtin_prefetch(&b->slot[home_of(b, pair_of(id[3 * i], id[3 * i + 1]))], 1);
    for (uint32_t i = 0; i < c->n; i++) {
        const token_id *t = &id[3 * i];
        if (t[0] >= 0 && t[1] >= 0 && t[2] >= 0) insert(b, (bpe_merge){pair_of(t[0], t[1]), c->rank[i], t[2]});
    }
    c->n = 0;
    c->n_joined = 0;
}

static void batch_add(batch *c, str merge, size_t n_left, uint32_t rank) {
    str left = {merge.p, n_left}, right = {merge.p + n_left + 1, merge.n - n_left - 1};
    char *joined = c->joined + c->n_joined;
    memcpy(joined, left.p, left.n);
    memcpy(joined + left.n, right.p, right.n);
    c->n_joined += left.n + right.n;
    c->rank[c->n] = rank;
    str *t = &c->text[3 * c->n++];
    t[0] = left;
    t[1] = right;
    t[2] = (str){joined, left.n + right.n};
}

/* "left right", cut at the first space after the first byte. What cannot name tokens is passed over here already. */
static void read_merges(bpe *b, const gguf_kv *kv, batch *c) {
    const uint8_t *at = kv->data;
    for (uint32_t rank = 0; rank < kv->n; rank++) {
        str s = gguf_next_string(kv, &at);
        const char *gap = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        if (!gap || s.n - 1 > b->v->max_text) continue;
        if (c->n == BATCH) batch_insert(b, c);
        batch_add(c, s, (size_t)(gap - s.p), rank);
    }
    batch_insert(b, c);
}

static void find_bytes(bpe *b) {
    static const char hex[] = "0123456789ABCDEF";
    for (int i = 0; i < 256; i++) {
        char text[8] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        size_t n = b->pre->is & PRETOK_RAW ? 6 : utf8_write(bpe_byte_to_char((uint8_t)i), text);
        b->byte[i] = vocab_find(b->v, text, n);
    }
}

status bpe_open(bpe *b, const vocab *v, const pretok *pre, const gguf *g, err *e) {
    b->v = v;
    b->pre = pre;
    find_bytes(b);
    const gguf_kv *kv = gguf_find(g, key_merges);
    if (!kv) return fail(e, ERR_TOKENIZER, "%s is missing", key_merges);
    if (kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING)
        return fail(e, ERR_TOKENIZER, "%s is no array of strings", key_merges);
    if (kv->n > INT32_MAX / 4) return fail(e, ERR_TOKENIZER, "%s has too many elements", key_merges);
    uint32_t cap = 16;
    while (cap / 4 * 3 <= kv->n) cap *= 2; /* at most three quarters full */
    b->slot = mem_alloc(cap * sizeof *b->slot);
    batch c = {.joined = mem_alloc(BATCH * (size_t)v->max_text)};
    bool ok = b->slot && c.joined;
    if (ok) {
        memset(b->slot, 0xFF, cap * sizeof *b->slot);
        b->mask = cap - 1;
        read_merges(b, kv, &c);
    }
    mem_free(c.joined);
    return ok ? OK : fail(e, ERR_NOMEM, "table of merges");
}

void bpe_close(bpe *b) {
    mem_free(b->slot);
    b->slot = NULL;
}

/* ---- a word ---- */

static bool join_rule(const void *ctx, merge_symbol *left, const merge_symbol *right) {
    if (left->id < 0 || right->id < 0) return false;
    const bpe_merge *m = find(ctx, left->id, right->id);
    if (!m) return false;
    left->order = m->rank;
    left->joined = m->joined;
    return true;
}

/* The word as the vocabulary writes it. false: longer than any token. */
static bool spell(const bpe *b, str word, char *out, size_t *n) {
    *n = 0;
    if (word.n > b->v->max_text) return false;
    for (size_t i = 0; i < word.n; i++) *n += utf8_write(bpe_byte_to_char((uint8_t)word.p[i]), out + *n);
    return true;
}

static token_id whole_word(const bpe *b, str word, char *scratch) {
    size_t n;
    if (b->pre->is & PRETOK_IGNORE_MERGES)
        return spell(b, word, scratch, &n) ? vocab_find(b->v, scratch, n) : TOKEN_NONE;
    if (b->pre->is & PRETOK_RAW && word.p[0] == '\n')
        return vocab_find(b->v, word.p, word.n); /* a run of line breaks */
    return TOKEN_NONE;
}

static void split_bytes(const bpe *b, str word, merger *m) {
    for (size_t i = 0; i < word.n; i++) merge_add(m, (uint32_t)i, 1, b->byte[(uint8_t)word.p[i]]);
}

static void split_chars(const bpe *b, str word, merger *m) {
    const uint8_t *start = (const uint8_t *)word.p, *end = start + word.n;
    uint32_t n;
    for (const uint8_t *p = start; p < end; p += n) {
        n = utf8_look(p, end).n;
        merge_add(m, (uint32_t)(p - start), n, vocab_find(b->v, (const char *)p, n));
    }
}

static void put_symbol(const bpe *b, str word, const merge_symbol *s, token_vec *out) {
    if (s->id >= 0) {
        token_vec_add(out, s->id);
        return;
    }
    for (uint32_t i = 0; b->pre->is & PRETOK_RAW && i < s->n; i++) { /* a character without a token: its bytes */
        token_id id = b->byte[(uint8_t)word.p[s->at + i]];
        if (id >= 0) token_vec_add(out, id);
    }
}

static void encode_word(const bpe *b, str word, merger *m, char *scratch, token_vec *out) {
    token_id whole = whole_word(b, word, scratch);
    if (whole >= 0) {
        token_vec_add(out, whole);
        return;
    }
    if (!merge_reserve(m, word.n)) {
        out->failed = true;
        return;
    }
    if (b->pre->is & PRETOK_RAW)
        split_chars(b, word, m);
    else
        split_bytes(b, word, m);
    merge_run(m, join_rule, b);
    for (int32_t i = 0; i != MERGE_END; i = m->sym[i].next) put_symbol(b, word, &m->sym[i], out);
}

void bpe_encode(const bpe *b, str text, merger *m, char *scratch, token_vec *out) {
    pretok_iter it = pretok_start(b->pre, text);
    for (str word; !out->failed && pretok_next(&it, &word);) encode_word(b, word, m, scratch, out);
}
