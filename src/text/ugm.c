#include "text/ugm.h"

#include "base/mem.h"
#include "text/unicode.h"

#include <float.h>
#include <math.h>

/* ---- open ---- */

static status add_tokens(ugm *u, err *e) {
    float lowest = FLT_MAX;
    status s = OK;
    for (uint32_t i = 0; !s && i < u->v->n; i++) {
        unsigned is = u->v->is[i];
        str text = {u->v->text[i].p, u->v->text[i].n};
        float score = vocab_score(u->v, (token_id)i);
        if (!isfinite(score)) return fail(e, ERR_TOKENIZER, "tokenizer.ggml.scores[%u] is not finite", i);
        if (is & TOKEN_IS_NORMAL && score < lowest) lowest = score;
        if (is & (TOKEN_IS_NORMAL | TOKEN_IS_USER | TOKEN_IS_UNUSED)) s = trie_add(&u->tokens, text, (token_id)i, e);
        if (!s && is & TOKEN_IS_USER) s = trie_add(&u->user, text, (token_id)i, e);
    }
    u->unk_score = lowest - 10.0f;
    return s;
}

status ugm_open(ugm *u, const vocab *v, const tokenizer_info *info, const gguf *g, err *e) {
    u->v = v;
    u->unk = info->unk;
    u->prefix = info->add_space_prefix;
    if (!gguf_find(g, "tokenizer.ggml.scores")) return fail(e, ERR_TOKENIZER, "tokenizer.ggml.scores is missing");
    if (u->unk < 0) return fail(e, ERR_TOKENIZER, "a t5 vocabulary of %u tokens without an unknown token", v->n);
    status s = gguf_get_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &u->merge_spaces, e);
    if (!s) s = charsmap_open(&u->map, g, e);
    if (!s) s = trie_open(&u->tokens, v->seed, e);
    if (!s) s = trie_open(&u->user, v->seed, e);
    return s ? s : add_tokens(u, e);
}

void ugm_close(ugm *u) {
    charsmap_close(&u->map);
    trie_close(&u->tokens);
    trie_close(&u->user);
    *u = (ugm){0};
}

size_t ugm_bytes(const ugm *u) { return charsmap_bytes(&u->map) + trie_bytes(&u->tokens) + trie_bytes(&u->user); }

/* ---- normalising ---- */

/* The part of the text to take at once (returned: its bytes, > 0) and what it becomes. */
static size_t next_part(const ugm *u, str text, str *becomes) {
    size_t n = 0;
    if (trie_longest(&u->user, text, &n) < 0) {
        n = charsmap_find(&u->map, text, becomes);
        if (n) return n;
        utf8_char c = utf8_look((const uint8_t *)text.p, (const uint8_t *)text.p + text.n);
        if (c.cp == UTF8_BAD) {
            *becomes = (str){"\xEF\xBF\xBD", 3};
            return 1;
        }
        n = c.n;
    }
    *becomes = (str){text.p, n};
    return n;
}

typedef struct {
    strbuf *out;
    bool in_word, begun; /* begun: a space was put before a word */
} writer;

static void put_part(const ugm *u, writer *w, str part) {
    static const char mark[] = "\xE2\x96\x81"; /* U+2581 */
    enum { MARK_BYTES = 3 };
    for (size_t i = 0; i < part.n; i++) {
        bool space = part.p[i] == ' ', first = !space && !w->in_word;
        w->in_word = !space;
        if (first && (u->merge_spaces || (u->prefix && !w->begun))) {
            strbuf_add(w->out, mark, MARK_BYTES);
            w->begun = true;
        }
        if (!space)
            strbuf_add(w->out, part.p + i, 1);
        else if (!u->merge_spaces)
            strbuf_add(w->out, mark, MARK_BYTES);
    }
}

static void normalise(const ugm *u, str text, strbuf *out) {
    writer w = {.out = out};
    str becomes;
    strbuf_clear(out);
    for (size_t n; text.n && !out->failed; text.p += n, text.n -= n) {
        n = next_part(u, text, &becomes);
        put_part(u, &w, becomes);
    }
}

/* ---- the best way ---- */

typedef struct {
    double sum;    /* of the best way to here */
    uint32_t from; /* where its last token begins */
    token_id id;   /* that token */
} place;

static void offer(place *p, double sum, size_t from, token_id id) {
    if (sum > p->sum) *p = (place){sum, (uint32_t)from, id};
}

/* All tokens that begin at `at`; the character there has n bytes. */
static void go_on_from(const ugm *u, str text, size_t at, size_t n, place *best) {
    bool found = false;
    double sum = best[at].sum;
    uint32_t node = TRIE_ROOT;
    for (size_t end = at + 1; end <= text.n; end++) {
        node = trie_step(&u->tokens, node, (uint8_t)text.p[end - 1]);
        if (!node) break;
        token_id id = u->tokens.value[node];
        if (id < 0) continue;
        if (end - at == n) found = true;
        offer(&best[end], sum + (u->v->is[id] & TOKEN_IS_USER ? 0.0 : (double)vocab_score(u->v, id)), at, id);
    }
    if (!found) offer(&best[at + n], sum + (double)u->unk_score, at, u->unk);
}

/* From the end to the beginning, then turned round. */
static void put_way(const ugm *u, const place *best, size_t n, token_vec *out) {
    size_t first = out->n;
    bool after_unk = false;
    for (size_t at = n; at > 0; at = best[at].from) {
        bool unk = best[at].id == u->unk;
        if (!unk || !after_unk) token_vec_add(out, best[at].id);
        after_unk = unk;
    }
    if (out->failed) return;
    for (size_t i = first, k = out->n; i + 1 < k; i++) {
        token_id id = out->p[--k];
        out->p[k] = out->p[i];
        out->p[i] = id;
    }
}

void ugm_encode(const ugm *u, str text, strbuf *normal, token_vec *out) {
    normalise(u, text, normal);
    str s = {normal->p, normal->n};
    if (s.n == 0 && !normal->failed) return;
    place *best = normal->failed || s.n >= UINT32_MAX ? NULL : mem_array(s.n + 1, sizeof *best);
    if (!best) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i <= s.n; i++) best[i] = (place){i ? -DBL_MAX : 0.0, 0, u->unk};
    for (size_t at = 0, n; at < s.n; at += n) {
        n = utf8_lead_len((uint8_t)s.p[at]);
        if (n > s.n - at) n = s.n - at;
        go_on_from(u, s, at, n, best);
    }
    put_way(u, best, s.n, out);
    mem_free(best);
}
