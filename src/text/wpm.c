#include "text/wpm.h"

#include "text/unicode.h"

status wpm_open(wpm *w, const vocab *v, token_id unk, const gguf *g, err *e) {
    w->lower = true;
    w->unk = unk;
    status s = gguf_get_bool(g, "tokenizer.ggml.normalizer.lowercase", &w->lower, e);
    w->strip_accents = w->lower;
    if (!s) s = gguf_get_bool(g, "tokenizer.ggml.normalizer.strip_accents", &w->strip_accents, e);
    if (!s) s = trie_open(&w->words, v->seed, e);
    for (uint32_t i = 0; !s && i < v->n; i++)
        s = trie_add(&w->words, (str){v->text[i].p, v->text[i].n}, (token_id)i, e);
    return s;
}

void wpm_close(wpm *w) { trie_close(&w->words); }

/* ---- a word ---- */

static void put_word(const wpm *w, strbuf *word, token_vec *out) {
    size_t before = out->n, n = 0;
    if (word->failed) out->failed = true;
    if (word->n == 0 || out->failed) return;
    for (size_t at = 0; at < word->n; at += n) {
        token_id id = trie_longest(&w->words, (str){word->p + at, word->n - at}, &n);
        if (id < 0) { /* nothing of the word counts */
            out->n = before;
            token_vec_add(out, w->unk);
            break;
        }
        token_vec_add(out, id);
    }
    strbuf_clear(word);
}

/* ---- words ---- */

/* The blocks of CJK ideographs, as BERT lists them; that of extension E begins late there (0x2B920, not 0x2B820). */
static bool is_ideograph(uint32_t cp) {
    static const uint32_t block[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
                                        {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    for (size_t i = 0; cp >= 0x3400 && i < sizeof block / sizeof *block; i++)
        if (cp >= block[i][0] && cp <= block[i][1]) return true;
    return false;
}

static bool stands_alone(uint32_t cp, unsigned is) {
    return is & CHAR_PUNCT || (cp < 0x7F && is & CHAR_SYMBOL) || is_ideograph(cp);
}

static void add_char(strbuf *word, uint32_t cp) {
    static const char mark[] = "\xE2\x96\x81"; /* U+2581 before the first of a word */
    char bytes[4];
    if (word->n == 0) strbuf_add(word, mark, sizeof mark - 1);
    strbuf_add(word, bytes, utf8_write(cp, bytes));
}

void wpm_encode(const wpm *w, str text, strbuf *word, token_vec *out) {
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    strbuf_clear(word);
    for (utf8_char c; (c = utf8_look(p, end)).n; p += c.n) {
        if (c.cp == UTF8_BAD || c.cp == 0 || c.cp == 0xFFFD) continue;
        uint32_t cp = w->strip_accents ? unicode_base(c.cp) : c.cp;
        unsigned is = unicode_class(cp);
        if (is & CHAR_SPACE) {
            put_word(w, word, out);
            continue;
        }
        if (is & CHAR_CONTROL || (w->strip_accents && is & CHAR_MARK)) continue;
        bool alone = stands_alone(cp, is);
        if (alone) put_word(w, word, out);
        add_char(word, w->lower ? unicode_lower(cp) : cp);
        if (alone) put_word(w, word, out);
        if (word->failed || out->failed) break;
    }
    put_word(w, word, out);
}
