/* The interpreter: right kernels give the right numbers in both wave widths, and each wrong one is caught and named. */
#include "../unit/check.h"
#include "selftest_args.h"
#include "standin.h"

static char why[1024];

static int launch(const char *kernel, unsigned wave, unsigned n_blocks, unsigned block, const int32_t *in, int32_t *out,
                  uint32_t n) {
    const simt_test_args a = {.in = (uintptr_t)in, .out = (uintptr_t)out, .n = n};
    const unsigned grid[3] = {n_blocks, 1, 1};
    return standin_launch(kernel, wave, grid, block, &a, sizeof a, why, sizeof why);
}

static void test_sum(void **state) {
    (void)state;
    static int32_t in[5 * 1000], out[5];
    for (unsigned wave = 32; wave <= 64; wave += 32) {
        for (int i = 0; i < 5000; i++) in[i] = i * 7 - 900;
        assert_int_equal(launch("simt_sum", wave, 5, 256, in, out, 1000), 0);
        for (int b = 0; b < 5; b++) {
            int32_t sum = 0;
            for (int i = 0; i < 1000; i++) sum += in[b * 1000 + i];
            assert_int_equal(out[b], sum);
        }
    }
}

static void test_wave(void **state) {
    (void)state;
    int32_t in[128], out[128];
    for (int i = 0; i < 128; i++) in[i] = i + 5;
    for (int wave = 32; wave <= 64; wave += 32) {
        assert_int_equal(launch("simt_reverse", (unsigned)wave, 1, 128, in, out, 0), 0);
        for (int i = 0; i < 128; i++) assert_int_equal(out[i], in[i / wave * wave + wave - 1 - i % wave]);
    }
}

static void test_poison(void **state) {
    (void)state;
    int32_t out[64];
    for (int round = 0; round < 2; round++) {
        assert_int_equal(launch("simt_unwritten", 32, 3, 64, NULL, out, 0), 0);
        for (int i = 0; i < 64; i++) assert_int_equal(out[i], 0x7FBADBAD);
    }
}

static void check_caught(const char *kernel, unsigned wave, const char *const *words) {
    int32_t in[64] = {0}, out[64];
    assert_int_not_equal(launch(kernel, wave, 1, 64, in, out, 0), 0);
    assert_non_null(strstr(why, kernel));
    for (; *words; words++)
        if (!strstr(why, *words)) fail_msg("%s: '%s' is not in: %s", kernel, *words, why);
}

static void test_wrong_kernels(void **state) {
    (void)state;
    for (unsigned wave = 32; wave <= 64; wave += 32) {
        check_caught(
            "simt_wrong_returned", wave,
            (const char *[]){"block (0, 0, 0)", "lanes 32-47 wait in team_xor", "lanes 48-63 have returned", NULL});
        check_caught("simt_wrong_place", wave,
                     (const char *[]){"is at team_xor", "others of its group wait in team_xor", NULL});
        check_caught("simt_wrong_barrier", wave,
                     (const char *[]){"lanes 0-31 have returned", "lanes 32-63 wait in barrier", NULL});
        check_caught("simt_wrong_mix", wave, (const char *[]){"wait in team_get", "wait in barrier", NULL});
        check_caught("simt_wrong_operand", wave, (const char *[]){"gives 32", "team_xor", NULL});
    }
    check_caught("simt_wrong_tile", 64, (const char *[]){"lanes 32-63 wait in wave_show tile", NULL});
    int32_t out[64];
    assert_int_equal(launch("simt_wrong_tile", 32, 1, 64, NULL, out, 0),
                     0); /* after all those failures it still runs */
}

#ifndef __SANITIZE_ADDRESS__
/* What would end the process ends the launch, again and again, and the interpreter goes on. */
static void test_traps(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        const unsigned wave = 32 + 32 * (i & 1);
        check_caught("simt_wrong_write", wave,
                     (const char *[]){"block (0, 0, 0)", "lane 37 cannot write at 0x1230 (", "libsimt_kernels", NULL});
        check_caught("simt_wrong_read", wave,
                     (const char *[]){"lane 5 cannot read at 0x4560 (", "libsimt_kernels", NULL});
        check_caught("simt_wrong_address", wave,
                     (const char *[]){"lane 63 reads or writes at what is no address", NULL});
        check_caught("simt_wrong_depth", wave, (const char *[]){"lane 2 cannot write at 0x", NULL});
        check_caught("simt_wrong_division", wave, (const char *[]){"lane 1 divides by zero", NULL});
    }
    test_sum(state);
}
#endif

static void test_race_shows(void **state) {
    (void)state;
    int32_t out[128];
    assert_int_equal(launch("simt_wrong_race", 32, 2, 64, NULL, out, 0), 0);
    assert_memory_not_equal(out, out + 64, 64 * sizeof *out);
}

static void test_limits(void **state) {
    (void)state;
    int32_t in[64] = {0}, out[64];
    const simt_test_args a = {.in = (uintptr_t)in, .out = (uintptr_t)out};
    const unsigned one[3] = {1, 1, 1}, none[3] = {1, 0, 1}, deep[3] = {1, 1, 65536}, wide[3] = {1u << 27, 1, 1};
    assert_int_not_equal(standin_launch("simt_sum", 32, one, 256, &a, sizeof a - 8, why, sizeof why), 0);
    assert_non_null(strstr(why, "bytes of arguments"));
    assert_int_not_equal(standin_launch("simt_sum", 32, one, 100, &a, sizeof a, why, sizeof why), 0);
    assert_non_null(strstr(why, "multiple of 64"));
    assert_int_not_equal(standin_launch("simt_sum", 32, one, 512, &a, sizeof a, why, sizeof why), 0);
    assert_int_not_equal(standin_launch("simt_sum", 32, none, 256, &a, sizeof a, why, sizeof why), 0);
    assert_int_not_equal(standin_launch("simt_sum", 32, deep, 256, &a, sizeof a, why, sizeof why), 0);
    assert_int_not_equal(standin_launch("simt_sum", 32, wide, 256, &a, sizeof a, why, sizeof why), 0);
    assert_int_not_equal(standin_launch("no_such", 32, one, 64, &a, sizeof a, why, sizeof why), 0);
    assert_int_not_equal(standin_launch("simt_sum", 16, one, 64, &a, sizeof a, why, sizeof why), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),           cmocka_unit_test(test_wave),       cmocka_unit_test(test_poison),
        cmocka_unit_test(test_wrong_kernels), cmocka_unit_test(test_race_shows), cmocka_unit_test(test_limits),
#ifndef __SANITIZE_ADDRESS__ /* which reports these by itself, and ends the process */
        cmocka_unit_test(test_traps),
#endif
    };
    return cmocka_run_group_tests_name("simt", tests, NULL, NULL);
}
