/* Whole (tiny) models on the GPU backend, its kernels in the interpreter: the logits are the CPU reference's, bit for bit,
 * however a list is cut and mixed with others, whatever was captured, on one device or layers on several and on the CPU.
 * Every call of the runtime may fail: the error comes back clean and nothing is kept. */
#include "../unit/check.h"

#include <unistd.h>

#include "../unit/heap_calls.h"
#include "../unit/tiny_gguf.h"
#include "backend/cpu/cpu.h"
#include "backend/gpu/code.h"
#include "backend/gpu/gpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "fake_driver.h"

enum { PAGE = 16, N_PAGES = 64, N_SEQ = 4, LONG = 150, MAX_TOK = 96 };
static const uint32_t lengths[N_SEQ] = {LONG, 70, 33, 1};

typedef struct {
    unsigned wave;
    quant_type type_k, type_v;
    uint32_t max_tok, n_gpus; /* n_gpus 0: the CPU alone, which is the reference */
    bool no_graphs, with_cpu; /* with_cpu: behind the GPUs */
    uint32_t first_layers;    /* layers that the first device has; the rest is the next one's */
} setting;

static setting plain(void) {
    return (setting){.wave = 32, .type_k = QUANT_F16, .type_v = QUANT_F16, .max_tok = MAX_TOK, .n_gpus = 1};
}

typedef struct {
    gpu_list list;
    gguf *file;
    exec *x;
    backend *gpu[2];
    setting set;
    uint64_t dice;
} rig;

static uint32_t choose_by_layer(void *ctx, const node *n) {
    const rig *r = ctx;
    bool last = n->rows == ROWS_OUT || n->layer >= (int32_t)r->set.first_layers;
    return last ? 1 : 0;
}

static status open_backends(rig *r, backend *b[3], uint32_t *n, err *e) {
    status s = OK;
    gpu_options go = {.list = &r->list, .n_threads = 2, .no_graphs = r->set.no_graphs};
    cpu_options co = {.n_threads = 1, .tier = TIER_SCALAR};
    for (*n = 0; !s && *n < r->set.n_gpus; *n += !s) {
        go.device = *n;
        s = gpu_backend_open(&b[*n], &go, e);
        r->gpu[*n] = b[*n];
    }
    if (!s && (r->set.with_cpu || !r->set.n_gpus) && !(s = cpu_backend_open(&b[*n], &co, e))) ++*n;
    for (uint32_t i = 0; s && i < *n; i++) b[i]->ops->close(b[i]);
    return s;
}

/* The list was opened by the caller. */
static status rig_try(rig *r, const char *path, setting set, err *e) {
    backend *b[3];
    uint32_t n = 0;
    r->set = set, r->dice = 1, r->x = NULL, r->file = NULL;
    status s = gguf_open(&r->file, path, e);
    if (!s) s = open_backends(r, b, &n, e);
    exec_options eo = {.max_tok = set.max_tok,
                       .max_out = set.max_tok,
                       .n_pages = N_PAGES,
                       .page_tokens = PAGE,
                       .type_k = set.type_k,
                       .type_v = set.type_v,
                       .passes = PASS_ALL,
                       .hidden = true,
                       .choose = n > 1 ? choose_by_layer : NULL,
                       .choose_ctx = r};
    return s ? s : exec_open(&r->x, r->file, &eo, b, n, NULL, NULL, e);
}

static void rig_open(rig *r, const char *path, setting set) {
    err e = {0};
    fake_list_open(&r->list, 2, &(fake_options){.wave = set.wave});
    if (rig_try(r, path, set, &e)) fail_msg("%s", e.text);
}

static void rig_close(rig *r) {
    exec_close(r->x);
    gguf_close(r->file);
    assert_int_equal(fake_counts_of(&r->list).live, 0);
    fake_list_close(&r->list);
}

static int32_t token_at(uint32_t seq, uint32_t pos) { return (int32_t)(rng_u64(77 + seq, pos) % TINY_VOCAB); }

/* --- running ----------------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t token[MAX_TOK], pos[MAX_TOK], out_row[MAX_TOK];
    uint32_t seq[MAX_TOK], which[N_SEQ];
    exec_seq seqs[N_SEQ];
    exec_batch b;
} batch;

static void batch_start(batch *t) {
    t->b = (exec_batch){.token = t->token, .pos = t->pos, .seq = t->seq, .out_row = t->out_row, .seqs = t->seqs};
}

static void batch_add(batch *t, uint32_t list, const uint32_t *pages, uint32_t from, uint32_t n, bool all) {
    t->seqs[t->b.n_seq] = (exec_seq){.pages = pages};
    t->which[t->b.n_seq] = list;
    for (uint32_t i = 0; i < n; i++) {
        t->token[t->b.n_tok] = token_at(list, from + i);
        t->pos[t->b.n_tok] = (int32_t)(from + i);
        t->seq[t->b.n_tok] = t->b.n_seq;
        if (all || i + 1 == n) t->out_row[t->b.n_out++] = (int32_t)t->b.n_tok;
        t->b.n_tok++;
    }
    t->b.n_seq++;
}

static void must_step(rig *r, batch *t) {
    err e = {0};
    if (exec_step(r->x, &t->b, &e)) fail_msg("%s", e.text);
}

static uint32_t dice(rig *r, uint32_t n) { return (uint32_t)(rng_u64(5, r->dice++) % n); }

typedef struct {
    float *row[N_SEQ]; /* [length][TINY_VOCAB] */
} logits;

static void logits_free(logits *l) {
    for (uint32_t s = 0; s < N_SEQ; s++) free(l->row[s]);
}

static logits reference(const char *path, setting set) {
    rig r;
    set.n_gpus = 0;
    rig_open(&r, path, set);
    logits l;
    batch t;
    uint32_t pages[N_PAGES];
    for (uint32_t i = 0; i < N_PAGES; i++) pages[i] = i;
    for (uint32_t s = 0; s < N_SEQ; s++) {
        l.row[s] = malloc(lengths[s] * TINY_VOCAB * sizeof(float));
        for (uint32_t pos = 0, n; pos < lengths[s]; pos += n) {
            n = lengths[s] - pos < MAX_TOK ? lengths[s] - pos : MAX_TOK;
            batch_start(&t);
            batch_add(&t, s, pages, pos, n, true);
            must_step(&r, &t);
            for (uint32_t i = 0; i < n; i++)
                memcpy(l.row[s] + (pos + i) * TINY_VOCAB, exec_logits(r.x, i), TINY_VOCAB * sizeof(float));
        }
    }
    rig_close(&r);
    return l;
}

static void compare(const rig *r, const batch *t, const logits *want, const char *what) {
    for (uint32_t i = 0; i < t->b.n_out; i++) {
        uint32_t row = (uint32_t)t->out_row[i], list = t->which[t->seq[row]], pos = (uint32_t)t->pos[row];
        const float *is = exec_logits(r->x, i), *must = want->row[list] + (size_t)pos * TINY_VOCAB;
        for (uint32_t v = 0; v < TINY_VOCAB; v++)
            if (memcmp(&is[v], &must[v], sizeof *is) != 0)
                fail_msg("%s: step of %u tokens, list %u, position %u, token %u: %a, the CPU says %a", what, t->b.n_tok,
                         list, pos, v, (double)is[v], (double)must[v]);
    }
}

static void check_mixed(rig *r, const logits *want, const char *what) {
    uint32_t pages[N_SEQ][N_PAGES / N_SEQ], done[N_SEQ] = {0};
    batch t;
    for (uint32_t i = 0; i < N_PAGES; i++) pages[i % N_SEQ][i / N_SEQ] = (i * 7 + 3) % N_PAGES;
    for (uint32_t left = N_SEQ; left;) {
        batch_start(&t);
        for (uint32_t i = 0; i < N_SEQ; i++) {
            uint32_t s = (i + (uint32_t)r->dice) % N_SEQ, rest = lengths[s] - done[s],
                     room = r->set.max_tok - t.b.n_tok;
            if (!rest || !room || dice(r, 4) == 0) continue;
            uint32_t n = dice(r, 3) ? 1 + dice(r, 2) : 1 + dice(r, 60);
            n = n < rest ? n : rest;
            n = n < room ? n : room;
            batch_add(&t, s, pages[s], done[s], n, dice(r, 3) > 0);
            done[s] += n;
            left -= done[s] == lengths[s];
        }
        if (!t.b.n_tok) continue;
        must_step(r, &t);
        compare(r, &t, want, what);
    }
}

static void check_setting(const char *path, setting set, const logits *want, const char *what) {
    rig r;
    rig_open(&r, path, set);
    check_mixed(&r, want, what);
    rig_close(&r);
}

static void check_shape(const tiny_shape *shape, setting set) {
    char path[TINY_PATH], what[100];
    tiny_gguf_write(shape, path);
    logits want = reference(path, set);
    for (set.wave = 32; set.wave <= 64; set.wave += 32) {
        snprintf(what, sizeof what, "%s %s, waves of %u", shape->arch, quant_lookup(shape->type)->name, set.wave);
        check_setting(path, set, &want, what);
    }
    logits_free(&want);
    unlink(path);
}

/* --- bits -------------------------------------------------------------------------------------------------------------- */

static void test_first(void **state) {
    (void)state;
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    setting set = plain();
    set.no_graphs = true;
    check_shape(&shape, set);
}

static void test_weight_types(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1,
                                       QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_K, QUANT_Q3_K,
                                       QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i += check_sanitized() ? 5 : 1) {
        tiny_shape shape = tiny_shape_of("llama", types[i]);
        check_shape(&shape, plain());
    }
    tiny_shape mix = tiny_shape_of("llama", QUANT_Q4_K);
    mix.type_v = QUANT_Q6_K;
    check_shape(&mix, plain());
}

static void test_archs(void **state) {
    (void)state;
    static const char *const archs[] = {"qwen3", "gemma3"};
    for (size_t i = 0; i < 2; i++) {
        tiny_shape shape = tiny_shape_of(archs[i], QUANT_Q8_0);
        if (i) shape.window = 40;
        check_shape(&shape, plain());
    }
}

static void test_experts(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F16, QUANT_Q8_0, QUANT_Q4_K};
    for (size_t i = 0; i < (check_sanitized() ? 1 : 3); i++) {
        tiny_shape shape = tiny_shape_of("llama", types[i]);
        shape.n_expert = 5, shape.n_used = 2;
        check_shape(&shape, plain());
    }
}

static void test_cache_types(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0};
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    for (uint32_t k = 0; k < 3; k++) {
        setting set = plain();
        set.type_k = types[k], set.type_v = types[(k + 2) % 3];
        check_shape(&shape, set);
    }
}

/* --- several devices ---------------------------------------------------------------------------------------------------- */

static void test_devices(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_1);
    tiny_gguf_write(&shape, path);
    setting set = plain();
    logits want = reference(path, set);
    for (uint32_t i = 0; i < 4; i++) {
        set.n_gpus = i < 2 ? 2 : 1, set.with_cpu = i >= 2, set.first_layers = i % 2;
        check_setting(path, set, &want, i < 2 ? "two GPUs" : "a GPU and the CPU");
    }
    logits_free(&want);
    unlink(path);
}

/* --- steps --------------------------------------------------------------------------------------------------------------- */

static void one_token(rig *r, uint32_t pos) {
    static const uint32_t pages[N_PAGES] = {3, 1, 4, 15, 9, 2, 6, 5};
    batch t;
    batch_start(&t);
    batch_add(&t, 0, pages, pos, 1, true);
    must_step(r, &t);
}

/* Replayed steps: one copy up, one graph, results down, one wait; nothing allocated by us. */
static void test_step_costs(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    rig r;
    rig_open(&r, path, plain());
    one_token(&r, 0);
    gpu_counters before = gpu_backend_counters(r.gpu[0]);
    fake_counts f0 = fake_counts_of(&r.list);
    uint64_t calls = mem_calls();
    for (uint32_t pos = 1; pos < 20; pos++) one_token(&r, pos);
    gpu_counters after = gpu_backend_counters(r.gpu[0]);
    fake_counts f1 = fake_counts_of(&r.list);
    assert_int_equal(mem_calls(), calls);
    assert_int_equal(f1.allocs, f0.allocs);
    assert_int_equal(f1.waits - f0.waits, 19);
    assert_int_equal(after.syncs - before.syncs, 19);
    assert_int_equal(after.copies_in - before.copies_in, 19);
    assert_int_equal(after.graph_launches - before.graph_launches, 19);
    assert_int_equal(after.launches, before.launches);
    print_message("launches of a token, 2 layers: %llu; bytes up %llu, down %llu\n",
                  (unsigned long long)before.launches, (unsigned long long)(after.bytes_in - before.bytes_in) / 19,
                  (unsigned long long)(after.bytes_out - before.bytes_out) / 19);
    rig_close(&r);
    unlink(path);
}

static void test_capture_fails(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    setting set = plain();
    logits want = reference(path, set);
    for (uint64_t n = 1; n <= 2; n++) {
        rig r;
        strbuf text = {0};
        rig_open(&r, path, set);
        fake_fail_at(&r.list, FAKE_CAPTURE, n);
        check_mixed(&r, &want, "without capture");
        assert_true(fake_fail_off(&r.list));
        r.gpu[0]->ops->describe(r.gpu[0], &text);
        assert_non_null(strstr(text.p, "graphs off (capture failed"));
        strbuf_free(&text);
        rig_close(&r);
    }
    logits_free(&want);
    unlink(path);
}

static void test_pages(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    rig g, c;
    setting set = plain();
    rig_open(&g, path, set);
    set.n_gpus = 0;
    rig_open(&c, path, set);
    for (uint32_t pos = 0; pos < 20; pos++) one_token(&g, pos), one_token(&c, pos);
    size_t n = exec_page_bytes(g.x);
    assert_int_equal(n, exec_page_bytes(c.x));
    uint8_t *a = malloc(n), *b = malloc(n);
    err e = {0};
    assert_int_equal(exec_page_read(g.x, 3, a, &e), OK);
    assert_int_equal(exec_page_read(c.x, 3, b, &e), OK);
    assert_memory_equal(a, b, n);
    assert_int_equal(exec_page_copy(g.x, 20, 3, &e), OK);
    assert_int_equal(exec_page_write(g.x, 21, b, &e), OK);
    for (uint32_t page = 20; page < 22; page++) {
        assert_int_equal(exec_page_read(g.x, page, a, &e), OK);
        assert_memory_equal(a, b, n);
    }
    free(a);
    free(b);
    rig_close(&g);
    rig_close(&c);
    unlink(path);
}

/* --- faults -------------------------------------------------------------------------------------------------------------- */

/* Call n fails, for every n, from open to the second step. */
static void every_fault(const char *path, fake_call what) {
    for (uint64_t n = 1;; n++) {
        rig r;
        err e = {0};
        setting set = plain();
        fake_list_open(&r.list, 1, &(fake_options){.wave = 32});
        fake_fail_at(&r.list, what, n);
        status s = rig_try(&r, path, set, &e);
        static const uint32_t pages[N_PAGES] = {1, 2, 3};
        for (uint32_t pos = 0; !s && pos < 2; pos++) {
            batch t;
            batch_start(&t);
            batch_add(&t, 0, pages, pos, 1, true);
            s = exec_step(r.x, &t.b, &e);
        }
        bool fired = fake_fail_off(&r.list);
        rig_close(&r);
        if (!fired) return;
        if (s && !e.text[0]) fail_msg("fault %llu: no reason given", (unsigned long long)n);
        if (!s && what != FAKE_ANY) fail_msg("fault %llu of kind %d went unseen", (unsigned long long)n, (int)what);
    }
}

static void test_faults(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    every_fault(path, FAKE_COPY);
    every_fault(path, FAKE_ANY);
    unlink(path);
}

/* Our own allocations, one after the other. */
static void test_no_memory(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        rig r;
        err e = {0};
        fake_list_open(&r.list, 1, &(fake_options){.wave = 32});
        mem_fail_at(n);
        status s = rig_try(&r, path, plain(), &e);
        bool fired = mem_fail_off();
        rig_close(&r);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
        assert_int_equal(s, ERR_NOMEM);
    }
    unlink(path);
}

static void test_memory_refused(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    rig r;
    err e = {0};
    fake_list_open(&r.list, 1, &(fake_options){.wave = 32, .memory = 32 << 20});
    assert_int_equal(rig_try(&r, path, plain(), &e), ERR_GPU_MEMORY);
    assert_non_null(strstr(e.text, "as a margin"));
    rig_close(&r);
    unlink(path);
}

int main(int argc, char **argv) { /* argv[1]: only tests of this name, * for any text */
    const char *target;
    if (!gpu_code_covers("gfx1100", &target)) {
        printf("skipped: this build has no code for gfx1100 (gpu_targets)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first),          cmocka_unit_test(test_step_costs),
        cmocka_unit_test(test_pages),          cmocka_unit_test(test_weight_types),
        cmocka_unit_test(test_archs),          cmocka_unit_test(test_experts),
        cmocka_unit_test(test_cache_types),    cmocka_unit_test(test_devices),
        cmocka_unit_test(test_capture_fails),  cmocka_unit_test(test_faults),
        cmocka_unit_test(test_memory_refused), cmocka_unit_test(test_no_memory),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
