#include "check.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "backend/cpu/pool.h"
#include "base/mem.h"

static void touch(void *ctx, uint32_t chunk, uint32_t worker) {
    (void)worker;
    ((uint32_t *)ctx)[chunk]++;
}

static void test_every_chunk_runs_once(void **state) {
    (void)state;
    for (uint32_t threads = 1; threads <= 7; threads += 2) {
        pool *p;
        err e;
        assert_int_equal(pool_open(&p, threads, &e), OK);
        uint32_t seen[100] = {0};
        for (uint32_t job = 0; job < 3000; job++) pool_run(p, touch, seen, 1 + job % 100);
        for (uint32_t i = 0; i < 100; i++) assert_int_equal(seen[i], 3000 / 100 * (100 - i));
        pool_close(p);
    }
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_an_idle_pool_uses_no_cpu(void **state) {
    (void)state;
    pool *p;
    err e;
    assert_int_equal(pool_open(&p, 4, &e), OK);
    uint32_t seen[8] = {0};
    pool_run(p, touch, seen, 8);
    usleep(50000);
    double before = cpu_seconds();
    usleep(300000);
    assert_true(cpu_seconds() - before < 0.01);
    pool_close(p);
}

static void test_a_job_allocates_nothing(void **state) {
    (void)state;
    pool *p;
    err e;
    assert_int_equal(pool_open(&p, 3, &e), OK);
    uint32_t seen[64] = {0};
    uint64_t before = mem_calls();
    for (int i = 0; i < 1000; i++) pool_run(p, touch, seen, 64);
    assert_int_equal(mem_calls(), before);
    pool_close(p);
}

static void test_open_reports_what_it_refuses(void **state) {
    (void)state;
    pool *p;
    err e;
    assert_int_equal(pool_open(&p, 0, &e), ERR_RANGE);
    assert_int_equal(pool_open(&p, POOL_MAX_THREADS + 1, &e), ERR_RANGE);
    for (uint64_t n = 1;; n++) {
        uint64_t live = mem_live();
        mem_fail_at(n);
        status s = pool_open(&p, 3, &e);
        bool fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        pool_close(p);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_chunk_runs_once),
        cmocka_unit_test(test_an_idle_pool_uses_no_cpu),
        cmocka_unit_test(test_a_job_allocates_nothing),
        cmocka_unit_test(test_open_reports_what_it_refuses),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
