/* src/text on vocabularies made here. Equality with llama.cpp is tests/oracle/test_tokenizer.py's; here is what needs the
 * process itself (failing memory, a small stack), what a file may get wrong, and the parts below the tokenizer. */
#include "check.h"

#include "heap_calls.h"

#include "vocab_file.h"

#include "base/mem.h"
#include "base/rng.h"
#include "text/bpe.h"
#include "text/merge.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

static int fd = -1;

/* ---- a vocabulary: SPM with bytes and a few words, or byte-level BPE with all bytes ---- */

enum { MAX_TOKENS = 700 };
typedef struct {
    char store[MAX_TOKENS][24];
    str text[MAX_TOKENS];
    int32_t kind[MAX_TOKENS];
    float score[MAX_TOKENS];
    size_t n;
    str merge[64];
    size_t n_merges;
    const char *model, *pre;
} made;

static token_id add(made *m, const char *text, int kind, float score) {
    snprintf(m->store[m->n], sizeof m->store[0], "%s", text);
    m->text[m->n] = str_of(m->store[m->n]);
    m->kind[m->n] = kind;
    m->score[m->n] = score;
    return (token_id)m->n++;
}

static void make_spm(made *m) {
    *m = (made){.model = "llama"};
    add(m, "<unk>", TOKEN_UNKNOWN, 0), add(m, "<s>", TOKEN_CONTROL, 0), add(m, "</s>", TOKEN_CONTROL, 0);
    for (int i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        add(m, text, TOKEN_BYTE, 0);
    }
    const char *words[] = {"a", "b", "c", "\u2581", "aa", "ab", "bc", "aaaa", "\u2581a", "aab"};
    for (int i = 0; i < 10; i++) add(m, words[i], TOKEN_NORMAL, -(float)i);
    add(m, "<end>", TOKEN_CONTROL, 0), add(m, "[x]", TOKEN_USER_DEFINED, 0), add(m, "[x][x]", TOKEN_USER_DEFINED, 0);
}

static void make_bpe(made *m, const char *pre) {
    *m = (made){.model = "gpt2", .pre = pre};
    for (int i = 0; i < 256; i++) {
        char text[5] = {0};
        utf8_write(bpe_byte_to_char((uint8_t)i), text);
        add(m, text, TOKEN_NORMAL, 0);
    }
    const char *words[] = {"ab", "abab", "\u0120a", "aa", "aaaa", "bc"};
    for (int i = 0; i < 6; i++) add(m, words[i], TOKEN_NORMAL, 0);
    add(m, "<|im_end|>", TOKEN_CONTROL, 0), add(m, "[x]", TOKEN_USER_DEFINED, 0);
    const char *merges[] = {"a b", "ab ab", "\u0120 a", "a a",   "aa aa", "b c", "oneword",
                            "",    " ",     "a  b",     "a b c", "zz zz", "a b", "x y"};
    for (int i = 0; i < 14; i++) m->merge[m->n_merges++] = str_of(merges[i]);
}

static void put_made(vocab_file *f, const made *m) {
    vf_add_str(f, "tokenizer.ggml.model", m->model);
    if (m->pre) vf_add_str(f, "tokenizer.ggml.pre", m->pre);
    vf_add_texts(f, "tokenizer.ggml.tokens", m->text, m->n);
    vf_add_array(f, "tokenizer.ggml.token_type", GGUF_I32, m->kind, m->n, 4);
    vf_add_array(f, "tokenizer.ggml.scores", GGUF_F32, m->score, m->n, 4);
    if (m->n_merges) vf_add_texts(f, "tokenizer.ggml.merges", m->merge, m->n_merges);
    if (strcmp(m->model, "gpt2") == 0) {
        vf_add_u32(f, "tokenizer.ggml.bos_token_id", 0);
        vf_add_u32(f, "tokenizer.ggml.eos_token_id", 0);
    }
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

static opened open_made(const made *m) {
    vocab_file f = {0};
    put_made(&f, m);
    return must_open(&f);
}

static void close_both(opened o) {
    tokenizer_close(o.t);
    gguf_close(o.g);
}

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

static const tokenize_options plain = {.add_special = false}, full = {.add_special = true, .parse_special = true};

static void test_spm(void **state) {
    (void)state;
    made m;
    make_spm(&m);
    opened o = open_made(&m);
    expect_tokens(o.t, "", full, "|<s>|");
    expect_tokens(o.t, "a", plain,
                  "|\u2581"
                  "a|");
    expect_tokens(o.t, "aaaaa", plain, "|\u2581|aaaa|a|"); /* aa before _a, then aaaa */
    expect_tokens(o.t, "b\xC3\xA9", full, "|<s>|\u2581|b|<0xC3>|<0xA9>|");
    expect_tokens(o.t, "b<end>b", full, "|<s>|\u2581|b|<end>|\u2581|b|");
    expect_tokens(o.t, "<end>", plain, "|\u2581|<0x3C>|<0x65>|<0x6E>|<0x64>|<0x3E>|");
    expect_tokens(o.t, "[x][x][x]", plain, "|[x][x]|[x]|"); /* the longest first, then from the left */
    const tokenizer_info *i = tokenizer_get_info(o.t);
    assert_true(i->bos == 1 && i->eos == 2 && i->unk == 0 && i->add_bos && !i->add_eos && i->add_space_prefix);
    assert_true(tokenizer_is_eog(o.t, 2) && !tokenizer_is_eog(o.t, 1) && !tokenizer_is_eog(o.t, -1));
    close_both(o);
}

static void test_bpe(void **state) {
    (void)state;
    made m;
    make_bpe(&m, "gpt-2");
    opened o = open_made(&m);
    expect_tokens(o.t, "ababa", plain, "|abab|a|");
    expect_tokens(o.t, "aaab", plain, "|aa|ab|");
    expect_tokens(o.t, "abc", plain, "|ab|c|"); /* a b has the lower rank; a b c names no token and is ignored */
    expect_tokens(o.t, "c a<|im_end|>", full,
                  "|c|\u0120"
                  "a|<|im_end|>|");
    expect_tokens(o.t, "<|im_end|>[x]", plain, "|<|||i|m|_|e|n|d|||>|[x]|");
    token_id end = tokenizer_find(o.t, str_of("<|im_end|>"));
    assert_true(tokenizer_is_eog(o.t, end) && tokenizer_get_info(o.t)->eot == end);
    close_both(o);
}

/* Any bytes for an odd seed, bytes of the alphabet for an even one. */
static void fill(char *text, size_t n, uint64_t seed, const char *alphabet) {
    size_t n_alphabet = strlen(alphabet);
    for (size_t i = 0; i < n; i++) {
        uint64_t r = rng_u64(seed, i + 1);
        text[i] = seed % 2 ? (char)r : alphabet[r % n_alphabet];
    }
}

/* A prompt in which the parts in braces are a user's. */
static void expect_guarded(const tokenizer *t, const char *marked, const char *wanted) {
    strbuf text = {0};
    byte_span span[8] = {{0, 0}};
    size_t n = 0;
    for (const char *p = marked; *p; p++) {
        if (*p == '{')
            span[n].at = text.n;
        else if (*p == '}')
            span[n].n = text.n - span[n].at, n++;
        else
            strbuf_add(&text, p, 1);
    }
    tokenize_options opt = {.parse_special = true, .input = span, .n_input = n};
    expect_tokens(t, text.p, opt, wanted);
    strbuf_free(&text);
}

static void test_user_text_holds_no_control_token(void **state) {
    (void)state;
    made m;
    make_bpe(&m, "gpt-2");
    opened o = open_made(&m);
    const char *const plain_text = "|<|||i|m|_|e|n|d|||>|";
    expect_guarded(o.t, "<|im_end|>", "|<|im_end|>|");
    expect_guarded(o.t, "{<|im_end|>}", plain_text);
    expect_guarded(o.t, "<{|im_end|>}", plain_text); /* each byte must be the template's */
    expect_guarded(o.t, "{<|im_end|}>", plain_text);
    expect_guarded(o.t, "<|im{_}end|>", plain_text);
    expect_guarded(o.t, "{a}<|im_end|>{b}", "|a|<|im_end|>|b|"); /* neighbours do not matter */
    expect_guarded(o.t, "<|im_end|>{<|im_end|>}<|im_end|>", "|<|im_end|>|<|||i|m|_|e|n|d|||>|<|im_end|>|");
    expect_guarded(o.t, "{[x]}", "|[x]|"); /* user-defined tokens are everyone's */
    expect_guarded(o.t, "{a}b", "|ab|");   /* a boundary cuts no word */
    close_both(o);
    make_spm(&m);
    o = open_made(&m);
    expect_guarded(o.t, "b{<end>}", "|\u2581|b|<0x3C>|<0x65>|<0x6E>|<0x64>|<0x3E>|");
    expect_guarded(o.t, "b<end>{b}", "|\u2581|b|<end>|\u2581|b|");
    tokenize_options has_bos = {.add_special = true, .no_bos = true};
    expect_tokens(o.t, "a", has_bos, "|\u2581a|");
    close_both(o);
}

static void test_decode_undoes_encode(void **state) {
    (void)state;
    made m;
    for (int spm = 0; spm < 2; spm++) {
        if (spm)
            make_spm(&m);
        else
            make_bpe(&m, "smollm");
        opened o = open_made(&m);
        for (uint64_t k = 0; k < 300; k++) {
            char text[64];
            size_t n = rng_u64(k, 0) % sizeof text;
            fill(text, n, k, spm ? "ab \xC3\xA9" : "ab \xC3\xA9["); /* SPM puts a space after [x] */
            token_list l;
            strbuf back = {0};
            assert_int_equal(tokenizer_encode(o.t, (str){text, n}, plain, &l, NULL), OK);
            assert_int_equal(tokenizer_decode(o.t, l.ids, l.n, true, &back, NULL), OK);
            if (back.n != n || (n && memcmp(back.p, text, n) != 0)) /* any bytes come back */
                fail_msg("spm %d seed %d: '%.*s' '%s'", spm, (int)k, (int)n, text, back.p);
            strbuf_free(&back);
            mem_free(l.ids);
        }
        close_both(o);
    }
}

/* ---- what a file may get wrong ---- */

typedef struct {
    const char *what;
    void (*break_it)(vocab_file *f, made *m);
    status want;
    const char *names; /* in the message */
} bad_row;

static void bad_model(vocab_file *f, made *m) { m->model = "zork", put_made(f, m); }
static void bad_pre(vocab_file *f, made *m) { m->pre = "zork", put_made(f, m); }
static void no_tokens(vocab_file *f, made *m) { (void)m, vf_add_str(f, "tokenizer.ggml.model", "llama"); }
static void no_merges(vocab_file *f, made *m) { m->n_merges = 0, put_made(f, m); }
static void zero_tokens(vocab_file *f, made *m) { m->n = 0, put_made(f, m); }
static void no_model(vocab_file *f, made *m) { vf_add_texts(f, "tokenizer.ggml.tokens", m->text, m->n); }

static void put_two(vocab_file *f, made *m, const char *key, gguf_type type, size_t n, size_t bytes) {
    vf_add_str(f, "tokenizer.ggml.model", "llama");
    vf_add_texts(f, "tokenizer.ggml.tokens", m->text, m->n);
    char *zero = mem_array(n + 1, bytes);
    vf_add_array(f, key, type, zero, n, bytes);
    mem_free(zero);
}
static void kinds_u8(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.token_type", GGUF_U8, m->n, 1); }
static void kinds_short(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.token_type", GGUF_I32, m->n - 1, 4); }
static void kinds_none(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.token_type", GGUF_I32, 0, 4); }
static void kinds_long(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.token_type", GGUF_I32, m->n + 1, 4); }
static void scores_u8(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.scores", GGUF_U8, m->n, 1); }
static void scores_f64(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.scores", GGUF_F64, m->n, 8); }
static void scores_short(vocab_file *f, made *m) { put_two(f, m, "tokenizer.ggml.scores", GGUF_F32, m->n - 1, 4); }
static void score_nan(vocab_file *f, made *m) { m->score[3] = NAN, put_made(f, m); }
static void kind_seven(vocab_file *f, made *m) { m->kind[3] = 7, put_made(f, m); }
static void kind_minus(vocab_file *f, made *m) { m->kind[3] = -1, put_made(f, m); }
static void tokens_u32(vocab_file *f, made *m) {
    vf_add_str(f, "tokenizer.ggml.model", "llama");
    vf_add_array(f, "tokenizer.ggml.tokens", GGUF_U32, m->kind, 4, 4);
}
static void byte_text(vocab_file *f, made *m, const char *text) {
    m->text[3 + 10] = str_of(text);
    put_made(f, m);
}
static void byte_minus(vocab_file *f, made *m) { byte_text(f, m, "<0x-1>"); }
static void byte_zz(vocab_file *f, made *m) { byte_text(f, m, "<0xZZ>"); }
static void byte_space(vocab_file *f, made *m) { byte_text(f, m, "<0x 1>"); }
static void byte_empty(vocab_file *f, made *m) { byte_text(f, m, "<0x>"); }
static void byte_long(vocab_file *f, made *m) { byte_text(f, m, "<0x001>"); }
static void id_at_n(vocab_file *f, made *m) {
    put_made(f, m), vf_add_u32(f, "tokenizer.ggml.eot_token_id", (uint32_t)m->n);
}
static void id_max(vocab_file *f, made *m) { put_made(f, m), vf_add_u32(f, "tokenizer.ggml.bos_token_id", UINT32_MAX); }
static void id_mask(vocab_file *f, made *m) { put_made(f, m), vf_add_u32(f, "tokenizer.ggml.mask_token_id", 70000); }
static void id_text(vocab_file *f, made *m) { put_made(f, m), vf_add_str(f, "tokenizer.ggml.eot_token_id", "2"); }
static void bos_unknown(vocab_file *f, made *m) {
    m->n = 1;
    put_made(f, m);
    vf_add_bool(f, "tokenizer.ggml.add_bos_token", true);
}
static void text_64k(vocab_file *f, made *m) {
    char *long_text = mem_zalloc(VOCAB_MAX_TEXT + 1);
    memset(long_text, 'q', VOCAB_MAX_TEXT + 1);
    m->text[270] = (str){long_text, VOCAB_MAX_TEXT + 1};
    put_made(f, m);
    mem_free(long_text);
}

static const bad_row bad_rows[] = {
    {"model", bad_model, ERR_TOKENIZER, "zork"},
    {"no model", no_model, ERR_TOKENIZER, "tokenizer.ggml.model"},
    {"no tokens", no_tokens, ERR_TOKENIZER, "tokenizer.ggml.tokens"},
    {"zero tokens", zero_tokens, ERR_TOKENIZER, "tokenizer.ggml.tokens"},
    {"tokens of u32", tokens_u32, ERR_TOKENIZER, "tokenizer.ggml.tokens"},
    {"kinds of u8", kinds_u8, ERR_TOKENIZER, "token_type"},
    {"kinds too short", kinds_short, ERR_TOKENIZER, "token_type"},
    {"kinds empty", kinds_none, ERR_TOKENIZER, "token_type"},
    {"kinds too long", kinds_long, ERR_TOKENIZER, "token_type"},
    {"scores of u8", scores_u8, ERR_TOKENIZER, "scores"},
    {"scores of f64", scores_f64, ERR_TOKENIZER, "scores"},
    {"scores too short", scores_short, ERR_TOKENIZER, "scores"},
    {"score NaN", score_nan, ERR_TOKENIZER, "scores[3]"},
    {"kind 7", kind_seven, ERR_TOKENIZER, "token_type[3]"},
    {"kind -1", kind_minus, ERR_TOKENIZER, "token_type[3]"},
    {"byte <0x-1>", byte_minus, ERR_TOKENIZER, "<0x-1>"},
    {"byte <0xZZ>", byte_zz, ERR_TOKENIZER, "<0xZZ>"},
    {"byte <0x 1>", byte_space, ERR_TOKENIZER, "<0x 1>"},
    {"byte <0x>", byte_empty, ERR_TOKENIZER, "<0x>"},
    {"byte <0x001>", byte_long, ERR_TOKENIZER, "<0x001>"},
    {"eot = n", id_at_n, ERR_TOKENIZER, "eot_token_id"},
    {"bos = 2^32-1", id_max, ERR_TOKENIZER, "bos_token_id"},
    {"mask far out", id_mask, ERR_TOKENIZER, "mask_token_id"},
    {"eot is text", id_text, ERR_GGUF_KEY, "eot_token_id"},
    {"add_bos without bos", bos_unknown, ERR_TOKENIZER, "add_bos_token"},
    {"a text of 64 KiB + 1", text_64k, ERR_TOKENIZER, "tokens[270]"},
};

static void expect_refused(const bad_row *r, made *m) {
    vocab_file f = {0};
    gguf *g;
    tokenizer *t;
    err e = {0};
    r->break_it(&f, m);
    assert_int_equal(vf_open(&f, &fd, &g, &e), OK);
    status s = tokenizer_open(&t, g, &e);
    if (s != r->want || t || !strstr(e.text, r->names)) fail_msg("%s: %d %s", r->what, s, e.text);
    gguf_close(g);
}

static void test_refuses_bad_vocabularies(void **state) {
    (void)state;
    uint64_t live = mem_live();
    made m;
    for (size_t i = 0; i < sizeof bad_rows / sizeof *bad_rows; i++) {
        make_spm(&m);
        expect_refused(&bad_rows[i], &m);
    }
    make_bpe(&m, "gpt-2");
    expect_refused(&(bad_row){"pre", bad_pre, ERR_PRETOKENIZER, "zork"}, &m);
    make_bpe(&m, "gpt-2");
    expect_refused(&(bad_row){"no merges", no_merges, ERR_TOKENIZER, "tokenizer.ggml.merges"}, &m);
    assert_true(mem_live() == live);
}

static void test_loads_odd_vocabularies(void **state) {
    (void)state;
    made m;
    make_spm(&m);
    token_id again = add(&m, "aa", TOKEN_NORMAL, 5);                /* of equal texts the last wins */
    add(&m, "", TOKEN_NORMAL, 0);                                   /* an empty text is never found */
    add(&m, "<0x41>", TOKEN_BYTE, 0);                               /* a byte for the second time */
    m.text[3 + 'Z'] = str_of("zz"), m.kind[3 + 'Z'] = TOKEN_NORMAL; /* a byte that is missing: the unknown token */
    opened o = open_made(&m);
    assert_int_equal(tokenizer_find(o.t, str_of("aa")), again);
    assert_int_equal(tokenizer_find(o.t, str_of("")), TOKEN_NONE);
    expect_tokens(o.t, "Zb", plain, "|\u2581|<unk>|b|");
    strbuf out = {0};
    err e = {0};
    assert_int_equal(tokenizer_piece(o.t, (token_id)m.n, false, &out, &e), ERR_TOKEN);
    assert_int_equal(tokenizer_piece(o.t, -1, false, &out, &e), ERR_TOKEN);
    assert_int_equal(tokenizer_decode(o.t, &(token_id){INT32_MAX}, 1, false, &out, &e), ERR_TOKEN);
    assert_true(tokenizer_text(o.t, -5).n == 0 && tokenizer_text(o.t, INT32_MAX).n == 0);
    strbuf_free(&out);
    close_both(o);

    vocab_file f = {0}; /* one token, no ids: the defaults 1, 2 and 11 are not there, and no BOS is added */
    vf_add_str(&f, "tokenizer.ggml.model", "llama");
    vf_add_texts(&f, "tokenizer.ggml.tokens", m.text + 260, 1);
    o = must_open(&f);
    const tokenizer_info *i = tokenizer_get_info(o.t);
    assert_true(i->bos == TOKEN_NONE && i->eos == TOKEN_NONE && !i->add_bos && i->unk == 0);
    close_both(o);
}

/* Phi-3 by the model's name: spaces after a special token belong to it. */
static void test_strips(void **state) {
    (void)state;
    made m;
    make_spm(&m);
    vocab_file f = {0};
    put_made(&f, &m);
    vf_add_str(&f, "general.name", "My PHI-3 mini");
    opened o = must_open(&f);
    expect_tokens(o.t, "<end> \n b<s> b", full, "|<s>|<end>|\u2581|b|<s>|\u2581|\u2581|b|");
    expect_tokens(o.t, "<end>  ", full, "|<s>|<end>|");
    close_both(o);
}

static void test_end_of_generation(void **state) {
    (void)state;
    made m;
    make_bpe(&m, "gpt-2");
    token_id end = add(&m, "<|end|>", TOKEN_CONTROL, 0), ret = add(&m, "<|return|>", TOKEN_CONTROL, 0);
    opened o = open_made(&m);
    assert_true(tokenizer_is_eog(o.t, end) && tokenizer_is_eog(o.t, ret));
    close_both(o);
    token_id call = add(&m, "<|call|>", TOKEN_NORMAL, 0); /* harmony: <|end|> ends a message only */
    o = open_made(&m);
    assert_true(!tokenizer_is_eog(o.t, end) && tokenizer_is_eog(o.t, ret) && tokenizer_is_eog(o.t, call));
    assert_true(tokenizer_kind(o.t, end) == TOKEN_USER_DEFINED && tokenizer_kind(o.t, call) == TOKEN_CONTROL);
    close_both(o);
}

/* ---- failing memory ---- */

static void test_survives_oom(void **state) {
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        made m;
        vocab_file f = {0};
        gguf *g;
        if (spm)
            make_spm(&m);
        else
            make_bpe(&m, "default");
        put_made(&f, &m);
        assert_int_equal(vf_open(&f, &fd, &g, NULL), OK);
        uint64_t live = mem_live();
        bool fired = true;
        for (uint64_t n = 1; fired; n++) {
            tokenizer *t;
            token_list l = {0};
            strbuf out = {0};
            mem_fail_at(n);
            status s = tokenizer_open(&t, g, NULL);
            if (!s) s = tokenizer_encode(t, str_of("abab [x] \xC3\xA9 <|im_end|> aaaaaaa <end>"), full, &l, NULL);
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
}

/* ---- the parts ---- */

/* Merging one word against the plain definition: look for the best pair, leftmost of equals, until there is none. */
typedef struct {
    uint32_t order[16][16];
} toy_rules;

static bool toy_rule(const void *ctx, merge_symbol *left, const merge_symbol *right) {
    const toy_rules *r = ctx;
    left->order = r->order[left->id][right->id];
    left->joined = (left->id * 7 + right->id * 3 + 1) % 16;
    return left->order < 5;
}

static size_t merge_plainly(const toy_rules *r, token_id *id, size_t n) {
    for (;;) {
        size_t best = n;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t o = r->order[id[i]][id[i + 1]];
            if (o < 5 && (best == n || o < r->order[id[best]][id[best + 1]])) best = i;
        }
        if (best == n) return n;
        id[best] = (id[best] * 7 + id[best + 1] * 3 + 1) % 16;
        memmove(id + best + 1, id + best + 2, (n - best - 2) * sizeof *id);
        n--;
    }
}

static void test_merging_is_the_plain_definition(void **state) {
    (void)state;
    merger m = {0};
    for (uint64_t seed = 0; seed < 400; seed++) {
        toy_rules r;
        token_id id[60];
        size_t n = 1 + rng_u64(seed, 999) % 60;
        for (uint64_t i = 0; i < 256; i++) r.order[i / 16][i % 16] = (uint32_t)(rng_u64(seed, i) % 12);
        assert_true(merge_reserve(&m, n));
        for (size_t i = 0; i < n; i++) {
            id[i] = (token_id)(rng_u64(seed, 1000 + i) % 16);
            merge_add(&m, (uint32_t)i, 1, id[i]);
        }
        merge_run(&m, toy_rule, &r);
        size_t left = merge_plainly(&r, id, n), k = 0;
        for (int32_t i = 0; i != MERGE_END; i = m.sym[i].next) assert_true(k < left && m.sym[i].id == id[k++]);
        assert_true(k == left);
    }
    merge_free(&m);
}

static const char *const pretoks[] = {"default", "llama-bpe", "gpt-2",  "qwen2", "smollm",
                                      "qwen35",  "falcon",    "laguna", "gemma4"};

static void test_words_cover_the_text(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof pretoks / sizeof *pretoks; p++)
        for (uint64_t seed = 0; seed < 200; seed++) {
            char text[80];
            size_t n = rng_u64(seed, 0) % sizeof text;
            fill(text, n, seed, "a 1\n'.s\xC3\xA9");
            pretok_iter it = pretok_start(pretok_find(str_of(pretoks[p])), (str){text, n});
            const char *at = text;
            for (str w; pretok_next(&it, &w); at += w.n) assert_true(w.p == at && w.n > 0);
            assert_true(at == text + n);
        }
    assert_null(pretok_find(str_of("zork")));
    assert_string_equal(pretok_find((str){0})->name, "default");
}

static void test_classes(void **state) {
    (void)state;
    assert_int_equal(unicode_class('5'), CHAR_NUMBER);
    assert_int_equal(unicode_class(0xBD), CHAR_NUMBER);
    assert_int_equal(unicode_class(0x4E2D), CHAR_LETTER);
    assert_int_equal(unicode_class(0x301), CHAR_MARK);
    assert_int_equal(unicode_class(0x3000), CHAR_SPACE);
    assert_int_equal(unicode_class(0x85), CHAR_SPACE | CHAR_CONTROL);
    assert_int_equal(unicode_class(0xAD), CHAR_CONTROL);
    assert_int_equal(unicode_class(0xE000), CHAR_CONTROL);
    assert_int_equal(unicode_class(0x2FFC), CHAR_SYMBOL); /* new in 15.1 */
    assert_int_equal(unicode_class(0x1C89), 0);           /* a letter from 16.0 on */
    assert_int_equal(unicode_class(0x10FFFF), 0);
    assert_int_equal(unicode_class(0x110000), 0);
    for (int b = 0; b < 256; b++) assert_int_equal(bpe_char_to_byte(bpe_byte_to_char((uint8_t)b)), b);
}

static void expect_held(const char *bytes, const char *wanted) {
    strbuf at_once = {0}, singly = {0};
    utf8_hold a = {0}, b = {0};
    utf8_hold_push(&a, bytes, strlen(bytes), &at_once);
    utf8_hold_flush(&a, &at_once);
    for (const char *p = bytes; *p; p++) utf8_hold_push(&b, p, 1, &singly);
    utf8_hold_flush(&b, &singly);
    assert_string_equal(at_once.p, wanted);
    assert_string_equal(singly.p, wanted);
    strbuf_free(&at_once);
    strbuf_free(&singly);
}

#define BAD "\xEF\xBF\xBD"
static void test_characters_are_held_until_whole(void **state) {
    (void)state;
    expect_held("a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80z", "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80z");
    expect_held("\xF0\x9F\x98", BAD); /* never finished */
    expect_held("\xF0\x9F\x98"
                "a",
                BAD "a"); /* a broken one is one replacement, as Unicode recommends */
    expect_held("\xE2\x82\xC3\xA9", BAD "\xC3\xA9");
    expect_held("\x80\xBF", BAD BAD);
    expect_held("\xC0\xAF\xFF", BAD BAD BAD); /* overlong */
    expect_held("\xED\xA0\x80", BAD BAD BAD); /* a surrogate */
    expect_held("\xF4\x90\x80\x80", BAD BAD BAD BAD);
    expect_held("\xE0\x80\xE0\xA0\x80", BAD BAD "\xE0\xA0\x80");
    utf8_hold h = {0};
    strbuf out = {0};
    utf8_hold_push(&h, "\xF0\x9F", 2, &out);
    assert_true(out.n == 0 && h.n_held == 2);
    strbuf_free(&out);
}

/* ---- time and stack ---- */

typedef struct {
    const tokenizer *t;
    str text;
    double seconds; /* CPU */
    status s;
} timed;

static void *encode_timed(void *p) {
    timed *c = p;
    struct timespec a, b;
    token_list l;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    c->s = tokenizer_encode(c->t, c->text, full, &l, NULL);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    c->seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    mem_free(l.ids);
    return NULL;
}

enum { SMALL_STACK = 256 << 10 };

static double seconds_for(const tokenizer *t, const char *unit, size_t n_bytes) {
    size_t n_unit = strlen(unit);
    strbuf text = {0};
    while (text.n + n_unit <= n_bytes) strbuf_add(&text, unit, n_unit);
    timed c = {t, {text.p, text.n}, 0, OK};
    pthread_attr_t a;
    pthread_t th;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, SMALL_STACK);
    assert_int_equal(pthread_create(&th, &a, encode_timed, &c), 0);
    pthread_join(th, NULL);
    pthread_attr_destroy(&a);
    assert_int_equal(c.s, OK);
    strbuf_free(&text);
    return c.seconds;
}

/* The best of up to twelve tries each: a neighbour on the machine only ever adds. Below a quarter of a second the ratio is
 * not looked at: a busy machine's caches decide it, and what is quadratic needs hours. */
static void expect_linear(const tokenizer *t, const char *name, const char *unit) {
    double one = 1e9, two = 1e9;
    for (int i = 0; i < 12; i++) {
        one = fmin(one, seconds_for(t, unit, 1 << 20));
        two = fmin(two, seconds_for(t, unit, 2 << 20));
        if (one < 1.0 && (two < 2.5 * one || two < 0.25)) return;
    }
    fail_msg("%s '%s': 1 MiB %.3f s, 2 MiB %.3f s", name, unit, one, two);
}

static void expect_all_linear(const tokenizer *t, const char *name) {
    static const char *const units[] = {
        "a", " ",    "\n", "1",   "\xC3\xA9", "\xE4\xB8\xAD", "\xCC\x81", "\xF0\x9F\x98\x80", "'",
        ".", "\xFF", "<|", "[x]", "ab"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) expect_linear(t, name, units[i]);
}

static void test_time_is_linear_on_a_small_stack(void **state) {
    (void)state;
    made m;
    make_spm(&m);
    opened o = open_made(&m);
    expect_all_linear(o.t, "spm");
    close_both(o);
    for (size_t p = 0; p < sizeof pretoks / sizeof *pretoks; p += check_sanitized() ? 4 : 1) {
        make_bpe(&m, pretoks[p]);
        o = open_made(&m);
        expect_all_linear(o.t, pretoks[p]);
        close_both(o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spm),
        cmocka_unit_test(test_bpe),
        cmocka_unit_test(test_user_text_holds_no_control_token),
        cmocka_unit_test(test_decode_undoes_encode),
        cmocka_unit_test(test_refuses_bad_vocabularies),
        cmocka_unit_test(test_loads_odd_vocabularies),
        cmocka_unit_test(test_strips),
        cmocka_unit_test(test_end_of_generation),
        cmocka_unit_test(test_survives_oom),
        cmocka_unit_test(test_merging_is_the_plain_definition),
        cmocka_unit_test(test_words_cover_the_text),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_characters_are_held_until_whole),
        cmocka_unit_test(test_time_is_linear_on_a_small_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
