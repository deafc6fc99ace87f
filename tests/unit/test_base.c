#include "check.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

static void test_err_escapes_what_a_terminal_must_not_see(void **state) {
    (void)state;
    err e;
    assert_int_equal(fail(&e, ERR_GGUF_KEY, "key %s", "a\x1b[31m\xff\xc3\xa9\n"), ERR_GGUF_KEY);
    assert_string_equal(e.text, "key a\\x1B[31m\\xFF\xc3\xa9\\x0A");
    assert_string_equal(err_lookup(e.code)->code, "gguf.key");
}

static void test_err_codes_are_unique(void **state) {
    (void)state;
    for (int a = 1; a < ERR_COUNT; a++)
        for (int b = a + 1; b < ERR_COUNT; b++) assert_string_not_equal(err_lookup(a)->code, err_lookup(b)->code);
}

static void test_mem_fails_the_nth(void **state) {
    (void)state;
    uint64_t live = mem_live();
    mem_fail_at(2);
    void *a = mem_alloc(1), *b = mem_alloc(1), *c = mem_alloc(1);
    assert_true(mem_fail_off());
    assert_true(a && !b && c);
    mem_free(a), mem_free(c);
    assert_int_equal(mem_live(), live);
    assert_null(mem_array(SIZE_MAX / 2, 4));
}

static void test_mem_map_is_aligned_and_freed(void **state) {
    (void)state;
    char *p = mem_map(5 << 20);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (2 << 20), 0);
    p[0] = p[(5 << 20) - 1] = 1;
    mem_unmap(p, 5 << 20);
}

static void test_arena_and_strings(void **state) {
    (void)state;
    arena a = {0};
    char *s = arena_strndup(&a, "hello", 3);
    assert_string_equal(s, "hel");
    assert_non_null(arena_take(&a, 1 << 20));
    assert_true(arena_bytes(&a) > 1 << 20);
    arena_free(&a);
    strbuf b = {0};
    strbuf_printf(&b, "%d-%s", 7, "x");
    strbuf_puts(&b, "!");
    assert_string_equal(b.p, "7-x!");
    strbuf_free(&b);
    assert_true(str_starts(str_of("blk.0"), "blk.") && !str_is(str_of("a"), "ab"));
}

static void test_rng_is_a_function_of_seed_and_position(void **state) {
    (void)state;
    assert_true(rng_u64(1, 2) == rng_u64(1, 2) && rng_u64(1, 2) != rng_u64(2, 1));
    double sum = 0;
    for (int i = 0; i < 100000; i++) sum += rng_unit(42, (uint64_t)i);
    assert_true(sum > 49700 && sum < 50300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_escapes_what_a_terminal_must_not_see),
        cmocka_unit_test(test_err_codes_are_unique),
        cmocka_unit_test(test_mem_fails_the_nth),
        cmocka_unit_test(test_mem_map_is_aligned_and_freed),
        cmocka_unit_test(test_arena_and_strings),
        cmocka_unit_test(test_rng_is_a_function_of_seed_and_position),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
