#include "check.h"

#include "base/fmath.h"
#include "base/rng.h"

#include <math.h>

static double at(double low, double high, int i) { return low + (high - low) * rng_unit(7, (uint64_t)i); }
static long double off(double got, long double want) { return fabsl(got - want) / fabsl(want); }

enum { N = 200000 };

/* The C library's long double is 64 bits of mantissa here: more exact than what is tested. */
static void test_exp_and_log(void **state) {
    (void)state;
    long double worst_exp = 0, worst_log = 0;
    for (int i = 0; i < N; i++) {
        const double wide = at(-708, 709, i), near = at(-1, 1, i);
        worst_exp = fmaxl(worst_exp, fmaxl(off(rf_exp(wide), expl(wide)), off(rf_exp(near), expl(near))));
        const double big = rf_exp(wide), one = at(0.5, 2, i), tiny = big * 0x1p-1000;
        worst_log = fmaxl(worst_log, fmaxl(off(rf_log(big), logl(big)), off(rf_log(one), logl(one))));
        if (tiny > 0) worst_log = fmaxl(worst_log, off(rf_log(tiny), logl(tiny)));
    }
    if (worst_exp > 3e-16L || worst_log > 3e-16L) fail_msg("exp %Lg log %Lg", worst_exp, worst_log);
}

static void test_sin_and_cos(void **state) {
    (void)state;
    long double worst = 0;
    const double range[] = {1e-3, 1, 10, 1e4, 1e7};
    for (int r = 0; r < 5; r++)
        for (int i = 0; i < N / 4; i++) {
            const double x = at(-range[r], range[r], i);
            worst = fmaxl(worst, fmaxl(off(rf_sin(x), sinl(x)), off(rf_cos(x), cosl(x))));
        }
    for (int n = 1; n < 6000000; n += 977) { /* where almost everything cancels: the doubles around multiples of pi/2 */
        const double x = (double)(n * 1.57079632679489661923132169163975144L);
        const double y = n & 1 ? rf_cos(x) : rf_sin(x);
        worst = fmaxl(worst, fabsl(y - (n & 1 ? cosl(x) : sinl(x))) / fmaxl(fabsl(y), 1e-10L) * 1e-3L);
        worst = fmaxl(worst, fabsl(1 - fabsl((long double)(n & 1 ? rf_sin(x) : rf_cos(x)))));
    }
    if (worst > 4e-16L) fail_msg("%Lg", worst);
}

static void test_pow(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) {
        const double x = at(1, 1e6, i), y = -at(0, 1, i + N);
        const long double want = powl(x, y), bound = (1 + fabsl(y * logl(x))) * 2.2e-16L;
        if (off(rf_pow(x, y), want) > bound) fail_msg("pow(%a, %a)", x, y);
    }
}

static void test_edges(void **state) {
    (void)state;
    assert_true(rf_exp(0) == 1 && rf_exp(-800) == 0 && isinf(rf_exp(710)) && isnan(rf_exp(NAN)));
    assert_true(rf_exp(-INFINITY) == 0 && isinf(rf_exp(INFINITY)) && rf_exp(-745.13) == 0x1p-1074);
    assert_true(rf_log(1) == 0 && isinf(rf_log(0)) && rf_log(0) < 0 && isnan(rf_log(-1)) && isnan(rf_log(NAN)));
    assert_true(isinf(rf_log(INFINITY)) && rf_log(INFINITY) > 0 && off(rf_log(0x1p-1074), logl(0x1p-1074)) < 3e-16L);
    assert_true(rf_sin(0) == 0 && rf_cos(0) == 1 && signbit(rf_sin(-0.0)));
    assert_true(isnan(rf_sin(1.1e7)) && isnan(rf_cos(-1.1e7)) && isnan(rf_sin(INFINITY)) && isnan(rf_cos(NAN)));
    assert_true(rf_pow(5, 0) == 1 && rf_pow(1, 1e300) == 1 && rf_pow(0, 2) == 0 && isnan(rf_pow(-2, 2)));
}

/* One number for the bits of many results: the same with every compiler, flag and machine. */
static void test_bits(void **state) {
    (void)state;
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        const double v[] = {rf_exp(at(-700, 700, i)), rf_log(at(0, 1e9, i)), rf_sin(at(-1e6, 1e6, i)),
                            rf_cos(at(-1e6, 1e6, i)), rf_pow(at(1, 1e6, i), at(-1, 1, i + 1))};
        for (int k = 0; k < 5; k++) {
            uint64_t bits;
            memcpy(&bits, &v[k], sizeof bits);
            sum = (sum ^ bits) * 0x100000001b3u;
        }
    }
    if (sum != UINT64_C(0x755602b32a64b866)) fail_msg("%016llx", (unsigned long long)sum);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_and_log), cmocka_unit_test(test_sin_and_cos), cmocka_unit_test(test_pow),
        cmocka_unit_test(test_edges),       cmocka_unit_test(test_bits),
    };
    return cmocka_run_group_tests_name("fmath", tests, NULL, NULL);
}
