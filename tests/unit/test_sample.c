#include "check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "sample/chain.h"
#include "sample/sample.h"
#include "sample/softmax.h"

#include <math.h>

static float random_logit(uint64_t i) { return (float)(rng_unit(3, i) * 16 - 8 + rng_unit(4, i) * 4); }

static sample_params greedy(void) {
    sample_params p = sample_defaults();
    p.temperature = 0;
    return p;
}

static int32_t pick(const float *x, uint32_t n, const sample_params *p, sample_scratch *s) {
    sample_result r = {0};
    err e;
    assert_int_equal(sample_token(x, n, p, NULL, 0, 0, s, &r, &e), OK);
    return r.id;
}

static void test_greedy_takes_the_lowest_of_equals(void **state) {
    (void)state;
    enum { N = 1000 };
    float x[N];
    sample_scratch *s = sample_scratch_new(N);
    const sample_params p = greedy();
    for (int i = 0; i < N; i++) x[i] = -5;
    assert_int_equal(pick(x, N, &p, s), 0);
    for (int at = N - 1; at >= 0; at--) { /* every lane and the tail */
        x[at] = 7;
        assert_int_equal(pick(x, N, &p, s), at);
    }
    x[3] = 0.0f, x[2] = -0.0f;
    for (int i = 4; i < N; i++) x[i] = -1;
    x[0] = x[1] = -1;
    assert_int_equal(pick(x, N, &p, s), 2); /* -0 equals 0 */
    const sample_bias bias[] = {{9, 2}, {7, 2}};
    sample_params q = p;
    q.bias = bias, q.n_bias = 2;
    assert_int_equal(pick(x, N, &q, s), 7);
    q.banned = (const int32_t[]){7, 9}, q.n_banned = 2;
    assert_int_equal(pick(x, N, &q, s), 2);
    sample_scratch_free(s);
}

static void test_what_is_not_finite_is_refused(void **state) {
    (void)state;
    enum { N = 77 };
    float x[N];
    sample_scratch *s = sample_scratch_new(N);
    const float odd[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 4; k++)
        for (int at = 0; at < N; at++) {
            for (int i = 0; i < N; i++) x[i] = random_logit((uint64_t)i);
            x[at] = odd[k];
            sample_params p = at & 1 ? greedy() : sample_defaults();
            sample_result r = {0};
            err e = {0};
            assert_int_equal(sample_token(x, N, &p, NULL, 0, 5, s, &r, &e), ERR_NUMBERS);
            char token[32];
            snprintf(token, sizeof token, "token %d ", at);
            assert_non_null(strstr(e.text, token));
        }
    sample_scratch_free(s);
}

static void test_extreme_numbers_stay_numbers(void **state) {
    (void)state;
    float x[4] = {3e38f, -3e38f, 1, 3e38f};
    sample_scratch *s = sample_scratch_new(4);
    const sample_bias bias[] = {{0, 3e38f}, {1, -3e38f}};
    const int32_t history[] = {0, 1, 2, 3, 3};
    sample_params p = sample_defaults();
    p.bias = bias, p.n_bias = 2;
    p.repeat_penalty = 1e-30f, p.presence_penalty = -3e38f, p.frequency_penalty = -3e38f;
    for (int i = 0; i < 3; i++) {
        p.temperature = (const float[]){0, 1e-45f, 3e38f}[i];
        sample_result r = {0};
        err e;
        assert_int_equal(sample_token(x, 4, &p, history, 5, 0, s, &r, &e), OK);
        assert_true(r.id >= 0 && r.id < 4 && !isnan(r.logprob));
    }
    p.banned = (const int32_t[]){0, 1, 2, 3}, p.n_banned = 4;
    sample_result r = {0};
    err e;
    assert_int_equal(sample_token(x, 4, &p, history, 5, 0, s, &r, &e), ERR_RANGE);
    sample_scratch_free(s);
}

static void test_check_names_the_field(void **state) {
    (void)state;
    err e;
    sample_params p = sample_defaults();
    assert_int_equal(sample_check(&p, 10, &e), OK);
#define REFUSED(field, value, code, name) \
    p = sample_defaults(), p.field = value, assert_int_equal(sample_check(&p, 10, &e), code), \
    assert_non_null(strstr(e.text, name))
    REFUSED(temperature, NAN, ERR_RANGE, "temperature");
    REFUSED(top_p, 1.5f, ERR_RANGE, "top_p");
    REFUSED(top_p, NAN, ERR_RANGE, "top_p");
    REFUSED(min_p, -0.1f, ERR_RANGE, "min_p");
    REFUSED(repeat_penalty, 0, ERR_RANGE, "repeat_penalty");
    REFUSED(repeat_penalty, 1e-45f, ERR_RANGE, "repeat_penalty");
    REFUSED(presence_penalty, INFINITY, ERR_RANGE, "presence_penalty");
    REFUSED(frequency_penalty, NAN, ERR_RANGE, "frequency_penalty");
    REFUSED(repeat_last_n, -2, ERR_RANGE, "repeat_last_n");
    const sample_bias bad[] = {{10, 1}, {-1, 1}, {3, NAN}, {3, INFINITY}, {3, -INFINITY}};
    const status want[] = {ERR_TOKEN, ERR_TOKEN, ERR_RANGE, ERR_RANGE, OK};
    for (int i = 0; i < 5; i++) {
        p = sample_defaults();
        p.bias = &bad[i], p.n_bias = 1;
        assert_int_equal(sample_check(&p, 10, &e), want[i]);
    }
    p = sample_defaults();
    p.banned = (const int32_t[]){10}, p.n_banned = 1;
    assert_int_equal(sample_check(&p, 10, &e), ERR_TOKEN);
}

static const float *by_value;
static int compare(const void *a, const void *b) {
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (by_value[i] != by_value[j]) return by_value[i] > by_value[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

static void test_topk_is_a_sort(void **state) {
    (void)state;
    enum { N = 3000 };
    static float x[N];
    static uint32_t order[N];
    topk t;
    assert_true(topk_init(&t, N));
    for (uint64_t round = 0; round < 60; round++) {
        const uint32_t n = 1 + (uint32_t)(rng_u64(1, round) % N);
        const double step = round % 3 == 0 ? 1.0 : round % 3 == 1 ? 1e-3 : 1e5; /* many ties; narrow; wide */
        uint32_t banned = 0;
        for (uint32_t i = 0; i < n; i++) {
            x[i] = (float)(floor((rng_unit(round, i) - 0.5) * 40) * step);
            if (rng_u64(round, i) % 11 == 0) x[i] = -INFINITY, banned++;
            order[i] = i;
        }
        by_value = x;
        qsort(order, n, sizeof *order, compare);
        const uint32_t ks[] = {1, 2, 40, n / 2 + 1, n, n + 7};
        for (int j = 0; j < 6; j++) {
            const uint32_t m = topk_select(&t, x, n, ks[j]);
            assert_int_equal(m, ks[j] < n - banned ? ks[j] : n - banned);
            for (uint32_t i = 0; i < m; i++) assert_int_equal(topk_index(t.key[i]), order[i]);
        }
    }
    topk_free(&t);
}

static void test_softmax_is_exact_enough(void **state) {
    (void)state;
    enum { N = 50001 };
    static float x[N], w[N];
    for (uint32_t n = 1; n < N; n = n * 3 + 1) {
        double sum = 0;
        bool finite;
        for (uint32_t i = 0; i < n; i++) x[i] = random_logit(i + n);
        const float max = softmax_max(x, n, &finite);
        for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)max);
        assert_true(finite && fabs(softmax_sum(x, n, max) / sum - 1) < 2e-7);
        softmax_weights(w, x, n, max, 0.7f);
        for (uint32_t i = 0; i < n; i++) {
            const double want = exp((double)((x[i] - max) / 0.7f));
            assert_true(fabs((double)w[i] - want) <= want * 4e-7);
        }
    }
    const float edge[] = {-87.0f, -87.1f, -1e30f, -INFINITY, 0.0f};
    softmax_weights(w, edge, 5, 0, 1);
    assert_true(w[0] > 1e-38f && w[1] == 0 && w[2] == 0 && w[3] == 0 && w[4] == 1);
}

/* The bits of log-probability and draw, wherever this was compiled. */
static void test_bits(void **state) {
    (void)state;
    enum { N = 4099 };
    static float x[N];
    for (uint32_t i = 0; i < N; i++) x[i] = random_logit(i);
    uint64_t sum = 0;
    sample_scratch *s = sample_scratch_new(N);
    for (uint64_t i = 0; i < 400; i++) {
        sample_params p = sample_defaults();
        p.seed = i;
        p.temperature = 0.5f + (float)(i % 7);
        p.top_k = i % 2 ? 0 : 40;
        p.top_p = i % 3 ? 1 : 0.9f;
        p.min_p = i % 5 ? 0 : 0.02f;
        sample_result r = {0};
        assert_int_equal(sample_token(x, N, &p, NULL, 0, i, s, &r, NULL), OK);
        uint32_t bits;
        memcpy(&bits, &r.logprob, sizeof bits);
        sum = (sum ^ bits ^ (uint64_t)r.id << 32) * 0x100000001b3u;
    }
    if (sum != UINT64_C(0x19373f02bc7e4ed5)) fail_msg("%016llx", (unsigned long long)sum);
    sample_scratch_free(s);
}

static void test_logprobs(void **state) {
    (void)state;
    enum { N = 5000 };
    static float x[N];
    double sum = 0;
    for (uint32_t i = 0; i < N; i++) x[i] = random_logit(i), sum += exp((double)x[i]);
    sample_scratch *s = sample_scratch_new(N);
    sample_params p = sample_defaults();
    p.bias = &(const sample_bias){17, 1000}, p.n_bias = 1; /* logprob is of the raw logits */
    sample_top top[6];
    sample_result r = {.top = top, .n_top = 6};
    err e;
    assert_int_equal(sample_token(x, N, &p, NULL, 0, 0, s, &r, &e), OK);
    assert_int_equal(r.id, 17);
    assert_true(fabs((double)r.logprob - ((double)x[17] - log(sum))) < 1e-5);
    assert_int_equal(r.n_top, 6);
    for (int i = 0; i < 6; i++) {
        assert_true(fabs((double)top[i].logprob - ((double)x[top[i].id] - log(sum))) < 1e-5);
        assert_true(i == 0 || top[i].logprob <= top[i - 1].logprob);
    }
    sample_top all[3];
    r = (sample_result){.top = all, .n_top = 3};
    assert_int_equal(sample_token(x, 2, &p, NULL, 0, 0, s, &r, &e), OK);
    assert_int_equal(r.n_top, 2);
    sample_scratch_free(s);
}

static void test_history_window(void **state) {
    (void)state;
    float x[5] = {5, 4, 3, -1, 0};
    const int32_t history[] = {0, 0, 1, 3, 3, 99, -1}; /* ids outside are passed over */
    sample_scratch *s = sample_scratch_new(5);
    sample_params p = sample_defaults();
    p.repeat_penalty = 2, p.presence_penalty = 0.5f, p.frequency_penalty = 0.25f;
    p.repeat_last_n = -1;
    const float *y = chain_adjust(x, 5, &p, history, 7, s);
    const float want[] = {2.5f - 1, 2 - 0.75f, 3, -2 - 1, 0};
    for (int i = 0; i < 5; i++) assert_true(y[i] == want[i]);
    p.repeat_last_n = 4; /* 3, 3, 99, -1 */
    y = chain_adjust(x, 5, &p, history, 7, s);
    assert_true(y[0] == 5 && y[1] == 4 && y[3] == -3);
    p.repeat_last_n = 0;
    assert_ptr_equal(chain_adjust(x, 5, &p, history, 7, s), x);
    for (int i = 0; i < 5; i++) assert_int_equal(s->seen[i], 0);
    sample_scratch_free(s);
}

static void test_a_draw_allocates_nothing_and_repeats(void **state) {
    (void)state;
    enum { N = 30000 };
    static float x[N];
    for (uint32_t i = 0; i < N; i++) x[i] = random_logit(i);
    sample_scratch *s = sample_scratch_new(N);
    const uint64_t calls = mem_calls();
    for (int32_t mode = 0; mode < 16; mode++) {
        sample_params p = sample_defaults();
        p.top_k = mode & 1 ? 40 : 0;
        p.top_p = mode & 2 ? 0.95f : 1;
        p.min_p = mode & 4 ? 0.05f : 0;
        p.temperature = mode & 8 ? 0 : 1;
        p.repeat_penalty = 1.1f;
        sample_top top[5];
        sample_result a = {.top = top, .n_top = 5}, b = a;
        assert_int_equal(sample_token(x, N, &p, &mode, 1, 9, s, &a, NULL), OK);
        assert_int_equal(sample_token(x, N, &p, &mode, 1, 9, s, &b, NULL), OK);
        assert_true(a.id == b.id && a.logprob == b.logprob);
    }
    assert_int_equal(mem_calls(), calls);
    sample_scratch_free(s);
}

static void test_scratch_survives_oom(void **state) {
    (void)state;
    const uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        mem_fail_at(n);
        sample_scratch *s = sample_scratch_new(100);
        const bool fired = mem_fail_off();
        assert_true(fired == (s == NULL));
        sample_scratch_free(s);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(test_what_is_not_finite_is_refused),
        cmocka_unit_test(test_extreme_numbers_stay_numbers),
        cmocka_unit_test(test_check_names_the_field),
        cmocka_unit_test(test_topk_is_a_sort),
        cmocka_unit_test(test_softmax_is_exact_enough),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_history_window),
        cmocka_unit_test(test_a_draw_allocates_nothing_and_repeats),
        cmocka_unit_test(test_scratch_survives_oom),
    };
    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
