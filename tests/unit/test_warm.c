/* Pages are brought in ahead of what is in use, without changing what stands there. */
#include "check.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "backend/cpu/warm.h"
#include "base/mem.h"

enum { MB = 1 << 20, BLOCK = 24 * MB };

static size_t resident(void *block) {
    static unsigned char seen[BLOCK / 4096];
    size_t n = 0;
    assert_int_equal(mincore(block, BLOCK, seen), 0);
    for (size_t i = 0; i < sizeof seen; i++) n += seen[i] & 1;
    return n * 4096;
}

static bool has_populate(void) {
    void *p = mem_map(4096);
    bool ok = madvise(p, 4096, 23 /* MADV_POPULATE_WRITE */) == 0;
    mem_unmap(p, 4096);
    return ok;
}

static void wait_for(warm *w, size_t n_bytes) {
    for (int i = 0; i < 2000 && warm_done(w) < n_bytes; i++) nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    assert_true(warm_done(w) >= n_bytes);
}

static void test_as_much_again_is_brought_in(void **state) {
    (void)state;
    if (!has_populate()) skip(); /* a kernel before 5.14 */
    char *block = mem_map(BLOCK);
    warm *w = warm_open(block, BLOCK);
    assert_non_null(w);
    assert_int_equal(resident(block), 0);
    block[5 * MB] = 7;
    warm_reach(w, 6 * MB);
    wait_for(w, 12 * MB);
    assert_true(resident(block) >= 12 * MB);
    assert_int_equal(warm_done(w), 12 * MB); /* and no more than that */
    warm_reach(w, 3 * MB);                   /* what was in use already */
    warm_reach(w, BLOCK + MB);               /* more than there is */
    wait_for(w, BLOCK);
    assert_int_equal(block[5 * MB], 7);
    for (size_t i = 0; i < BLOCK; i += 4096) assert_int_equal(block[i], i == 5 * MB ? 7 : 0);
    warm_close(w);
    mem_unmap(block, BLOCK);
}

static void test_closes_at_once(void **state) {
    (void)state;
    uint64_t live = mem_live();
    for (int i = 0; i < 20; i++) {
        char *block = mem_map(BLOCK);
        warm *w = warm_open(block, BLOCK);
        if (i & 1) warm_reach(w, BLOCK);
        warm_close(w);
        mem_unmap(block, BLOCK);
    }
    assert_int_equal(mem_live(), live);
}

static void test_small_blocks_are_left_alone(void **state) {
    (void)state;
    char *block = mem_map(MB);
    assert_null(warm_open(block, MB));
    warm_reach(NULL, MB);
    warm_close(NULL);
    mem_unmap(block, MB);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_much_again_is_brought_in),
        cmocka_unit_test(test_closes_at_once),
        cmocka_unit_test(test_small_blocks_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
