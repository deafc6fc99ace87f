/* The probe: executors that compute alike answer it alike, whatever the tier and the length of their steps; one wrong weight
 * shows, and where it began; numbers are compared by their bits, NaN with NaN. */
#include "check.h"

#include <math.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "exec/probe.h"
#include "tiny_gguf.h"

enum { PAGE = 16, N_PAGES = (PROBE_TOKENS + 15) / 16 };

typedef struct {
    gguf *file;
    exec *x;
} rig;

static void rig_open(rig *r, const char *path, int tier, uint32_t max_tok) {
    err e = {0};
    backend *b = NULL;
    cpu_options co = {.n_threads = 1, .tier = tier};
    exec_options eo = {.max_tok = max_tok,
                       .max_out = 1,
                       .n_pages = N_PAGES,
                       .page_tokens = PAGE,
                       .type_k = QUANT_F16,
                       .type_v = QUANT_Q8_0,
                       .passes = PASS_ALL};
    if (gguf_open(&r->file, path, &e) || cpu_backend_open(&b, &co, &e) ||
        exec_open(&r->x, r->file, &eo, &b, 1, NULL, NULL, &e))
        fail_msg("%s", e.text);
}

static void rig_close(rig *r) {
    exec_close(r->x);
    gguf_close(r->file);
}

static void ask(probe_answer *a, rig *r, uint32_t max_tok, uint32_t n_tok) {
    err e = {0};
    if (probe_ask(a, r->x, max_tok, n_tok, &e)) fail_msg("%s", e.text);
}

static void make(const char *arch, char path[TINY_PATH]) {
    tiny_shape s = tiny_shape_of(arch, QUANT_Q8_0);
    tiny_gguf_write(&s, path);
}

static void test_tiers_answer_alike(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        char path[TINY_PATH];
        make((const char *[]){"llama", "qwen3", "gemma3"}[i], path);
        rig x, y;
        rig_open(&x, path, TIER_SCALAR, PROBE_LONG);
        rig_open(&y, path, -1, 64);
        probe_answer a, b;
        ask(&a, &x, PROBE_LONG, 64);
        ask(&b, &y, 64, 64);
        static const uint32_t after[] = {32, 40, 41, 42, 43, 44, 64};
        assert_int_equal(a.n_steps, 7);
        assert_int_equal(b.n_steps, 7);
        assert_memory_equal(a.after, after, sizeof after);
        probe_difference d = probe_compare(&a, &b, 0, a.n_steps);
        assert_int_equal(d.n_values, 7 * TINY_VOCAB);
        assert_int_equal(d.n_differ, 0);
        assert_int_equal(probe_draws_differ(&a, &b), 0);
        for (int k = 0; k < PROBE_DRAWS; k++) assert_true(a.draw[k].id >= 0 && a.draw[k].logprob < 0.0f);
        uint64_t h[2], g[2];
        probe_hash(&a, h);
        probe_hash(&b, g);
        assert_memory_equal(h, g, sizeof h);
        b.draw[PROBE_DRAWS - 1].id ^= 1;
        assert_int_equal(probe_draws_differ(&a, &b), 1);
        probe_hash(&b, g);
        assert_memory_not_equal(h, g, sizeof h);
        int32_t layer = 7;
        err e;
        assert_int_equal(probe_first_layer(&a, x.x, y.x, &layer, &e), OK);
        assert_int_equal(layer, -1);
        probe_free(&a);
        probe_free(&b);
        rig_close(&x);
        rig_close(&y);
        unlink(path);
    }
}

/* Short steps and a small cache: fewer tokens, the same logits after as many. */
static void test_what_there_is_room_for(void **state) {
    (void)state;
    char path[TINY_PATH];
    make("llama", path);
    rig x;
    rig_open(&x, path, TIER_SCALAR, PROBE_LONG);
    probe_answer whole, cut, few;
    ask(&whole, &x, PROBE_LONG, PROBE_TOKENS);
    ask(&cut, &x, 1, PROBE_TOKENS);
    assert_int_equal(cut.n_steps, PROBE_TOKENS);
    assert_memory_equal(cut.logits + (size_t)(PROBE_TOKENS - 1) * cut.n_vocab,
                        whole.logits + (size_t)(whole.n_steps - 1) * whole.n_vocab, cut.n_vocab * sizeof(float));
    assert_int_equal(probe_draws_differ(&whole, &cut), 0);
    for (uint32_t n = 1; n < 10; n++) {
        ask(&few, &x, 5, n);
        assert_int_equal(few.after[few.n_steps - 1], n);
        assert_memory_equal(few.logits + (size_t)(few.n_steps - 1) * few.n_vocab,
                            cut.logits + (size_t)(n - 1) * cut.n_vocab, few.n_vocab * sizeof(float));
        probe_free(&few);
    }
    probe_free(&whole);
    probe_free(&cut);
    rig_close(&x);
    unlink(path);
}

static void check_poked(const char *tensor, int32_t wanted) {
    char path[TINY_PATH], poked[TINY_PATH];
    make("llama", path);
    make("llama", poked);
    const uint16_t scale = 0x4000; /* 2: of a block's 32 weights */
    tiny_gguf_poke(poked, tensor, 0, &scale, sizeof scale);
    rig x, y;
    rig_open(&x, path, TIER_SCALAR, PROBE_LONG);
    rig_open(&y, poked, TIER_SCALAR, PROBE_LONG);
    probe_answer a, b;
    ask(&a, &x, PROBE_LONG, PROBE_TOKENS);
    ask(&b, &y, PROBE_LONG, PROBE_TOKENS);
    probe_difference d = probe_compare(&a, &b, 0, a.n_steps);
    assert_true(d.n_differ > 0 && d.max_diff > 0.0 && d.first_after == 32);
    int32_t layer = 7;
    err e;
    assert_int_equal(probe_first_layer(&a, x.x, y.x, &layer, &e), OK);
    assert_int_equal(layer, wanted);
    probe_free(&a);
    probe_free(&b);
    rig_close(&x);
    rig_close(&y);
    unlink(path);
    unlink(poked);
}

static void test_one_wrong_weight_shows_where_it_began(void **state) {
    (void)state;
    check_poked("blk.0.attn_k.weight", 0);
    check_poked("blk.0.ffn_down.weight", 1);
    check_poked("blk.1.attn_v.weight", 1);
    check_poked("blk.1.ffn_down.weight", -1);
    check_poked("output.weight", -1);
}

static void test_bits_are_compared(void **state) {
    (void)state;
    float x[6] = {1.0f, 0.0f, NAN, NAN, INFINITY, 3.0f}, y[6] = {1.0f, -0.0f, -NAN, 2.0f, -INFINITY, 3.5f};
    probe_answer a = {.n_steps = 1, .after = {9}, .n_vocab = 6, .logits = x}, b = a;
    b.logits = y;
    probe_difference d = probe_compare(&a, &b, 0, 1);
    assert_int_equal(d.n_values, 6);
    assert_int_equal(d.n_differ, 4);
    assert_true(isinf(d.max_diff) && d.first_after == 9);
    x[3] = 2.0f, x[4] = -INFINITY;
    assert_true(probe_compare(&a, &b, 0, 1).max_diff == 0.5);
    memcpy(y, x, sizeof x);
    assert_int_equal(probe_compare(&a, &b, 0, 1).n_differ, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiers_answer_alike),
        cmocka_unit_test(test_what_there_is_room_for),
        cmocka_unit_test(test_one_wrong_weight_shows_where_it_began),
        cmocka_unit_test(test_bits_are_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
