/* Thoughts are split off without losing a byte, however the text is cut. */
#include "check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "server/reasoning.h"

typedef struct {
    strbuf thought, answer;
} halves;

static halves split(const reasoning_tags *tags, bool opened, str text, uint64_t seed) {
    halves h = {0};
    reasoning r = {0};
    reasoning_begin(&r, tags, opened);
    for (size_t at = 0, i = 0; at < text.n; i++) {
        size_t n = seed ? 1 + rng_u64(seed, i) % (seed % 7 + 1) : text.n;
        if (n > text.n - at) n = text.n - at;
        reasoning_feed(&r, text.p + at, n, &h.thought, &h.answer);
        at += n;
    }
    reasoning_end(&r, &h.thought, &h.answer);
    reasoning_free(&r);
    return h;
}

static str view(const strbuf *b) { return (str){b->p ? b->p : "", b->n}; }

static void halves_free(halves *h) {
    strbuf_free(&h->thought);
    strbuf_free(&h->answer);
}

static const struct {
    const char *text;
    bool opened;
    const char *thought, *answer;
} table[] = {
    {"", false, "", ""},
    {"", true, "", ""},
    {"plain", false, "", "plain"},
    {"  plain \n", false, "", "  plain \n"},
    {"<think>a</think>b", false, "a", "b"},
    {"\n <think>\n a b \n</think>\n\n b\n", false, "a b", "b\n"},
    {"a\n</think>\n\nb", true, "a", "b"},
    {"<think></think>b", false, "", "b"},
    {"<think>\n\n</think>\n\nb", false, "", "b"},
    {"</think>b", true, "", "b"},
    {"<think>endless", false, "endless", ""},
    {"<think>endless \n", false, "endless \n", ""},
    {"endless </thi", true, "endless </thi", ""},
    {"<thi", false, "", "<thi"},
    {" <thi", false, "", " <thi"},
    {"<thinking>x", false, "", "<thinking>x"},
    {"a <think>b</think> c", false, "", "a <think>b</think> c"},
    {"<think>a</think>b<think>c</think>", false, "a", "b<think>c</think>"},
    {"<think>a</thi</think>b", false, "a</thi", "b"},
    {"<think>a<</think>b", false, "a<", "b"},
    {"<think>a < /think> b</think>c", false, "a < /think> b", "c"},
    {"<think>\xc3\xa9\xf0\x9f\x98\x80</think>\xe2\x82\xac", false, "\xc3\xa9\xf0\x9f\x98\x80", "\xe2\x82\xac"},
};

static void test_table(void **state) {
    (void)state;
    const reasoning_tags *tags = reasoning_tags_of(str_of(""));
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (uint64_t seed = 0; seed < 40; seed++) {
            halves h = split(tags, table[i].opened, str_of(table[i].text), seed);
            assert_true(str_is(view(&h.thought), table[i].thought));
            assert_true(str_is(view(&h.answer), table[i].answer));
            halves_free(&h);
        }
}

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Walks the text along both halves: what neither holds must be one opening tag, one closing tag and white space beside them. */
static void check_nothing_lost(const reasoning_tags *tags, bool opened, str text, const halves *h) {
    size_t at = 0;
    str thought = view(&h->thought), answer = view(&h->answer);
    if (!opened && !thought.n && str_eq(text, answer)) return;
    while (!opened && at < text.n && is_space(text.p[at])) at++;
    if (!opened) {
        assert_true(str_starts((str){text.p + at, text.n - at}, tags->open));
        at += strlen(tags->open);
    }
    while (at < text.n && is_space(text.p[at]) && (!thought.n || !is_space(thought.p[0]))) at++;
    assert_true(text.n - at >= thought.n && !memcmp(text.p + at, thought.p, thought.n));
    at += thought.n;
    while (at < text.n && is_space(text.p[at])) at++;
    if (at < text.n) {
        assert_true(str_starts((str){text.p + at, text.n - at}, tags->close));
        at += strlen(tags->close);
    }
    while (at < text.n && is_space(text.p[at])) at++;
    assert_int_equal(text.n - at, answer.n);
    assert_memory_equal(text.p + at, answer.p, answer.n);
}

/* Texts made of pieces of tags, white space and letters: every cut gives the same halves, and they hold every byte. */
static void test_random_cuts(void **state) {
    (void)state;
    static const char *const pieces[] = {"<",  "<think>",  "</think>", "</", "think", ">",  " ", "\n",
                                         "ab", "\xc3\xa9", "[THINK]",  "t",  "</thi", "  ", "x", "<thin"};
    enum { N_PIECES = sizeof pieces / sizeof *pieces };
    const reasoning_tags *tags = reasoning_tags_of(str_of("</think>"));
    for (uint64_t k = 1; k <= 3000; k++) {
        strbuf text = {0};
        const size_t n = rng_u64(k, 0) % 12;
        if (k % 3 == 0) strbuf_puts(&text, tags->open);
        for (size_t i = 0; i < n; i++) strbuf_puts(&text, pieces[rng_u64(k, i + 1) % N_PIECES]);
        const bool opened = k % 2;
        halves whole = split(tags, opened, view(&text), 0), cut = split(tags, opened, view(&text), k);
        check_nothing_lost(tags, opened, view(&text), &whole);
        assert_true(str_eq(view(&whole.thought), view(&cut.thought)));
        assert_true(str_eq(view(&whole.answer), view(&cut.answer)));
        halves_free(&whole);
        halves_free(&cut);
        strbuf_free(&text);
    }
}

static void test_no_tags(void **state) {
    (void)state;
    halves h = split(NULL, false, str_of("<think>a</think> b"), 3);
    assert_true(str_is(view(&h.answer), "<think>a</think> b") && h.thought.n == 0);
    halves_free(&h);
}

static void test_tags_of_templates(void **state) {
    (void)state;
    assert_string_equal(reasoning_tags_of(str_of("{{ content.split('[/THINK]') }}"))->open, "[THINK]");
    assert_string_equal(reasoning_tags_of(str_of("</seed:think>"))->open, "<seed:think>");
    assert_string_equal(reasoning_tags_of(str_of("split('</think>')[-1]"))->open, "<think>");
    assert_string_equal(reasoning_tags_of(str_of("no thoughts"))->open, "<think>");
    assert_string_equal(reasoning_tags_of((str){NULL, 0})->open, "<think>");
}

static void test_open_prompts(void **state) {
    (void)state;
    const reasoning_tags *tags = reasoning_tags_of(str_of(""));
    assert_true(reasoning_is_open(tags, str_of("<|im_start|>assistant\n<think>\n")));
    assert_true(reasoning_is_open(tags, str_of("<think>")));
    assert_false(reasoning_is_open(tags, str_of("<|im_start|>assistant\n<think>\n\n</think>\n\n")));
    assert_false(reasoning_is_open(tags, str_of("")));
    assert_false(reasoning_is_open(tags, str_of(" \n")));
}

static void test_no_memory(void **state) {
    (void)state;
    const reasoning_tags *tags = reasoning_tags_of(str_of(""));
    for (uint64_t n = 1;; n++) {
        mem_fail_at(n);
        halves h = split(tags, false, str_of("<think>some thought</think>and some answer"), 5);
        const bool fired = mem_fail_off();
        assert_true(!fired || h.thought.failed || h.answer.failed);
        halves_free(&h);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),        cmocka_unit_test(test_random_cuts),
        cmocka_unit_test(test_no_tags),      cmocka_unit_test(test_tags_of_templates),
        cmocka_unit_test(test_open_prompts), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
