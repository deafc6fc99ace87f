/* Ids to text, and the hold for characters that are cut between tokens. */
#include "base/mem.h"
#include "text/tokenizer.h"
#include "text/tokenizer_own.h"
#include "text/unicode.h"

#include <string.h>

/* A byte-level text back to bytes. A character that stands for no byte is kept as it is. */
static void add_bytes_of(strbuf *out, str text) {
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    for (utf8_char c; (c = utf8_look(p, end)).n; p += c.n) {
        int byte = bpe_char_to_byte(c.cp);
        char b = (char)byte;
        if (byte < 0)
            strbuf_add(out, (const char *)p, c.n);
        else
            strbuf_add(out, &b, 1);
    }
}

static void add_piece(const tokenizer *t, token_id id, bool special, strbuf *out) {
    unsigned is = t->v.is[id];
    str text = tokenizer_text(t, id);
    bool hidden = is & (TOKEN_IS_UNKNOWN | TOKEN_IS_CONTROL);
    if (hidden && !special) return;
    if (hidden || is & TOKEN_IS_USER) {
        strbuf_add(out, text.p, text.n);
    } else if (is & TOKEN_IS_NORMAL) {
        if (t->escapes)
            spm_unescape(out, text);
        else
            add_bytes_of(out, text);
    } else if (is & TOKEN_IS_BYTE) {
        char byte = (char)vocab_byte_of(text);
        strbuf_add(out, &byte, 1);
    } /* unused tokens have no text */
}

static status check_id(const tokenizer *t, token_id id, err *e) {
    if (id >= 0 && (uint32_t)id < t->v.n) return OK;
    return fail(e, ERR_TOKEN, "token %d is not in the vocabulary of %u", id, t->v.n);
}

status tokenizer_piece(const tokenizer *t, token_id id, bool special, strbuf *out, err *e) {
    status s = check_id(t, id, e);
    if (s) return s;
    add_piece(t, id, special, out);
    return out->failed ? fail(e, ERR_NOMEM, "detokenizing") : OK;
}

/* ---- clean_up_tokenization_spaces, three passes over the text as llama.cpp makes them ---- */

/* " ?" " !" " ." " ," lose their space. */
static size_t clean_punctuation(char *p, size_t n) {
    size_t w = n ? 1 : 0;
    for (size_t i = 1; i < n; i++) {
        char c = p[i];
        if (p[i - 1] == ' ' && (c == '?' || c == '!' || c == '.' || c == ',')) w--;
        p[w++] = c;
    }
    return w;
}

/* " ' " becomes "'". The byte after it is cleared, so that the next character does not see a space before it. */
static size_t clean_lone_apostrophe(char *p, size_t n) {
    size_t w = n ? 1 : 0;
    for (size_t i = 1; i < n; i++) {
        char c = p[i];
        if (c == '\'' && i + 1 < n && p[i - 1] == ' ' && p[i + 1] == ' ') {
            w--;
            p[++i] = 0;
        }
        p[w++] = c;
    }
    return w;
}

/* " 's" " 'm" " 're" " 've" lose their space. */
static size_t clean_contractions(char *p, size_t n) {
    size_t w = n ? 1 : 0;
    for (size_t i = 1; i < n; i++) {
        char c = p[i], a = i + 1 < n ? p[i + 1] : 0, b = i + 2 < n ? p[i + 2] : 0;
        if (p[i - 1] == ' ' && c == '\'' && (a == 's' || a == 'm' || ((a == 'r' || a == 'v') && b == 'e'))) w--;
        p[w++] = c;
    }
    return w;
}

static void clean_spaces(strbuf *out, size_t from) {
    if (!out->p || out->n == from) return;
    char *p = out->p + from;
    size_t n = clean_punctuation(p, out->n - from);
    n = clean_lone_apostrophe(p, n);
    n = clean_contractions(p, n);
    out->n = from + n;
    out->p[out->n] = 0;
}

status tokenizer_decode(const tokenizer *t, const token_id *ids, size_t n, bool special, strbuf *out, err *e) {
    size_t from = out->n;
    for (size_t i = 0; i < n; i++) {
        status s = check_id(t, ids[i], e);
        if (s) return s;
        size_t at = out->n;
        add_piece(t, ids[i], special, out);
        if (i == 0 && t->info.add_space_prefix && out->n > at && out->p[at] == ' ')
            memmove(out->p + at, out->p + at + 1, out->n-- - at); /* with the terminator */
    }
    if (out->failed) return fail(e, ERR_NOMEM, "detokenizing %zu tokens", n);
    if (t->cleans) clean_spaces(out, from);
    return OK;
}

/* ---- characters that are cut between tokens ---- */

static const char replacement[] = "\xEF\xBF\xBD";

/* Bytes of [p, p + n) that could still become a character when more come: then all of them; 0: they cannot. */
static bool may_grow(const uint8_t *p, size_t n) {
    static const uint8_t least[] = {0x80, 0x80, 0x80};
    uint8_t full[4] = {0};
    size_t want = utf8_lead_len(p[0]);
    if (p[0] < 0xC2 || p[0] > 0xF4 || n >= want) return false;
    memcpy(full, p, n);
    memcpy(full + n, least, want - n);
    if (n == 1 && p[0] == 0xE0) full[1] = 0xA0; /* the lowest second byte that is well-formed */
    if (n == 1 && p[0] == 0xF0) full[1] = 0x90;
    return utf8_look(full, full + want).n == want;
}

void utf8_hold_push(utf8_hold *h, const char *bytes, size_t n, strbuf *out) {
    for (size_t i = 0; i < n; i++) {
        h->held[h->n_held++] = (uint8_t)bytes[i];
        for (;;) { /* at most twice: a byte that breaks a character may begin the next */
            utf8_char c = utf8_look(h->held, h->held + h->n_held);
            if (c.cp != UTF8_BAD) {
                strbuf_add(out, (const char *)h->held, c.n);
                h->n_held = 0;
                break;
            }
            if (may_grow(h->held, h->n_held)) break;
            strbuf_add(out, replacement, 3);
            if (h->n_held == 1) {
                h->n_held = 0;
                break;
            }
            h->held[0] = h->held[h->n_held - 1]; /* what was held before it could not be one, and is one U+FFFD */
            h->n_held = 1;
        }
    }
}

void utf8_hold_flush(utf8_hold *h, strbuf *out) {
    if (h->n_held) strbuf_add(out, replacement, 3);
    h->n_held = 0;
}
