/* Unigram vocabularies and their charsmap, made here. Equality with llama.cpp is tests/oracle/test_tokenizer.py's; here is
 * the search against its plain definition, damaged maps, failing memory, and texts made to take long. */
#include "check.h"

#include "vocab_file.h"

#include "base/mem.h"
#include "base/rng.h"
#include "text/charsmap.h"
#include "text/tokenizer.h"
#include "text/trie.h"

#include <math.h>
#include <time.h>

static int fd = -1;
static const char key_map[] = "tokenizer.ggml.precompiled_charsmap";

/* ---- a charsmap: each node has a block of 256 units of its own, so nothing need be searched for ---- */

enum { MAX_BLOCKS = 400, BLOCK = 256 };
typedef struct {
    uint32_t unit[MAX_BLOCKS * BLOCK];
    uint32_t n_blocks; /* block 0 holds the root alone */
    char replacement[8 << 10];
    uint32_t n_replacement;
} made_map;

static uint32_t unit_of(uint32_t index, uint32_t block, uint32_t label) {
    return (index ^ block * BLOCK) << 10 | label;
}

static void map_start(made_map *m) {
    memset(m, 0, sizeof *m);
    m->n_blocks = 2;
    m->unit[0] = unit_of(0, 1, 0);
}

static uint32_t block_of(uint32_t index, uint32_t unit) { return (index ^ unit >> 10) / BLOCK; }

/* The unit of the last byte of part. */
static uint32_t map_path(made_map *m, const char *part, size_t n) {
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t label = (uint8_t)part[i], child = block_of(at, m->unit[at]) * BLOCK ^ label;
        if (!m->unit[child]) m->unit[child] = unit_of(child, m->n_blocks++, label);
        at = child;
    }
    assert_true(m->n_blocks <= MAX_BLOCKS);
    return at;
}

static void map_add(made_map *m, const char *part, const char *becomes) {
    uint32_t at = map_path(m, part, strlen(part));
    m->unit[block_of(at, m->unit[at]) * BLOCK] = 0x80000000u | m->n_replacement;
    m->unit[at] |= 1 << 8;
    strcpy(m->replacement + m->n_replacement, becomes);
    m->n_replacement += (uint32_t)strlen(becomes) + 1;
}

static strbuf map_bytes(const made_map *m) {
    strbuf b = {0};
    uint32_t n = m->n_blocks * BLOCK * 4;
    strbuf_add(&b, (const char *)&n, 4);
    strbuf_add(&b, (const char *)m->unit, n);
    strbuf_add(&b, m->replacement, m->n_replacement);
    return b;
}

static made_map map; /* large: not on the stack */

static void make_usual_map(void) {
    map_start(&map);
    map_add(&map, "A", "a");
    map_add(&map, "\uFF21", "a");
    map_add(&map, "\t", " ");
    map_add(&map, "\u200B", "");
    map_add(&map, "e\u0301", "\u00E9");
    map_add(&map, "\uFB03", "ffi");
    map_add(&map, "\u00A8", " \u0308");
    map_add(&map, "ab", "b");
    map_add(&map, "abcd", "d");
}

static status open_bytes(charsmap *c, const char *p, size_t n, err *e) {
    vocab_file f = {0};
    gguf *g;
    vf_add_array(&f, key_map, GGUF_U8, p, n, 1);
    assert_int_equal(vf_open(&f, &fd, &g, NULL), OK);
    *c = (charsmap){0};
    status s = charsmap_open(c, g, e);
    gguf_close(g);
    return s;
}

static status open_map(charsmap *c, const made_map *m, err *e) {
    strbuf b = map_bytes(m);
    status s = open_bytes(c, b.p, b.n, e);
    strbuf_free(&b);
    return s;
}

static void expect_found(const charsmap *c, const char *text, size_t n, const char *becomes) {
    str got = {"", 0};
    assert_int_equal(charsmap_find(c, str_of(text), &got), n);
    if (n) assert_true(str_is(got, becomes));
}

static void test_map_finds_the_longest(void **state) {
    (void)state;
    charsmap c;
    make_usual_map();
    assert_int_equal(open_map(&c, &map, NULL), OK);
    expect_found(&c, "Ab", 1, "a");
    expect_found(&c, "abc", 2, "b");
    expect_found(&c, "abcd", 4, "d");
    expect_found(&c, "e", 0, "");
    expect_found(&c, "e\u0301\u0301", 3, "\u00E9");
    expect_found(&c, "\u200Bx", 3, "");
    expect_found(&c, "", 0, "");
    str got;
    assert_int_equal(charsmap_find(&c, (str){"ab\0cd", 5}, &got), 2);
    assert_int_equal(charsmap_find(&c, (str){"\0", 1}, &got), 0);
    charsmap_close(&c);
}

/* ---- damaged maps ---- */

static void expect_bad_map(const char *why) {
    charsmap c;
    err e = {0};
    status s = open_map(&c, &map, &e);
    charsmap_close(&c);
    if (s != ERR_TOKENIZER || !strstr(e.text, why)) fail_msg("%s: %d %s", why, s, e.text);
}

static void test_map_that_leads_astray(void **state) {
    (void)state;
    make_usual_map();
    uint32_t a = map_path(&map, "A", 1);
    map.unit[a] = 0x1FFFFFu << 10 | 1 << 9 | 'A'; /* the widest base */
    expect_bad_map("leads out");
    make_usual_map();
    map.unit[0] = 0x1FFFFFu << 10;
    expect_bad_map("leads out");
    make_usual_map();
    map.unit[block_of(a, map.unit[a]) * BLOCK] = 0x80000000u | map.n_replacement;
    expect_bad_map("a replacement at byte");
    make_usual_map();
    map.replacement[map.n_replacement - 1] = 'x';
    expect_bad_map("no end");
    make_usual_map();
    memset(map.replacement, 'x', CHARSMAP_MAX_REPLACEMENT + 1);
    map.n_replacement = CHARSMAP_MAX_REPLACEMENT + 2;
    expect_bad_map("more than 1024");
    make_usual_map();
    map.unit[a] = unit_of(a, 1, 'A'); /* its children are the root's */
    expect_bad_map("leads back");
    make_usual_map();
    map.unit[0] = 5 << 10 | 5; /* the root is its own child */
    expect_bad_map("leads back");
}

static void test_map_with_long_parts(void **state) {
    (void)state;
    char part[CHARSMAP_MAX_PART + 1];
    memset(part, 'a', sizeof part);
    for (size_t n = CHARSMAP_MAX_PART; n <= CHARSMAP_MAX_PART + 1; n++) {
        charsmap c;
        map_start(&map);
        map_path(&map, part, n);
        map_add(&map, "b", "c");
        if (n > CHARSMAP_MAX_PART) {
            expect_bad_map("more than 256");
            continue;
        }
        assert_int_equal(open_map(&c, &map, NULL), OK);
        charsmap_close(&c);
    }
}

/* Two ways at each of 200 steps, both to the same block: 2^200 ways are walked as 400 nodes. One step too many, met first by
 * its short side, is seen all the same. */
static void test_map_with_shared_nodes(void **state) {
    (void)state;
    for (uint32_t n = CHARSMAP_MAX_PART; n <= CHARSMAP_MAX_PART + 1; n++) {
        map_start(&map);
        for (uint32_t i = 1; i <= n; i++)
            for (uint32_t label = 'a'; label <= 'b'; label++) {
                uint32_t at = i * BLOCK ^ label;
                map.unit[at] = unit_of(at, i + 1, label);
            }
        map.n_blocks = n + 2;
        map.replacement[map.n_replacement++] = 0;
        uint32_t shortcut = BLOCK ^ 1; /* a part of n - 1 bytes to the same end, and looked at first */
        map.unit[shortcut] = unit_of(shortcut, 3, 1);
        charsmap c;
        if (n > CHARSMAP_MAX_PART) {
            expect_bad_map("more than 256");
            continue;
        }
        assert_int_equal(open_map(&c, &map, NULL), OK);
        charsmap_close(&c);
    }
}

static bool try_bytes(const char *p, size_t n, uint64_t seed) {
    charsmap c;
    err e = {0};
    status s = open_bytes(&c, p, n, &e);
    if (s && (s != ERR_TOKENIZER || !e.text[0])) fail_msg("%d %s", s, e.text);
    for (uint64_t k = 0; !s && k < 20; k++) {
        char text[16];
        str got = {"", 0};
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = rng_u64(seed, 100 * k + i) % 2 ? "Aabcde\xEF\xBC\xA1\xCC\x81"[rng_u64(seed, 100 * k + i) % 11]
                                                     : (char)rng_u64(seed, 100 * k + i + 50);
        size_t taken = charsmap_find(&c, (str){text, sizeof text}, &got);
        assert_true(taken <= sizeof text && got.n <= CHARSMAP_MAX_REPLACEMENT);
        if (taken) assert_true(got.p >= c.replacement && got.p + got.n < c.replacement + c.n_replacement);
    }
    charsmap_close(&c);
    return !s;
}

static void test_damaged_maps(void **state) {
    (void)state;
    uint64_t live = mem_live();
    make_usual_map();
    strbuf b = map_bytes(&map);
    int opened_still = 0;
    for (uint64_t seed = 0; seed < 3000; seed++) { /* flipped bits: mostly in units that are used */
        char saved[8];
        size_t at[8], n = 1 + seed % 8;
        for (size_t i = 0; i < n; i++) {
            uint64_t r = rng_u64(seed, i);
            at[i] = r % 4 == 0 ? r / 4 % b.n : 4 + 4 * (size_t)(r / 4 % (map.n_blocks * BLOCK));
            for (int tries = 0; r % 4 && tries < 500 && !b.p[at[i]] && !b.p[at[i] + 3]; tries++)
                at[i] = 4 + 4 * (size_t)(rng_u64(r, (uint64_t)tries) % (map.n_blocks * BLOCK));
            if (r % 4) at[i] += r / 64 % 4;
            saved[i] = b.p[at[i]];
            b.p[at[i]] = (char)(b.p[at[i]] ^ 1 << r / 1024 % 8);
        }
        opened_still += try_bytes(b.p, b.n, seed);
        while (n-- > 0) b.p[at[n]] = saved[n];
    }
    assert_true(opened_still > 300 && opened_still < 2700);                 /* both are met */
    for (size_t n = 0; n < b.n; n += 1 + n / 7) (void)try_bytes(b.p, n, n); /* cut short */
    for (uint32_t n_units = 0; n_units < 40; n_units++) {                   /* other ideas of where the units end */
        uint32_t n = n_units < 20 ? n_units : n_units < 30 ? (uint32_t)b.n - 25 + n_units : 0u - n_units;
        memcpy(b.p, &n, 4);
        (void)try_bytes(b.p, b.n, n);
    }
    strbuf_free(&b);
    assert_true(mem_live() == live);
}

/* ---- vocabularies ---- */

enum { MAX_TOKENS = 40 };
typedef struct {
    str text[MAX_TOKENS];
    int32_t kind[MAX_TOKENS];
    float score[MAX_TOKENS];
    size_t n;
} made;

static token_id add(made *m, const char *text, int kind, float score) {
    m->text[m->n] = str_of(text);
    m->kind[m->n] = kind;
    m->score[m->n] = score;
    return (token_id)m->n++;
}

static void make_usual(made *m) {
    *m = (made){.n = 0};
    add(m, "<pad>", TOKEN_CONTROL, 0), add(m, "</s>", TOKEN_CONTROL, 0), add(m, "<unk>", TOKEN_UNKNOWN, 0);
    const char *words[] = {"\u2581", "a", "b",      "c", "\u2581a", "ab",          "bc",
                           "abc",    "d", "\u00E9", "f", "ffi",     "\u2581\u2581"};
    const float scores[] = {-2, -3, -3.5f, -4, -4, -5, -6, -8, -4, -5, -5, -9, -9};
    for (int i = 0; i < 13; i++) add(m, words[i], TOKEN_NORMAL, scores[i]);
    add(m, "[x y]", TOKEN_USER_DEFINED, -50), add(m, "cc", TOKEN_UNUSED, -6), add(m, "<0x41>", TOKEN_BYTE, 0);
}

enum { WITH_MAP = 1, PREFIX = 2, MERGE = 4 };

static void put_made(vocab_file *f, const made *m, unsigned with) {
    vf_add_str(f, "tokenizer.ggml.model", "t5");
    vf_add_texts(f, "tokenizer.ggml.tokens", m->text, m->n);
    vf_add_array(f, "tokenizer.ggml.token_type", GGUF_I32, m->kind, m->n, 4);
    vf_add_array(f, "tokenizer.ggml.scores", GGUF_F32, m->score, m->n, 4);
    if (with & PREFIX) vf_add_bool(f, "tokenizer.ggml.add_space_prefix", true);
    if (with & MERGE) vf_add_bool(f, "tokenizer.ggml.remove_extra_whitespaces", true);
    if (!(with & WITH_MAP)) return;
    strbuf b = map_bytes(&map);
    vf_add_array(f, key_map, GGUF_I8, b.p, b.n, 1);
    strbuf_free(&b);
}

typedef struct {
    gguf *g;
    tokenizer *t;
} opened;

static opened open_made(const made *m, unsigned with) {
    vocab_file f = {0};
    opened o = {0};
    err e = {0};
    put_made(&f, m, with);
    if (vf_open(&f, &fd, &o.g, &e) || tokenizer_open(&o.t, o.g, &e)) fprintf(stderr, "%s\n", e.text);
    assert_non_null(o.t);
    return o;
}

static void close_both(opened o) {
    tokenizer_close(o.t);
    gguf_close(o.g);
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

static void test_best_way(void **state) {
    (void)state;
    made m;
    make_usual(&m);
    opened o = open_made(&m, 0);
    expect_tokens(o.t, "", full, "|</s>|");
    expect_tokens(o.t, "abc", full, "|abc|</s>|"); /* -8, better than ab c (-9) and a bc (-9) */
    expect_tokens(o.t, "ababc", plain, "|ab|abc|");
    expect_tokens(o.t, "cc", plain, "|cc|");               /* an unused token is found */
    expect_tokens(o.t, "qqaqq", plain, "|<unk>|a|<unk>|"); /* unknown ones in a row are one */
    expect_tokens(o.t, "\u4E2Da", plain, "|<unk>|a|");     /* a character, not its bytes */
    expect_tokens(o.t, "A\x01", plain, "|<unk>|");         /* byte tokens are for others */
    expect_tokens(o.t, "a[x y]b", plain, "|a|[x y]|b|");
    expect_tokens(o.t, "a</s>a", plain, "|a|<unk>|a|");
    expect_tokens(o.t, "a</s>a", full, "|a|</s>|a|</s>|");
    const tokenizer_info *i = tokenizer_get_info(o.t);
    assert_true(i->bos == TOKEN_NONE && i->eos == 1 && i->unk == 2 && i->pad == 0 && !i->add_bos && i->add_eos);
    close_both(o);
}

static void test_spaces(void **state) {
    (void)state;
    static const struct {
        unsigned with;
        const char *text, *want;
    } rows[] = {
        {0, " a  b ", "|\u2581a|\u2581\u2581|b|\u2581|"}, /* -9 before twice -2: "\u2581\u2581" needs a better score */
        {PREFIX, "a b", "|\u2581a|\u2581|b|"},
        {PREFIX, " a", "|\u2581|\u2581a|"},
        {PREFIX, " ", "|\u2581|"},
        {MERGE, "a  b ", "|\u2581a|\u2581|b|"},
        {PREFIX | MERGE, "  a   b  ", "|\u2581a|\u2581|b|"},
        {PREFIX | MERGE, "   ", "|"},
        {PREFIX | MERGE | WITH_MAP, "a\t\tb", "|\u2581a|\u2581|b|"},
    };
    made m;
    make_usual(&m);
    make_usual_map();
    m.score[15] = -3; /* two spaces */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        opened o = open_made(&m, rows[i].with);
        expect_tokens(o.t, rows[i].text, plain, rows[i].want);
        close_both(o);
    }
}

static void test_normalising(void **state) {
    (void)state;
    made m;
    make_usual(&m);
    make_usual_map();
    opened o = open_made(&m, WITH_MAP);
    expect_tokens(o.t, "A\uFF21", plain, "|a|a|");
    expect_tokens(o.t,
                  "a\u200B"
                  "d",
                  plain, "|a|d|"); /* gone without a trace */
    expect_tokens(o.t, "e\u0301", plain, "|\u00E9|");
    expect_tokens(o.t, "\uFB03", plain, "|ffi|");
    expect_tokens(o.t, "abcd", plain, "|d|");
    expect_tokens(o.t,
                  "\u00A8"
                  "A",
                  plain, "|\u2581|<unk>|a|");
    expect_tokens(o.t,
                  "a\xFF\xE2\x82"
                  "a",
                  plain, "|a|<unk>|a|"); /* U+FFFD each */
    expect_tokens(o.t, "A[x y]A", plain, "|a|[x y]|a|");
    close_both(o);
}

static void test_decode(void **state) {
    (void)state;
    made m;
    make_usual(&m);
    opened o = open_made(&m, PREFIX);
    token_list l;
    strbuf back = {0};
    assert_int_equal(tokenizer_encode(o.t, str_of("ab  [x y]c"), full, &l, NULL), OK);
    assert_int_equal(tokenizer_decode(o.t, l.ids, l.n, true, &back, NULL), OK);
    assert_string_equal(back.p, "ab  [x y] c</s>"); /* a prefix before each part between special tokens */
    strbuf_clear(&back);
    assert_int_equal(tokenizer_decode(o.t, &(token_id){18}, 1, true, &back, NULL), OK);
    assert_string_equal(back.p, "A"); /* a byte token */
    strbuf_free(&back);
    mem_free(l.ids);
    close_both(o);
}

/* All ways to cut the text into tokens, tried one after another. */
static double best_plainly(const made *m, str text) {
    if (text.n == 0) return 0;
    double best = -INFINITY;
    for (size_t i = 0; i < m->n; i++) {
        str t = m->text[i];
        if (m->kind[i] != TOKEN_NORMAL || t.n > text.n || memcmp(t.p, text.p, t.n) != 0) continue;
        best = fmax(best, (double)m->score[i] + best_plainly(m, (str){text.p + t.n, text.n - t.n}));
    }
    return best;
}

static void test_best_way_is_the_plain_definition(void **state) {
    (void)state;
    static const char *const words[] = {"a",  "b",   "c",   "aa",  "ab",   "ba",    "bc",
                                        "ca", "abc", "cab", "aaa", "bcab", "abcabc"};
    for (uint64_t seed = 0; seed < 60; seed++) {
        made m = {.n = 0};
        add(&m, "<pad>", TOKEN_CONTROL, 0), add(&m, "</s>", TOKEN_CONTROL, 0), add(&m, "<unk>", TOKEN_UNKNOWN, 0);
        for (size_t i = 0; i < 13; i++) add(&m, words[i], TOKEN_NORMAL, -(float)(rng_u64(seed, i) % 1000) / 64);
        opened o = open_made(&m, 0);
        for (uint64_t k = 0; k < 20; k++) {
            char text[12];
            size_t n = 1 + rng_u64(seed, 100 + k) % sizeof text, at = 0;
            for (size_t i = 0; i < n; i++) text[i] = "abc"[rng_u64(seed, 1000 + 20 * k + i) % 3];
            token_list l;
            double sum = 0;
            assert_int_equal(tokenizer_encode(o.t, (str){text, n}, plain, &l, NULL), OK);
            for (size_t i = 0; i < l.n; i++) {
                str t = m.text[l.ids[i]];
                assert_true(at + t.n <= n && memcmp(text + at, t.p, t.n) == 0);
                at += t.n;
                sum += (double)m.score[l.ids[i]];
            }
            assert_true(at == n && fabs(sum - best_plainly(&m, (str){text, n})) < 1e-9);
            mem_free(l.ids);
        }
        close_both(o);
    }
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

static void refuse_map(const made *m, gguf_type type, size_t n, size_t bytes, const char *names) {
    static const char zeros[64];
    vocab_file f = {0};
    put_made(&f, m, 0);
    vf_add_array(&f, key_map, type, zeros, n, bytes);
    expect_refused(&f, ERR_TOKENIZER, names);
}

static void test_refuses(void **state) {
    (void)state;
    uint64_t live = mem_live();
    vocab_file f = {0};
    made m;
    make_usual(&m);
    vf_add_str(&f, "tokenizer.ggml.model", "t5");
    vf_add_texts(&f, "tokenizer.ggml.tokens", m.text, m.n);
    expect_refused(&f, ERR_TOKENIZER, "scores is missing");
    for (int minus = 0; minus < 2; minus++) {
        m.score[5] = minus ? -INFINITY : INFINITY;
        put_made(&f, &m, 0);
        expect_refused(&f, ERR_TOKENIZER, "scores[5]");
    }
    make_usual(&m);
    m.n = 2; /* no id 2 */
    put_made(&f, &m, 0);
    expect_refused(&f, ERR_TOKENIZER, "unknown token");
    make_usual(&m);
    refuse_map(&m, GGUF_U8, 0, 1, "0 bytes");
    refuse_map(&m, GGUF_U8, 3, 1, "3 bytes");
    refuse_map(&m, GGUF_U8, 4, 1, "no replacements");
    refuse_map(&m, GGUF_I32, 4, 4, "no array of bytes");
    put_made(&f, &m, 0);
    vf_add_str(&f, key_map, "text");
    expect_refused(&f, ERR_TOKENIZER, "no array of bytes");
    assert_true(mem_live() == live);
}

static void test_extreme_scores(void **state) {
    (void)state;
    made m;
    make_usual(&m);
    m.score[4] = -3.4e38f, m.score[5] = 3.4e38f;
    opened o = open_made(&m, 0);
    expect_tokens(o.t, "aabq", plain, "|a|ab|<unk>|"); /* the 5 of ab is lost in the sum: of equals the first */
    close_both(o);
}

static void test_survives_oom(void **state) {
    (void)state;
    made m;
    vocab_file f = {0};
    gguf *g;
    make_usual(&m);
    make_usual_map();
    put_made(&f, &m, WITH_MAP | PREFIX);
    assert_int_equal(vf_open(&f, &fd, &g, NULL), OK);
    uint64_t live = mem_live();
    bool fired = true;
    for (uint64_t n = 1; fired; n++) {
        tokenizer *t;
        token_list l = {0};
        strbuf out = {0};
        mem_fail_at(n);
        status s = tokenizer_open(&t, g, NULL);
        if (!s) s = tokenizer_encode(t, str_of("abc \uFB03 [x y] qqqqqqqqqqqqqqqqqqqq</s> a"), full, &l, NULL);
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

/* The longest token, the longest part of a map that never ends, and the longest replacement, each met at every byte. */
static void test_time_is_bounded(void **state) {
    (void)state;
    static char longest[TRIE_MAX_TEXT + 1], text[64 << 10];
    char part[CHARSMAP_MAX_PART], becomes[CHARSMAP_MAX_REPLACEMENT + 1] = {0};
    made m;
    make_usual(&m);
    memset(longest, 'a', TRIE_MAX_TEXT);
    add(&m, longest, TOKEN_NORMAL, -1e9f);
    memset(part, 'a', sizeof part);
    map_start(&map);
    map_path(&map, part, sizeof part);
    memset(becomes, 'b', CHARSMAP_MAX_REPLACEMENT);
    map_add(&map, "c", becomes);
    opened o = open_made(&m, WITH_MAP);
    memset(text, 'a', sizeof text);
    memset(text, 'c', 500);
    token_list l;
    clock_t start = clock();
    assert_int_equal(tokenizer_encode(o.t, (str){text, sizeof text}, plain, &l, NULL), OK);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20); /* under a second where nothing else runs */
    mem_free(l.ids);
    close_both(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_finds_the_longest),
        cmocka_unit_test(test_map_that_leads_astray),
        cmocka_unit_test(test_map_with_long_parts),
        cmocka_unit_test(test_map_with_shared_nodes),
        cmocka_unit_test(test_damaged_maps),
        cmocka_unit_test(test_best_way),
        cmocka_unit_test(test_spaces),
        cmocka_unit_test(test_normalising),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_best_way_is_the_plain_definition),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_survives_oom),
        cmocka_unit_test(test_time_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
