#include "check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "server/ring.h"

#include <pthread.h>
#include <sched.h>

enum { RING = 256, MOST = 100 };

/* Record number i: its number, then so many bytes of a pattern that i alone decides. */
static size_t make(uint32_t i, uint8_t *out) {
    const size_t n = rng_u64(7, i) % 50 == 0 ? 4 * RING : rng_u64(8, i) % MOST;
    memcpy(out, &i, sizeof i);
    for (size_t k = 0; k < n; k++) out[sizeof i + k] = (uint8_t)(i * 31 + k);
    return sizeof i + n;
}

static bool put(ring *r, uint32_t i, bool last) {
    uint8_t b[4 + 4 * RING];
    const size_t n = make(i, b), cut = n / 2;
    const ring_part part[] = {{b, cut}, {NULL, 0}, {b + cut, n - cut}};
    if (!last) return ring_put(r, part, 3);
    ring_put_last(r, part, 3);
    return true;
}

static bool take(ring *r, uint32_t i) {
    uint8_t want[4 + 4 * RING];
    size_t n, n_want = make(i, want);
    const void *got = ring_next(r, &n);
    if (!got) return false;
    assert_int_equal((uintptr_t)got % 8, 0);
    assert_int_equal(n, n_want);
    assert_memory_equal(got, want, n);
    return true;
}

/* Every mix of putting and taking keeps the order, whether a record found room in the ring or not. */
static void test_order(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        ring *r = ring_new(RING, 1, 4 + 4 * RING);
        uint32_t in = 0, out = 0;
        for (int step = 0; step < 300; step++) {
            if (rng_u64(seed, (uint64_t)step) % 5 < 2)
                assert_true(put(r, in++, false));
            else
                assert_int_equal(take(r, out), out < in), out += out < in;
        }
        put(r, in++, true);
        while (out < in) assert_true(take(r, out++));
        assert_false(take(r, out));
        ring_free(r);
    }
    assert_int_equal(mem_live(), 0);
}

enum { N_THREADED = 200000 };

static void *putter(void *arg) {
    for (uint32_t i = 0; i < N_THREADED; i++) {
        assert_true(put(arg, i, false));
        if (i % 4096 == 0) sched_yield();
    }
    put(arg, N_THREADED, true);
    return NULL;
}

static void test_two_threads(void **state) {
    (void)state;
    ring *r = ring_new(1024, 1, 4 + 4 * RING);
    pthread_t t;
    pthread_create(&t, NULL, putter, r);
    for (uint32_t i = 0; i <= N_THREADED;)
        if (take(r, i))
            i++;
        else
            sched_yield();
    pthread_join(t, NULL);
    assert_false(take(r, 0));
    ring_free(r);
    assert_int_equal(mem_live(), 0);
}

/* While there is room nothing is allocated; a full ring without memory loses a record and says so; the last ones never. */
static void test_memory(void **state) {
    (void)state;
    ring *r = ring_new(RING, 2, 64);
    const uint64_t calls = mem_calls();
    uint64_t word = 0;
    const ring_part part = {&word, sizeof word};
    for (; word < 1000; word++) {
        size_t n;
        assert_true(ring_put(r, &part, 1));
        assert_int_equal(*(const uint64_t *)ring_next(r, &n), word);
    }
    size_t n;
    assert_null(ring_next(r, &n));
    assert_int_equal(mem_calls(), calls);
    for (word = 0; word < RING / 16; word++) assert_true(ring_put(r, &part, 1));
    mem_fail_at(1);
    assert_false(ring_put(r, &part, 1));
    ring_put_last(r, &part, 1);
    ring_put_last(r, &part, 1);
    mem_fail_off();
    for (uint64_t i = 0; i < RING / 16 + 2; i++) {
        const uint64_t *got = ring_next(r, &n);
        assert_non_null(got);
        assert_int_equal(*got, i < RING / 16 ? i : RING / 16);
    }
    assert_null(ring_next(r, &n));
    ring_free(r);
    for (uint64_t fail = 1;; fail++) { /* half-built ones are freed */
        mem_fail_at(fail);
        r = ring_new(RING, 2, 64);
        const bool fired = mem_fail_off();
        assert_int_equal(r == NULL, fired);
        ring_free(r);
        assert_int_equal(mem_live(), 0);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_two_threads),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
