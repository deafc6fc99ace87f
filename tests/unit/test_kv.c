#include "check.h"

#include "base/mem.h"
#include "base/rng.h"
#include "kv/kv.h"

/* The drawing of kv.h, by hand: 2 heads, d_k 64, d_v 32, pages of 16. */
static void test_layout_is_as_drawn(void **state) {
    (void)state;
    static const struct {
        quant_type k, v;
        size_t k_scales, v_at, v_scales, head;
    } want[] = {
        {QUANT_F32, QUANT_F32, 4096, 4096, 4096 + 2048, 4096 + 2048},
        {QUANT_F16, QUANT_F16, 2048, 2048, 2048 + 1024, 2048 + 1024},
        {QUANT_Q8_0, QUANT_Q8_0, 1024, 1024 + 64, 1024 + 64 + 512, 1024 + 64 + 512 + 64},
        {QUANT_Q4_0, QUANT_BF16, 512, 512 + 64, 512 + 64 + 1024, 512 + 64 + 1024},
        {QUANT_Q8_0, QUANT_F16, 1024, 1024 + 64, 1024 + 64 + 1024, 1024 + 64 + 1024},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        kv_layer layer[2] = {{.n_kv_head = 2, .d_k = 64, .d_v = 32}, {.n_kv_head = 2, .d_k = 64, .d_v = 32}};
        kv_layout l = {layer, 2, 16, 5, want[i].k, want[i].v, 0, 0};
        err e = {0};
        assert_int_equal(kv_layout_make(&l, &e), OK);
        assert_int_equal(layer[1].k_scales, want[i].k_scales);
        assert_int_equal(layer[1].v, want[i].v_at);
        assert_int_equal(layer[1].v_scales, want[i].v_scales);
        assert_int_equal(layer[1].head_bytes, want[i].head);
        assert_int_equal(layer[0].offset, 0);
        assert_int_equal(layer[1].offset, 2 * want[i].head);
        assert_int_equal(l.page_bytes, 2 * 2 * want[i].head);
        assert_int_equal(l.n_bytes, 2 * 5 * 2 * want[i].head);
    }
}

/* Whatever the sizes: parts are aligned, large enough and do not overlap. */
static void test_parts_never_overlap(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_Q4_0, QUANT_BF16};
    static const size_t quarter_bytes[] = {16, 8, 4, 2, 8};
    for (uint64_t i = 0; i < 3000; i++) {
        kv_layer layer[3];
        size_t a = rng_u64(1, 8 * i) % 5, b = rng_u64(1, 8 * i + 1) % 5;
        bool scales_k = kv_has_scales(types[a]), scales_v = kv_has_scales(types[b]);
        for (uint32_t k = 0; k < 3; k++) {
            uint64_t r = rng_u64(2, 8 * i + k);
            uint32_t d_k = 1 + (uint32_t)(r >> 8) % 300, d_v = 1 + (uint32_t)(r >> 24) % 300;
            layer[k] = (kv_layer){
                .n_kv_head = 1 + (uint32_t)r % 9, .d_k = scales_k ? d_k * 32 : d_k, .d_v = scales_v ? d_v * 32 : d_v};
        }
        uint32_t tokens = 16u << rng_u64(3, i) % 3, n_pages = 1 + (uint32_t)(rng_u64(4, i) % 50);
        kv_layout l = {layer, 3, tokens, n_pages, types[a], types[b], 0, 0};
        err e = {0};
        assert_int_equal(kv_layout_make(&l, &e), OK);
        size_t end = 0;
        for (uint32_t k = 0; k < 3; k++) {
            const kv_layer *y = &layer[k];
            size_t k_codes = (size_t)tokens * y->d_k * quarter_bytes[a] / 4,
                   k_sc = scales_k ? tokens * (y->d_k / 32) * 2 : 0;
            size_t v_codes = (size_t)tokens * y->d_v * quarter_bytes[b] / 4,
                   v_sc = scales_v ? tokens * (y->d_v / 32) * 2 : 0;
            assert_true(y->k_scales >= k_codes && y->v >= y->k_scales + k_sc && y->v_scales >= y->v + v_codes);
            assert_true(y->head_bytes >= y->v_scales + v_sc);
            assert_int_equal((y->k_scales | y->v | y->v_scales | y->head_bytes | y->offset) % 64, 0);
            assert_int_equal(y->offset, end);
            end += y->head_bytes * y->n_kv_head;
        }
        assert_int_equal(l.page_bytes, end);
        assert_int_equal(l.n_bytes, end * n_pages);
    }
}

static void test_layout_names_what_it_refuses(void **state) {
    (void)state;
    static const struct {
        kv_layer layer;
        uint32_t page_tokens, n_pages;
        quant_type k, v;
        status want;
        const char *names;
    } bad[] = {
        {{.n_kv_head = 1, .d_k = 48, .d_v = 32}, 16, 1, QUANT_Q8_0, QUANT_F32, ERR_UNSUPPORTED, "48"},
        {{.n_kv_head = 1, .d_k = 32, .d_v = 80}, 16, 1, QUANT_F32, QUANT_Q8_0, ERR_UNSUPPORTED, "80"},
        {{.n_kv_head = 1, .d_k = 32, .d_v = 32}, 16, 1, QUANT_Q4_1, QUANT_F32, ERR_UNSUPPORTED, "Q4_1"},
        {{.n_kv_head = 1, .d_k = 32, .d_v = 32}, 16, 1, QUANT_F32, QUANT_Q4_K, ERR_UNSUPPORTED, "Q4_K"},
        {{.n_kv_head = 1, .d_k = 32, .d_v = 32}, 24, 1, QUANT_F32, QUANT_F32, ERR_RANGE, "24"},
        {{.n_kv_head = 1, .d_k = 32, .d_v = 32}, 16, 0, QUANT_F32, QUANT_F32, ERR_RANGE, "without pages"},
        {{.n_kv_head = 0, .d_k = 32, .d_v = 32}, 16, 1, QUANT_F32, QUANT_F32, ERR_RANGE, "layer 0"},
        {{.n_kv_head = 1, .d_k = 0, .d_v = 32}, 16, 1, QUANT_F32, QUANT_F32, ERR_RANGE, "key"},
        {{.n_kv_head = 1, .d_k = 32, .d_v = 1 << 30}, 16, 1, QUANT_F32, QUANT_F32, ERR_RANGE, "value"},
        {{.n_kv_head = 65536, .d_k = 1 << 20, .d_v = 1 << 20},
         64,
         UINT32_MAX,
         QUANT_F32,
         QUANT_F32,
         ERR_RANGE,
         "too large"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kv_layer layer = bad[i].layer;
        kv_layout l = {&layer, 1, bad[i].page_tokens, bad[i].n_pages, bad[i].k, bad[i].v, 0, 0};
        err e = {0};
        assert_int_equal(kv_layout_make(&l, &e), bad[i].want);
        if (!strstr(e.text, bad[i].names)) fail_msg("\"%s\" does not name %s", e.text, bad[i].names);
    }
    kv_layout l = {NULL, KV_MAX_LAYERS + 1, 16, 1, QUANT_F32, QUANT_F32, 0, 0};
    err e = {0};
    assert_int_equal(kv_layout_make(&l, &e), ERR_RANGE);
}

static void test_pool_takes_shares_drops(void **state) {
    (void)state;
    kv_pool *p = kv_pool_new(3);
    uint32_t a = 9, b = 9, c = 9, d = 9;
    assert_true(kv_pool_take(p, &a) && kv_pool_take(p, &b) && kv_pool_take(p, &c));
    assert_true(a == 0 && b == 1 && c == 2 && !kv_pool_take(p, &d) && kv_pool_n_free(p) == 0);
    kv_pool_share(p, b);
    kv_pool_drop(p, b);
    assert_int_equal(kv_pool_n_free(p), 0); /* still held once */
    kv_pool_drop(p, b);
    assert_true(kv_pool_n_free(p) == 1 && kv_pool_take(p, &d) && d == b);
    kv_pool_free(p);
    kv_pool_free(NULL);
    p = kv_pool_new(0);
    assert_false(kv_pool_take(p, &a));
    kv_pool_free(p);
}

/* Against a plain count of holders, for a long random history. */
static void test_pool_against_a_model(void **state) {
    (void)state;
    enum { N = 37 };
    uint32_t holders[N] = {0}, n_free = N;
    kv_pool *p = kv_pool_new(N);
    for (uint64_t i = 0; i < 200000; i++) {
        uint32_t page = (uint32_t)(rng_u64(7, 2 * i) % N), what = (uint32_t)(rng_u64(7, 2 * i + 1) % 3);
        if (what == 0) {
            bool got = kv_pool_take(p, &page);
            assert_int_equal(got, n_free > 0);
            if (!got) continue;
            assert_true(page < N && holders[page] == 0);
            holders[page] = 1;
            n_free--;
        } else if (holders[page] && what == 1) {
            kv_pool_share(p, page);
            holders[page]++;
        } else if (holders[page]) {
            kv_pool_drop(p, page);
            n_free += --holders[page] == 0;
        }
        assert_int_equal(kv_pool_n_free(p), n_free);
    }
    kv_pool_free(p);
}

static uint32_t told[64], n_told;
static void tell(void *ctx, uint32_t page, bool lone) {
    (void)ctx;
    told[n_told++] = page * 2 + lone;
}

static void test_pool_tells_who_is_alone(void **state) {
    (void)state;
    kv_pool *p = kv_pool_new(2);
    uint32_t a = 0, b = 0;
    kv_pool_watch(p, tell, NULL);
    assert_true(kv_pool_take(p, &a) && kv_pool_take(p, &b) && n_told == 0);
    kv_pool_share(p, b); /* no longer alone; a third holder is no news */
    kv_pool_share(p, b);
    kv_pool_drop(p, b);
    assert_true(n_told == 1 && told[0] == b * 2);
    kv_pool_drop(p, b);
    assert_true(n_told == 2 && told[1] == b * 2 + 1 && kv_pool_n_holders(p, b) == 1);
    kv_pool_drop(p, b);
    kv_pool_watch(p, NULL, NULL);
    kv_pool_share(p, a);
    assert_int_equal(n_told, 2);
    kv_pool_free(p);
}

static void test_use_of_memory(void **state) {
    (void)state;
    kv_use u = kv_use_of(100, 10, 16, 120); /* 160 slots are taken, 1600 there are */
    assert_true(u.fragmentation == 0.25 && u.efficiency == 0.075);
    u = kv_use_of(100, 0, 16, 0);
    assert_true(u.fragmentation == 0 && u.efficiency == 0);
    u = kv_use_of(4, 4, 16, 64);
    assert_true(u.fragmentation == 0 && u.efficiency == 1);
    u = kv_use_of(0, 0, 16, 0);
    assert_true(u.fragmentation == 0 && u.efficiency == 0);
}

static void test_pool_survives_oom(void **state) {
    (void)state;
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        mem_fail_at(n);
        kv_pool *p = kv_pool_new(100);
        bool fired = mem_fail_off();
        assert_true(fired == (p == NULL));
        kv_pool_free(p);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout_is_as_drawn),           cmocka_unit_test(test_parts_never_overlap),
        cmocka_unit_test(test_layout_names_what_it_refuses), cmocka_unit_test(test_pool_takes_shares_drops),
        cmocka_unit_test(test_pool_against_a_model),         cmocka_unit_test(test_pool_survives_oom),
        cmocka_unit_test(test_pool_tells_who_is_alone),      cmocka_unit_test(test_use_of_memory),
    };
    return cmocka_run_group_tests_name("kv", tests, NULL, NULL);
}
