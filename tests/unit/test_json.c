#include "check.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"

static void assert_cleaned(const char *in, size_t n, const char *want) {
    strbuf b = {0};
    strbuf_add_utf8(&b, in, n);
    assert_string_equal(b.p, want);
    strbuf_free(&b);
}

#define BAD "\xEF\xBF\xBD"

static void test_utf8_is_repaired(void **state) {
    (void)state;
    assert_cleaned("", 0, "");
    assert_cleaned("plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", 17, "plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
    assert_cleaned("\xE2\x82", 2, BAD);
    assert_cleaned("\xE2\x82x", 3, BAD "x");
    assert_cleaned("\xF0\x9F\x98"
                   "a\x80",
                   5, BAD "a" BAD);
    assert_cleaned("\xC0\xAF", 2, BAD BAD);         /* overlong */
    assert_cleaned("\xE0\x80\x80", 3, BAD BAD BAD); /* overlong */
    assert_cleaned("\xED\xA0\x80", 3, BAD BAD BAD); /* surrogate */
    assert_cleaned("\xF4\x90\x80\x80", 4, BAD BAD BAD BAD);
    assert_cleaned("\xFF\xFE", 2, BAD BAD);
}

static void test_any_bytes_make_a_string(void **state) {
    (void)state;
    for (uint64_t round = 0; round < 20000; round++) {
        char bytes[24];
        const size_t n = rng_u64(1, round) % sizeof bytes;
        for (size_t i = 0; i < n; i++) {
            const uint64_t r = rng_u64(round, i); /* mostly bytes that form characters */
            bytes[i] = (char)(r % 3 ? 0x80 + r / 3 % 0x40 : r / 3 % 5 ? 0xC0 + r / 15 % 0x40 : r / 15 % 256);
        }
        json_t *v = json_text(bytes, n);
        assert_non_null(v);
        json_t *checked = json_stringn(json_string_value(v), json_string_length(v)); /* jansson's own check of UTF-8 */
        assert_non_null(checked);
        json_decref(checked);
        json_decref(v);
    }
}

static json_t *sample_object(void) {
    json_t *o = json_object();
    if (!o) return NULL;
    bool ok = json_put(o, str_of("zeta"), json_integer(1));
    ok = ok && json_put(o, (str){"a\xFF\0b", 4}, json_text("q\"\n\0\xC3\xA9/", 7));
    ok = ok && json_put(o, str_of("list"), json_pack("[b, n, f]", 1, 0.1));
    if (ok) return o;
    json_decref(o);
    return NULL;
}

static void test_write_is_compact_and_in_order(void **state) {
    (void)state;
    strbuf out = {0};
    strbuf_puts(&out, "data: ");
    json_t *o = sample_object();
    assert_int_equal(json_write(o, &out, NULL), OK);
    assert_string_equal(out.p,
                        "data: {\"zeta\":1,\"a" BAD "\\u0000b\":\"q\\\"\\n\\u0000\xC3\xA9/\",\"list\":[true,null,"
                        "0.1]}");
    json_decref(o);
    strbuf_free(&out);
}

/* As few digits as give the number back, and a real stays a real. */
static void test_numbers_are_short(void **state) {
    (void)state;
    static const double x[] = {0.1, 3, -0.0, 0.1 + 0.2, 1e300, 5e-324, 1.0 / 3, 123456789012345680.0};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) json_array_append_new(list, json_real(x[i]));
    strbuf out = {0};
    assert_int_equal(json_write(list, &out, NULL), OK);
    assert_string_equal(out.p, "[0.1,3.0,-0.0,0.30000000000000004,1e+300,4.94065645841247e-324,0.3333333333333333,"
                               "1.2345678901234568e+17]");
    json_decref(list);
    strbuf_free(&out);
}

/* Every allocation of jansson passes our seam: failing any of them is survived, nothing leaks. */
static void test_memory_is_ours(void **state) {
    (void)state;
    const uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        strbuf out = {0};
        err e;
        mem_fail_at(n);
        json_t *o = sample_object();
        const status s = o ? json_write(o, &out, &e) : ERR_NOMEM;
        const bool fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        assert_true(s == OK || out.n == 0);
        if (!fired) assert_true(n > 8 && mem_live() > live);
        json_decref(o);
        strbuf_free(&out);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
}

static int setup(void **state) {
    (void)state;
    json_init();
    json_init();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_is_repaired),
        cmocka_unit_test(test_any_bytes_make_a_string),
        cmocka_unit_test(test_write_is_compact_and_in_order),
        cmocka_unit_test(test_numbers_are_short),
        cmocka_unit_test(test_memory_is_ours),
    };
    return cmocka_run_group_tests_name("json", tests, setup, NULL);
}
