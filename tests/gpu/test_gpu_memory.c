/* The arena of a GPU's weights: best fit, alignment, neighbours joined, blocks where one cannot be had, every failure clean;
 * and the way up: what lands in device memory is what the file holds, packed, whatever the sizes. */
#include "../unit/check.h"

#include <unistd.h>

#include "../unit/tiny_gguf.h"
#include "backend/gpu/memory.h"
#include "backend/gpu/upload.h"
#include "base/mem.h"
#include "base/rng.h"
#include "fake_driver.h"

static gpu_list list;
static gpu_driver *driver;

static int open_list(void **state) {
    (void)state;
    fake_list_open(&list, 1, &(fake_options){.wave = 32, .memory = 64 << 20, .block_max = 8 << 20});
    driver = list.driver[0];
    return 0;
}

static int close_list(void **state) {
    (void)state;
    assert_int_equal(fake_counts_of(&list).live, 0);
    fake_list_close(&list);
    return 0;
}

static gpu_addr take(gpu_arena *a, uint64_t n, const char *name) {
    err e = {0};
    gpu_addr p;
    if (gpu_arena_take(a, n, name, &p, &e)) fail_msg("%s", e.text);
    assert_int_equal(p % GPU_ALIGN, 0);
    assert_string_equal(gpu_arena_name(a, p), name);
    return p;
}

static void test_best_fit(void **state) {
    (void)state;
    gpu_arena *a;
    err e = {0};
    assert_int_equal(gpu_arena_open(&a, driver, 0, 64 << 10, 0, &e), OK);
    gpu_addr p[5];
    static const uint64_t sizes[5] = {4096, 512, 8192, 1024, 300};
    for (int i = 0; i < 5; i++) p[i] = take(a, sizes[i], "piece");
    gpu_arena_drop(a, p[0]);
    gpu_arena_drop(a, p[3]);
    assert_null(gpu_arena_name(a, p[0]));
    gpu_addr small = take(a, 900, "small"); /* the piece of 1024, not that of 4096 */
    assert_int_equal(small, p[3]);
    gpu_arena_drop(a, p[1]); /* joins p[0]'s: 4608 side by side */
    assert_int_equal(take(a, 4500, "joined"), p[0]);
    gpu_arena_stats s = gpu_arena_get_stats(a);
    assert_int_equal(s.n_blocks, 1);
    assert_int_equal(s.n_pieces, 4);
    assert_int_equal(s.used + s.free, s.bytes);
    assert_true(s.largest_free <= s.free && s.fragmentation < 1.0);
    gpu_addr out;
    assert_int_equal(gpu_arena_take(a, 64 << 10, "too much", &out, &e), ERR_GPU_MEMORY);
    assert_non_null(strstr(e.text, "too much"));
    gpu_arena_close(a);
}

/* Random takes and drops against a list of who has what. */
static void test_random(void **state) {
    (void)state;
    enum { N = 64 };
    gpu_arena *a;
    err e = {0};
    gpu_addr at[N] = {0};
    uint64_t size[N] = {0};
    assert_int_equal(gpu_arena_open(&a, driver, 0, 256 << 10, 0, &e), OK);
    for (uint64_t round = 0; round < 4000; round++) {
        uint32_t i = (uint32_t)(rng_u64(1, round) % N);
        if (at[i]) {
            gpu_arena_drop(a, at[i]);
            at[i] = 0;
            continue;
        }
        size[i] = 1 + rng_u64(2, round) % 9000;
        if (gpu_arena_take(a, size[i], "x", &at[i], NULL)) at[i] = 0;
        for (uint32_t k = 0; k < N && at[i]; k++)
            if (k != i && at[k] && at[k] < at[i] + size[i] && at[i] < at[k] + size[k]) fail_msg("two pieces overlap");
    }
    for (uint32_t i = 0; i < N; i++) gpu_arena_drop(a, at[i]);
    gpu_arena_stats s = gpu_arena_get_stats(a);
    assert_int_equal(s.n_pieces, 0);
    assert_int_equal(s.largest_free, s.bytes); /* all joined again */
    assert_true(s.fragmentation == 0.0);
    gpu_arena_close(a);
}

static void test_several_blocks(void **state) {
    (void)state;
    gpu_arena *a;
    err e = {0};
    gpu_addr p;
    assert_int_equal(gpu_arena_open(&a, driver, 0, 20 << 20, 1 << 20, &e), OK); /* 8 MiB are the most at once */
    assert_int_equal(gpu_arena_get_stats(a).n_blocks, 4);
    for (int i = 0; i < 20; i++) assert_int_equal(gpu_arena_take(a, 1 << 20, "one", &p, &e), OK);
    gpu_arena_close(a);
    assert_int_equal(gpu_arena_open(&a, driver, 0, 200 << 20, 1 << 20, &e), ERR_GPU_MEMORY);
    assert_null(a);
    assert_int_equal(fake_counts_of(&list).live, 0);
}

/* --- the way up ---------------------------------------------------------------------------------------------------------- */

static void check_planes(const gpu_upload_weight *w) {
    const gpu_weight_planes *s = &w->planes;
    uint8_t *want[LINEAR_PLANES] = {0};
    for (uint32_t p = 0; p < LINEAR_PLANES; p++) want[p] = calloc(w->n_rows, s->stride[p] + 1);
    gpu_weight_pack_rows(s, want, w->t->data, w->n_rows);
    for (uint32_t p = 0; p < LINEAR_PLANES; p++) {
        if (s->stride[p]) assert_memory_equal((void *)(uintptr_t)w->at[p], want[p], w->n_rows * s->stride[p]);
        free(want[p]);
    }
}

static void test_upload(void **state) {
    (void)state;
    char path[TINY_PATH];
    gguf *file;
    gpu_arena *a;
    gpu_upload *u;
    pool *workers;
    err e = {0};
    gpu_upload_weight w[64];
    uint32_t n = 0;
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q6_K);
    tiny_gguf_write(&shape, path);
    assert_int_equal(gguf_open(&file, path, &e), OK);
    assert_int_equal(pool_open(&workers, 3, &e), OK);
    assert_int_equal(gpu_arena_open(&a, driver, 0, 4 << 20, 0, &e), OK);
    assert_int_equal(gpu_upload_open(&u, driver, 0, workers, 4096, 8192, &e), OK);
    for (size_t i = 0; i < gguf_n_tensors(file); i++) {
        const gguf_tensor *t = gguf_tensor_at(file, i);
        gpu_upload_weight *x = &w[n];
        *x = (gpu_upload_weight){.t = t, .vector = t->n_dims == 1, .n_rows = t->dim[1]};
        uint64_t at[LINEAR_PLANES] = {0}, n_bytes = t->dim[0] * 4;
        x->planes = (gpu_weight_planes){.type = t->type, .k = (uint32_t)t->dim[0], .row_bytes = (uint32_t)t->n_bytes};
        if (!x->vector) {
            assert_true(gpu_weight_shape(&x->planes, t->type, t->dim[0]));
            assert_true(gpu_weight_layout(&x->planes, x->n_rows, at, &n_bytes));
        }
        gpu_addr p = take(a, n_bytes, "w");
        for (uint32_t k = 0; k < LINEAR_PLANES; k++) x->at[k] = p + at[k];
        assert_int_equal(gpu_upload_add(u, x, &e), OK);
        n++;
    }
    gpu_upload_stats stats;
    assert_int_equal(gpu_upload_finish(u, &stats, &e), OK);
    for (uint32_t i = 0; i < n; i++) {
        if (w[i].vector)
            assert_memory_equal((void *)(uintptr_t)w[i].at[0], w[i].t->data, w[i].t->n_bytes); /* norms are f32 */
        else
            check_planes(&w[i]);
    }
    assert_true(stats.n_copies < n); /* neighbours went together */
    gpu_upload_close(u);
    gpu_arena_close(a);
    pool_close(workers);
    gguf_close(file);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_best_fit, open_list, close_list),
        cmocka_unit_test_setup_teardown(test_random, open_list, close_list),
        cmocka_unit_test_setup_teardown(test_several_blocks, open_list, close_list),
        cmocka_unit_test_setup_teardown(test_upload, open_list, close_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
