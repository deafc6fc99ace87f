#include "text/spm.h"

#include "text/unicode.h"

#include <string.h>

static const char space_mark[] = "\xE2\x96\x81"; /* U+2581 */
enum { SPACE_MARK_BYTES = 3 };

void spm_escape(strbuf *out, str text, bool prefix) {
    if (prefix) strbuf_add(out, space_mark, SPACE_MARK_BYTES);
    for (const char *p = text.p, *end = text.p + text.n; p < end;) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        strbuf_add(out, p, (size_t)((space ? space : end) - p));
        if (!space) return;
        strbuf_add(out, space_mark, SPACE_MARK_BYTES);
        p = space + 1;
    }
}

void spm_unescape(strbuf *out, str text) {
    size_t start = 0;
    for (size_t i = 0; i + SPACE_MARK_BYTES <= text.n; i++) {
        if (memcmp(text.p + i, space_mark, SPACE_MARK_BYTES) != 0) continue;
        strbuf_add(out, text.p + start, i - start);
        strbuf_add(out, " ", 1);
        i += SPACE_MARK_BYTES - 1;
        start = i + 1;
    }
    strbuf_add(out, text.p + start, text.n - start);
}

void spm_open(spm *s, const vocab *v, token_id unk) {
    static const char hex[] = "0123456789ABCDEF";
    s->v = v;
    for (int i = 0; i < 256; i++) {
        char text[6] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'}, byte = (char)i;
        token_id id = vocab_find(v, text, sizeof text);
        if (id < 0) id = vocab_find(v, &byte, 1);
        s->byte[i] = id < 0 ? unk : id;
    }
}

typedef struct {
    const vocab *v;
    const char *text;
} join_ctx;

static bool join_rule(const void *p, merge_symbol *left, const merge_symbol *right) {
    const join_ctx *c = p;
    token_id id = vocab_find(c->v, c->text + left->at, (size_t)left->n + right->n);
    if (id < 0) return false;
    left->order = c->v->text[id].order;
    left->joined = id;
    return true;
}

/* Calls of utf8_look, not of the lead byte's word: a broken character must not swallow the mark of a space. */
static size_t count_chars(str text) {
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    size_t n = 0;
    for (; p < end; p += utf8_look(p, end).n) n++;
    return n;
}

static void split_chars(str text, merger *m) {
    const uint8_t *start = (const uint8_t *)text.p, *end = start + text.n;
    uint32_t n;
    for (const uint8_t *p = start; p < end; p += n) {
        n = utf8_look(p, end).n;
        merge_add(m, (uint32_t)(p - start), n, TOKEN_NONE);
    }
}

static void put_symbol(const spm *s, str text, const merge_symbol *sym, token_vec *out) {
    const char *p = text.p + sym->at;
    token_id id = sym->id >= 0 ? sym->id : vocab_find(s->v, p, sym->n);
    if (id >= 0) {
        token_vec_add(out, id);
        return;
    }
    for (uint32_t i = 0; i < sym->n; i++)
        if (s->byte[(uint8_t)p[i]] >= 0) token_vec_add(out, s->byte[(uint8_t)p[i]]);
}

void spm_encode(const spm *s, str text, merger *m, token_vec *out) {
    if (text.n == 0) return;
    if (!merge_reserve(m, count_chars(text))) {
        out->failed = true;
        return;
    }
    split_chars(text, m);
    merge_run(m, join_rule, &(join_ctx){s->v, text.p});
    for (int32_t i = 0; i != MERGE_END; i = m->sym[i].next) put_symbol(s, text, &m->sym[i], out);
}
