/* Which code object serves which device: code.c over a table made up here. */
#include "check.h"

#include "backend/gpu/code_table.h"

#define ROWS(target) \
    {"linear", target, "l" target, sizeof "l" target}, { "norm", target, "n" target, sizeof "n" target }
const gpu_code gpu_code_table[] = {ROWS("gfx90a"), ROWS("gfx1100"), ROWS("gfx1101"),
                                   ROWS("sm_80"),  ROWS("sm_100"),  {0}};
const uint32_t gpu_code_table_n = sizeof gpu_code_table / sizeof *gpu_code_table - 1;
const char gpu_code_table_targets[] = "gfx90a gfx1100 gfx1101 sm_80 sm_100";

static void covers(const char *arch, const char *wanted) {
    const char *target = "?";
    assert_int_equal(gpu_code_covers(arch, &target), wanted != NULL);
    assert_int_equal(gpu_code_covers(arch, NULL), wanted != NULL);
    if (wanted) assert_string_equal(target, wanted);
    if (!wanted) assert_null(target);
}

static void test_amd(void **state) {
    (void)state;
    covers("gfx1100", "gfx1100");
    covers("gfx1101", "gfx1101");
    covers("gfx90a:sramecc+:xnack-", "gfx90a");
    covers("gfx90a:", "gfx90a");
    covers("gfx110", NULL);
    covers("gfx11000", NULL);
    covers("gfx1102", NULL);
    covers("gfx906", NULL);
    covers("", NULL);
    covers(":sramecc+", NULL);
}

static void test_nvidia(void **state) {
    (void)state;
    covers("sm_80", "sm_80");
    covers("sm_86", "sm_80");
    covers("sm_90", "sm_80");
    covers("sm_90a", "sm_80");
    covers("sm_100", "sm_100");
    covers("sm_120", "sm_100");
    covers("sm_75", NULL);
    covers("sm_", NULL);
    covers("sm_x", NULL);
    covers("sm_99999999999999999999", "sm_100");
}

static void test_find(void **state) {
    (void)state;
    const gpu_code *c = gpu_code_find("norm", "gfx1100");
    assert_non_null(c);
    assert_string_equal(c->data, "ngfx1100");
    assert_int_equal(c->n_bytes, 9);
    assert_null(gpu_code_find("norm", "gfx906"));
    assert_null(gpu_code_find("nor", "gfx1100"));
    assert_int_equal(gpu_code_count(), 10);
    assert_ptr_equal(gpu_code_at(0), gpu_code_table);
    assert_null(gpu_code_at(10));
    assert_string_equal(gpu_code_targets(), gpu_code_table_targets);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_amd), cmocka_unit_test(test_nvidia),
                                       cmocka_unit_test(test_find)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
