/* WordPiece on vocabularies made here. Equality with llama.cpp is tests/oracle/test_tokenizer.py's; here is what a file may
 * get wrong, failing memory, time on a small stack, and the trie below. */
#include "check.h"

#include "vocab_file.h"

#include "base/mem.h"
#include "text/tokenizer.h"
#include "text/trie.h"
#include "text/unicode.h"

#include <time.h>

static int fd = -1;

enum { N_TOKENS = 24 };
static const char *const texts[N_TOKENS] = {
    "[PAD]",   "[UNK]",   "[CLS]",     "[SEP]",    "[MASK]",       "\u2581un",
    "aff",     "able",    "\u2581the", "s",        "\u2581s",      "\u2581a",
    "\u2581!", "b",       "ab",        "\u2581aa", "\u2581\u4E2D", "\u2581\u1100",
    "\u2581#", "\u2581e", "aab",       "i",        "\u2581\u2581", "\u2603"};
static const int32_t kinds[N_TOKENS] = {3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static void put_tokens(vocab_file *f, size_t n) {
    str s[N_TOKENS];
    for (size_t i = 0; i < n; i++) s[i] = str_of(texts[i]);
    vf_add_str(f, "tokenizer.ggml.model", "bert");
    vf_add_texts(f, "tokenizer.ggml.tokens", s, n);
    vf_add_array(f, "tokenizer.ggml.token_type", GGUF_I32, kinds, n, 4);
}

static void put_ids(vocab_file *f) {
    vf_add_u32(f, "tokenizer.ggml.unknown_token_id", 1);
    vf_add_u32(f, "tokenizer.ggml.bos_token_id", 2);
    vf_add_u32(f, "tokenizer.ggml.seperator_token_id", 3);
}

typedef struct {
    gguf *g;
    tokenizer *t;
} opened;

static opened must_open(vocab_file *f) {
    opened o = {0};
    err e = {0};
    if (vf_open(f, &fd, &o.g, &e) || tokenizer_open(&o.t, o.g, &e)) fprintf(stderr, "%s\n", e.text);
    assert_non_null(o.t);
    return o;
}

static void close_both(opened o) {
    tokenizer_close(o.t);
    gguf_close(o.g);
}

static opened open_usual(void) {
    vocab_file f = {0};
    put_tokens(&f, N_TOKENS);
    put_ids(&f);
    return must_open(&f);
}

static const tokenize_options plain = {.add_special = false}, full = {.add_special = true, .parse_special = true};

/* The tokens' texts between bars. */
static void expect_tokens(const tokenizer *t, const char *text, tokenize_options opt, const char *wanted) {
    token_list l;
    strbuf got = {0};
    assert_int_equal(tokenizer_encode(t, str_of(text), opt, &l, NULL), OK);
    strbuf_puts(&got, "|");
    for (size_t i = 0; i < l.n; i++) {
        str s = tokenizer_text(t, l.ids[i]);
        strbuf_add(&got, s.p, s.n);
        strbuf_puts(&got, "|");
    }
    assert_string_equal(got.p, wanted);
    strbuf_free(&got);
    mem_free(l.ids);
}

static void test_words(void **state) {
    (void)state;
    opened o = open_usual();
    expect_tokens(o.t, "", full, "|[CLS]|[SEP]|");
    expect_tokens(o.t, "unaffable", full, "|[CLS]|\u2581un|aff|able|[SEP]|");
    expect_tokens(o.t, "  UNaffABLE\t\n the", plain, "|\u2581un|aff|able|\u2581the|");
    expect_tokens(o.t, "aabb", plain, "|\u2581aa|b|b|");         /* the longest first, though aab is a token too */
    expect_tokens(o.t, "aaqbb the", plain, "|[UNK]|\u2581the|"); /* nothing is kept of a word with a gap */
    expect_tokens(o.t, "the!!s", plain, "|\u2581the|\u2581!|\u2581!|\u2581s|");
    expect_tokens(o.t, "a##b", plain, "|\u2581a|\u2581#|\u2581#|[UNK]|"); /* b never begins a word */
    expect_tokens(o.t, "a\u4E2D\u4E2Ds", plain, "|\u2581a|\u2581\u4E2D|\u2581\u4E2D|\u2581s|");
    expect_tokens(o.t, "a\u2603", plain, "|\u2581a|\u2603|"); /* a symbol past ASCII does not stand alone */
    expect_tokens(o.t, "[MASK] a", full, "|[CLS]|[MASK]|\u2581a|[SEP]|");
    expect_tokens(o.t, "\u2581", plain, "|\u2581\u2581|");
    const tokenizer_info *i = tokenizer_get_info(o.t);
    assert_true(i->bos == 2 && i->sep == 3 && i->unk == 1 && i->pad == 0 && i->add_bos && i->add_sep && !i->add_eos);
    close_both(o);
}

static void test_cleaning(void **state) {
    (void)state;
    opened o = open_usual();
    expect_tokens(o.t, "\u00C4\u00E1b", plain, "|\u2581aa|b|");       /* letters with accents */
    expect_tokens(o.t, "e\u0301 \u1EBF", plain, "|\u2581e|\u2581e|"); /* marks; two accents at once */
    expect_tokens(o.t,
                  "a\u00AD\u200D\x01\x7F\uE000\uFFFD"
                  "ab",
                  plain, "|\u2581aa|b|"); /* no gap is left */
    expect_tokens(o.t,
                  "\xFF"
                  "a\xC3 \xF0\x9F"
                  "a\xED\xA0\x80"
                  "ab",
                  plain, "|\u2581a|\u2581aa|b|");
    expect_tokens(o.t,
                  "a\u00A0a\u2003a\xC2\x85"
                  "a",
                  plain, "|\u2581a|\u2581a|\u2581a|\u2581a|");
    expect_tokens(o.t, "\uAC00\uAC01", plain, "|[UNK]|"); /* two leading consonants: as llama.cpp */
    expect_tokens(o.t, "\uAC01", plain, "|\u2581\u1100|");
    expect_tokens(o.t, "S\u0130", plain, "|\u2581s|i|"); /* with its dot, as an accent, gone */
    token_list l;
    assert_int_equal(tokenizer_encode(o.t, (str){"a\0a\0", 4}, plain, &l, NULL), OK);
    assert_true(l.n == 1 && l.ids[0] == tokenizer_find(o.t, str_of("\u2581aa")));
    mem_free(l.ids);
    close_both(o);
}

static void test_normalizer_keys(void **state) {
    (void)state;
    static const struct {
        int lower, strip; /* -1: not in the file */
        const char *want; /* of "AA \u00E1 e\u0301" */
    } rows[] = {
        {-1, -1, "|\u2581aa|\u2581a|\u2581e|"},
        {1, 0, "|\u2581aa|[UNK]|[UNK]|"},
        {0, -1, "|[UNK]|[UNK]|[UNK]|"},
        {0, 1, "|[UNK]|\u2581a|\u2581e|"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vocab_file f = {0};
        put_tokens(&f, N_TOKENS);
        put_ids(&f);
        if (rows[i].lower >= 0) vf_add_bool(&f, "tokenizer.ggml.normalizer.lowercase", rows[i].lower);
        if (rows[i].strip >= 0) vf_add_bool(&f, "tokenizer.ggml.normalizer.strip_accents", rows[i].strip);
        opened o = must_open(&f);
        expect_tokens(o.t, "AA \u00E1 e\u0301", plain, rows[i].want);
        close_both(o);
    }
}

static void test_first_token_by_its_old_name(void **state) {
    (void)state;
    vocab_file f = {0};
    put_tokens(&f, N_TOKENS);
    vf_add_u32(&f, "tokenizer.ggml.unknown_token_id", 1);
    vf_add_u32(&f, "tokenizer.ggml.cls_token_id", 2);
    vf_add_u32(&f, "tokenizer.ggml.seperator_token_id", 3);
    opened o = must_open(&f);
    expect_tokens(o.t, "a", full, "|[CLS]|\u2581a|[SEP]|");
    close_both(o);
}

static void expect_text(const tokenizer *t, const char *text, bool special, const char *wanted) {
    token_list l;
    strbuf back = {0};
    assert_int_equal(tokenizer_encode(t, str_of(text), full, &l, NULL), OK);
    assert_int_equal(tokenizer_decode(t, l.ids, l.n, special, &back, NULL), OK);
    assert_string_equal(back.p ? back.p : "", wanted);
    strbuf_free(&back);
    mem_free(l.ids);
}

/* As llama.cpp has it: the space before the first word stays, spaces before marks go. */
static void test_decode(void **state) {
    (void)state;
    opened o = open_usual();
    expect_text(o.t, "unaffable!", false, " unaffable!");
    expect_text(o.t, "The s", true, "[CLS] the s[SEP]");
    expect_text(o.t, "", false, "");
    close_both(o);
}

/* ---- what a file may get wrong ---- */

static void expect_refused(vocab_file *f, status want, const char *names) {
    gguf *g;
    tokenizer *t;
    err e = {0};
    assert_int_equal(vf_open(f, &fd, &g, &e), OK);
    status s = tokenizer_open(&t, g, &e);
    if (s != want || t || !strstr(e.text, names)) fail_msg("%s: %d %s", names, s, e.text);
    gguf_close(g);
}

static void test_refuses(void **state) {
    (void)state;
    uint64_t live = mem_live();
    vocab_file f = {0};
    put_tokens(&f, N_TOKENS); /* 100, 101 and 102 are not there */
    expect_refused(&f, ERR_TOKENIZER, "[CLS]");
    put_tokens(&f, N_TOKENS);
    put_ids(&f);
    vf_add_u32(&f, "tokenizer.ggml.cls_token_id", N_TOKENS);
    expect_refused(&f, ERR_TOKENIZER, "cls_token_id");
    put_tokens(&f, N_TOKENS);
    put_ids(&f);
    vf_add_str(&f, "tokenizer.ggml.normalizer.lowercase", "yes");
    expect_refused(&f, ERR_GGUF_KEY, "normalizer.lowercase");
    static char long_text[TRIE_MAX_TEXT + 1];
    memset(long_text, 'q', sizeof long_text);
    for (size_t n = TRIE_MAX_TEXT; n <= TRIE_MAX_TEXT + 1; n++) {
        str s[] = {str_of("[UNK]"), str_of("[CLS]"), str_of("[SEP]"), {long_text, n}};
        vf_add_str(&f, "tokenizer.ggml.model", "bert");
        vf_add_texts(&f, "tokenizer.ggml.tokens", s, 4);
        for (uint32_t i = 0; i < 3; i++)
            vf_add_u32(&f,
                       (const char *[]){"tokenizer.ggml.unknown_token_id", "tokenizer.ggml.bos_token_id",
                                        "tokenizer.ggml.seperator_token_id"}[i],
                       i);
        if (n > TRIE_MAX_TEXT)
            expect_refused(&f, ERR_TOKENIZER, "1024");
        else
            close_both(must_open(&f));
    }
    assert_true(mem_live() == live);
}

static void test_survives_oom(void **state) {
    (void)state;
    vocab_file f = {0};
    gguf *g;
    put_tokens(&f, N_TOKENS);
    put_ids(&f);
    assert_int_equal(vf_open(&f, &fd, &g, NULL), OK);
    uint64_t live = mem_live();
    bool fired = true;
    for (uint64_t n = 1; fired; n++) {
        tokenizer *t;
        token_list l = {0};
        strbuf out = {0};
        mem_fail_at(n);
        status s = tokenizer_open(&t, g, NULL);
        if (!s)
            s = tokenizer_encode(t, str_of("unaffable! aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa [MASK]"), full, &l, NULL);
        if (!s) s = tokenizer_decode(t, l.ids, l.n, true, &out, NULL);
        fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        mem_free(l.ids);
        strbuf_free(&out);
        tokenizer_close(t);
        assert_true(mem_live() == live);
    }
    gguf_close(g);
}

/* ---- the trie, against a list ---- */

static token_id find_plainly(const str *text, size_t n, str wanted) {
    token_id id = TOKEN_NONE;
    for (size_t i = 0; i < n; i++)
        if (wanted.n && str_eq(text[i], wanted)) id = (token_id)i;
    return id;
}

static void test_trie(void **state) {
    (void)state;
    enum { N = 600 };
    static char store[N][6];
    str text[N];
    trie t = {0};
    assert_int_equal(trie_open(&t, 12345, NULL), OK);
    uint32_t x = 1;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < 6; k++) store[i][k] = (char)("ab\xFF\0"[(x = x * 1664525 + 1013904223) >> 30]);
        text[i] = (str){store[i], (x >> 8) % 7};
        assert_int_equal(trie_add(&t, text[i], (token_id)i, NULL), OK);
    }
    for (size_t i = 0; i < N; i++) {
        uint32_t node = TRIE_ROOT;
        for (size_t k = 0; k < text[i].n; k++) {
            node = trie_step(&t, node, (uint8_t)text[i].p[k]);
            assert_true(node != 0);
            assert_int_equal(t.value[node], find_plainly(text, N, (str){text[i].p, k + 1}));
        }
        assert_int_equal(trie_step(&t, node, 'z'), 0);
    }
    trie_close(&t);
}

static void test_base_and_lower(void **state) {
    (void)state;
    assert_true(unicode_base('a') == 'a' && unicode_base(0xC0) == 'A' && unicode_base(0x1EBF) == 'e');
    assert_true(unicode_base(0xAC00) == 0x1100 && unicode_base(0xD7A3) == 0x1112 && unicode_base(0xD7A4) == 0xD7A4);
    assert_true(unicode_base(0x2FA1D) == 0x2A600 && unicode_base(0x10FFFF) == 0x10FFFF && unicode_base(0xBF) == 0xBF);
    assert_true(unicode_lower('A') == 'a' && unicode_lower('@') == '@' && unicode_lower(0x130) == 'i');
    assert_true(unicode_lower(0x1E921) == 0x1E943 && unicode_lower(0x10FFFF) == 0x10FFFF);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_cleaning),
        cmocka_unit_test(test_normalizer_keys),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_first_token_by_its_old_name),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_survives_oom),
        cmocka_unit_test(test_trie),
        cmocka_unit_test(test_base_and_lower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
