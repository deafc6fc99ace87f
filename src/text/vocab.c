#include "text/vocab.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>
#include <sys/random.h>

static const char key_tokens[] = "tokenizer.ggml.tokens", key_scores[] = "tokenizer.ggml.scores",
                  key_types[] = "tokenizer.ggml.token_type";

/* ---- hash: eight bytes a step, each step a 64x64 -> 128 bit product folded onto itself ---- */

enum { HASH_STEP = 8 };

uint64_t vocab_mix(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t load_tail(const char *p, size_t n) { /* n < 8; bytes may be read twice */
    if (n >= 4) {
        uint32_t lo, hi;
        memcpy(&lo, p, 4);
        memcpy(&hi, p + n - 4, 4);
        return lo | (uint64_t)hi << 32;
    }
    if (n == 0) return 0;
    return (uint64_t)(uint8_t)p[0] | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint64_t)(uint8_t)p[n - 1] << 16;
}

uint64_t vocab_hash(uint64_t seed, const char *p, size_t n) {
    uint64_t h = seed ^ n;
    for (; n >= HASH_STEP; p += HASH_STEP, n -= HASH_STEP) {
        uint64_t w;
        memcpy(&w, p, HASH_STEP);
        h = vocab_mix(h ^ w, 0x9E3779B97F4A7C15u);
    }
    return vocab_mix(h ^ load_tail(p, n), 0xD6E8FEB86659FD93u);
}

static bool is_text(const vocab *v, token_id id, const char *p, size_t n) {
    return v->text[id].n == n && memcmp(v->text[id].p, p, n) == 0;
}

/* The first slot from the hash's home on that carries its tag, or a free one. */
static uint32_t next_slot(const vocab *v, uint64_t h, uint32_t i) {
    while (v->slot[i].id != TOKEN_NONE && v->slot[i].tag != (uint32_t)(h >> 32)) i = (i + 1) & v->mask;
    return i;
}

token_id vocab_find(const vocab *v, const char *p, size_t n) {
    if (n == 0 || n > v->max_text) return TOKEN_NONE;
    uint64_t h = vocab_hash(v->seed, p, n);
    for (uint32_t i = next_slot(v, h, (uint32_t)h & v->mask);; i = next_slot(v, h, (i + 1) & v->mask)) {
        token_id id = v->slot[i].id;
        if (id == TOKEN_NONE || is_text(v, id, p, n)) return id;
    }
}

void vocab_find_many(const vocab *v, const str *text, size_t n, token_id *out) {
    uint64_t h[VOCAB_MANY];
    for (size_t i = 0; i < n; i++) {
        h[i] = vocab_hash(v->seed, text[i].p, text[i].n);
        __builtin_prefetch(&v->slot[(uint32_t)h[i] & v->mask]);
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = v->slot[next_slot(v, h[i], (uint32_t)h[i] & v->mask)].id;
        if (out[i] >= 0) __builtin_prefetch(&v->text[out[i]]);
    }
    for (size_t i = 0; i < n; i++)
        if (out[i] >= 0) __builtin_prefetch(v->text[out[i]].p);
    for (size_t i = 0; i < n; i++) /* two texts of one tag are rare */
        if (out[i] >= 0 && !is_text(v, out[i], text[i].p, text[i].n)) out[i] = vocab_find(v, text[i].p, text[i].n);
}

static void insert(vocab *v, token_id id, uint64_t h) {
    const vocab_text *t = &v->text[id];
    if (t->n == 0) return;
    uint32_t i = next_slot(v, h, (uint32_t)h & v->mask);
    while (v->slot[i].id != TOKEN_NONE && !is_text(v, v->slot[i].id, t->p, t->n))
        i = next_slot(v, h, (i + 1) & v->mask);
    v->slot[i] = (vocab_slot){(uint32_t)(h >> 32), id}; /* over an equal text too: the later id wins */
}

static void insert_all(vocab *v) {
    uint64_t h[VOCAB_MANY];
    for (uint32_t at = 0, n; at < v->n; at += n) {
        n = v->n - at < VOCAB_MANY ? v->n - at : VOCAB_MANY;
        for (uint32_t i = 0; i < n; i++) {
            h[i] = vocab_hash(v->seed, v->text[at + i].p, v->text[at + i].n);
            __builtin_prefetch(&v->slot[(uint32_t)h[i] & v->mask], 1);
        }
        for (uint32_t i = 0; i < n; i++) insert(v, (token_id)(at + i), h[i]);
    }
}

/* ---- reading ---- */

static status find_array(const gguf_kv **out, const gguf *g, const char *key, uint32_t n, err *e) {
    const gguf_kv *kv = *out = gguf_find(g, key);
    if (!kv) return OK;
    if (kv->type != GGUF_ARRAY) return fail(e, ERR_TOKENIZER, "%s is no array", key);
    if (kv->n != n)
        return fail(e, ERR_TOKENIZER, "%s has %llu elements for %u tokens", key, (unsigned long long)kv->n, n);
    return OK;
}

static status read_texts(vocab *v, const gguf_kv *kv, err *e) {
    const uint8_t *at = kv->data;
    for (uint32_t i = 0; i < v->n; i++) {
        str s = gguf_next_string(kv, &at);
        if (s.n > VOCAB_MAX_TEXT)
            return fail(e, ERR_TOKENIZER, "%s[%u] has %zu bytes, at most %d are accepted", key_tokens, i, s.n,
                        VOCAB_MAX_TEXT);
        v->text[i] = (vocab_text){s.p, (uint32_t)s.n, 0};
        v->is[i] = TOKEN_IS_NORMAL;
        if (s.n > v->max_text) v->max_text = (uint32_t)s.n;
    }
    return OK;
}

/* Floats to integers that sort the other way round: highest score, lowest order. Both zeros are one. */
static uint32_t order_of(float score) {
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

float vocab_score(const vocab *v, token_id id) {
    uint32_t order = v->text[id].order, bits = order >> 31 ? order : ~(order | 0x80000000u);
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

static status read_scores(vocab *v, const gguf *g, err *e) {
    const gguf_kv *kv;
    status s = find_array(&kv, g, key_scores, v->n, e);
    if (s || !kv) return s;
    if (kv->elem_type != GGUF_F32 && kv->elem_type != GGUF_I32)
        return fail(e, ERR_TOKENIZER, "%s holds %s, not f32", key_scores, gguf_type_name(kv->elem_type));
    for (uint32_t i = 0; i < v->n; i++) {
        float score =
            kv->elem_type == GGUF_F32 ? (float)gguf_array_float(kv, i) : (float)(int32_t)gguf_array_uint(kv, i);
        if (isnan(score)) return fail(e, ERR_TOKENIZER, "%s[%u] is not a number", key_scores, i);
        v->text[i].order = order_of(score);
    }
    return OK;
}

int vocab_byte_of(str t) {
    int byte = 0;
    if (t.n != 6 || memcmp(t.p, "<0x", 3) != 0 || t.p[5] != '>') return -1;
    for (int i = 3; i < 5; i++) {
        char c = t.p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0) return -1;
        byte = byte * 16 + digit;
    }
    return byte;
}

static status read_kinds(vocab *v, const gguf *g, err *e) {
    static const uint8_t flags[] = {
        0, TOKEN_IS_NORMAL, TOKEN_IS_UNKNOWN, TOKEN_IS_CONTROL, TOKEN_IS_USER, TOKEN_IS_UNUSED, TOKEN_IS_BYTE};
    const gguf_kv *kv;
    status s = find_array(&kv, g, key_types, v->n, e);
    if (s || !kv) return s;
    if (kv->elem_type != GGUF_I32 && kv->elem_type != GGUF_U32)
        return fail(e, ERR_TOKENIZER, "%s holds %s, not i32", key_types, gguf_type_name(kv->elem_type));
    for (uint32_t i = 0; i < v->n; i++) {
        uint64_t kind = gguf_array_uint(kv, i);
        if (kind >= sizeof flags) return fail(e, ERR_TOKENIZER, "%s[%u] is no kind of token", key_types, i);
        v->is[i] = flags[kind];
        str t = {v->text[i].p, v->text[i].n};
        if (kind == TOKEN_BYTE && vocab_byte_of(t) < 0)
            return fail(e, ERR_TOKENIZER, "%s[%u] is a byte token but reads \"%.*s\", not <0xNN>", key_tokens, i,
                        STR(t));
    }
    return OK;
}

static status build_hash(vocab *v, err *e) {
    uint32_t cap = 16;
    while (cap / 2 < v->n) cap *= 2; /* at most half full */
    v->slot = mem_alloc(cap * sizeof *v->slot);
    if (!v->slot) return fail(e, ERR_NOMEM, "vocabulary");
    memset(v->slot, 0xFF, cap * sizeof *v->slot); /* TOKEN_NONE everywhere */
    v->mask = cap - 1;
    if (getrandom(&v->seed, sizeof v->seed, GRND_NONBLOCK) != sizeof v->seed) v->seed = (uintptr_t)v->slot;
    insert_all(v);
    return OK;
}

status vocab_open(vocab *v, const gguf *g, err *e) {
    const gguf_kv *kv = gguf_find(g, key_tokens);
    if (!kv) return fail(e, ERR_TOKENIZER, "%s is missing", key_tokens);
    if (kv->type != GGUF_ARRAY || kv->elem_type != GGUF_STRING)
        return fail(e, ERR_TOKENIZER, "%s is no array of strings", key_tokens);
    if (kv->n == 0 || kv->n > VOCAB_MAX_TOKENS)
        return fail(e, ERR_TOKENIZER, "%s has %llu elements, 1 to %d are accepted", key_tokens,
                    (unsigned long long)kv->n, VOCAB_MAX_TOKENS);
    v->n = (uint32_t)kv->n;
    v->text = mem_alloc(v->n * sizeof *v->text);
    v->is = mem_alloc(v->n);
    if (!v->text || !v->is) return fail(e, ERR_NOMEM, "vocabulary of %u tokens", v->n);
    status s = read_texts(v, kv, e);
    if (!s) s = read_scores(v, g, e);
    if (!s) s = read_kinds(v, g, e);
    if (!s) s = build_hash(v, e);
    return s;
}

void vocab_close(vocab *v) {
    mem_free(v->text);
    mem_free(v->is);
    mem_free(v->slot);
    *v = (vocab){0};
}
