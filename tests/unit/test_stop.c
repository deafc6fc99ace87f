#include "check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "sample/sample.h"

static uint64_t dice, sides_used;
static uint32_t roll(uint32_t sides) { return (uint32_t)(rng_u64(dice, sides_used++) % sides); }

enum { MAX_STOPS = 5, MAX_LEN = 6, MAX_TEXT = 60 };

typedef struct {
    char stop[MAX_STOPS][MAX_LEN + 1];
    const char *list[MAX_STOPS];
    int n;
    char text[MAX_TEXT + 1];
} puzzle;

static void random_string(char *p, uint32_t n, uint32_t letters) {
    for (uint32_t i = 0; i < n; i++) p[i] = (char)('a' + roll(letters));
    p[n] = 0;
}

static void random_puzzle(puzzle *p) {
    const uint32_t letters = 1 + roll(3);
    p->n = (int)roll(MAX_STOPS + 1);
    for (int i = 0; i < p->n; i++) {
        random_string(p->stop[i], 1 + roll(MAX_LEN), letters);
        p->list[i] = p->stop[i];
    }
    random_string(p->text, roll(MAX_TEXT + 1), letters + roll(2));
}

/* By looking at every end and every string: which is met first, and where it starts. */
static int brute_met(const puzzle *p, size_t n_text, size_t *start) {
    for (size_t end = 1; end <= n_text; end++) {
        int met = -1;
        for (int i = 0; i < p->n; i++) {
            const size_t n = strlen(p->stop[i]);
            if (n > end || memcmp(p->text + end - n, p->stop[i], n) != 0) continue;
            if (met < 0 || n > strlen(p->stop[met])) met = i;
        }
        if (met < 0) continue;
        *start = end - strlen(p->stop[met]);
        return met;
    }
    return -1;
}

/* How many of the first n_text bytes may be shown: all but the longest end that begins a stop string. */
static size_t brute_shown(const puzzle *p, size_t n_text) {
    for (size_t from = 0; from < n_text; from++)
        for (int i = 0; i < p->n; i++) {
            const size_t held = n_text - from;
            if (held < strlen(p->stop[i]) && memcmp(p->text + from, p->stop[i], held) == 0) return from;
        }
    return n_text;
}

static void solve(const puzzle *p) {
    stop_matcher *m;
    strbuf out = {0};
    assert_int_equal(stop_matcher_new(&m, p->list, (size_t)p->n, NULL), OK);
    const size_t n = strlen(p->text);
    size_t at = 0, start = 0;
    int got = -1;
    while (at < n && got < 0) {
        size_t piece = roll(5); /* empty pieces too */
        if (piece > n - at) piece = n - at;
        got = stop_matcher_push(m, p->text + at, piece, &out);
        at += piece;
        assert_int_equal(got, brute_met(p, at, &start));
        assert_int_equal(out.n, got < 0 ? brute_shown(p, at) : start);
    }
    if (got >= 0) assert_int_equal(stop_matcher_push(m, "zz", 2, &out), got);
    stop_matcher_flush(m, &out);
    assert_int_equal(out.n, got < 0 ? n : start);
    assert_true(out.n == 0 || memcmp(out.p, p->text, out.n) == 0);
    strbuf_free(&out);
    stop_matcher_free(m);
}

static void test_against_brute_force(void **state) {
    (void)state;
    for (dice = 1; dice <= 30000; dice++) {
        puzzle p;
        sides_used = 0;
        random_puzzle(&p);
        solve(&p);
    }
}

static void test_spans_tokens(void **state) {
    (void)state;
    const char *stops[] = {"<|im_end|>", "\n\nUser:"};
    const char *pieces[] = {"Hello", " <", "|im", "_", "x", "\n", "\nUs", "er", ": no"};
    stop_matcher *m;
    strbuf out = {0};
    assert_int_equal(stop_matcher_new(&m, stops, 2, NULL), OK);
    for (int i = 0; i < 8; i++) assert_int_equal(stop_matcher_push(m, pieces[i], strlen(pieces[i]), &out), -1);
    assert_string_equal(out.p, "Hello <|im_x");
    assert_int_equal(stop_matcher_push(m, pieces[8], strlen(pieces[8]), &out), 1);
    stop_matcher_flush(m, &out);
    assert_string_equal(out.p, "Hello <|im_x");
    strbuf_free(&out);
    stop_matcher_free(m);
}

static void test_bad_and_none(void **state) {
    (void)state;
    err e;
    stop_matcher *m;
    const char *empty[] = {"a", ""};
    assert_int_equal(stop_matcher_new(&m, empty, 2, &e), ERR_RANGE);
    assert_null(m);
    strbuf out = {0};
    assert_int_equal(stop_matcher_new(&m, NULL, 0, &e), OK);
    assert_int_equal(stop_matcher_push(m, "all of it", 9, &out), -1);
    assert_string_equal(out.p, "all of it");
    stop_matcher_free(m);
    stop_matcher_free(NULL);
    strbuf_free(&out);
}

/* A long stop string of one letter against a long text of it: linear, and nothing allocated but the output. */
static void test_long(void **state) {
    (void)state;
    enum { N = 20000, TEXT = 3000000 };
    char *stop = malloc(N + 2), *text = malloc(TEXT);
    memset(stop, 'a', N);
    stop[N] = 'b', stop[N + 1] = 0;
    memset(text, 'a', TEXT);
    stop_matcher *m;
    strbuf out = {0};
    assert_int_equal(stop_matcher_new(&m, (const char *const *)&stop, 1, NULL), OK);
    const uint64_t calls = mem_calls();
    assert_int_equal(stop_matcher_push(m, text, N, &out), -1);
    assert_int_equal(out.n, 0);
    assert_true(mem_calls() - calls <= 1);
    assert_int_equal(stop_matcher_push(m, text, TEXT, &out), -1);
    assert_int_equal(out.n, TEXT);
    assert_int_equal(stop_matcher_push(m, "b", 1, &out), 0);
    stop_matcher_free(m);
    strbuf_free(&out);
    free(stop), free(text);
}

static void test_new_survives_oom(void **state) {
    (void)state;
    const char *stops[] = {"abc", "d"};
    const uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        stop_matcher *m;
        mem_fail_at(n);
        const status s = stop_matcher_new(&m, stops, 2, NULL);
        const bool fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        stop_matcher_free(m);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_brute_force), cmocka_unit_test(test_spans_tokens),
        cmocka_unit_test(test_bad_and_none),        cmocka_unit_test(test_long),
        cmocka_unit_test(test_new_survives_oom),
    };
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
