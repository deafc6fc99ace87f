/* The hidden states of output rows: what the output matrix was applied to, in every way a step can be cut, rewritten and
 * placed; and to keep them changes no logit. */
#include "check.h"

#include <math.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "test_backend.h"
#include "tiny_gguf.h"

enum { LONG = 150, PAGE = 16, N_PAGES = LONG / PAGE + 1 };

typedef struct {
    uint32_t max_tok;
    unsigned passes;
    int tier;
    uint64_t split_seed; /* not 0: half of the nodes on another backend, whose memory cannot be read in place */
    bool hidden;
} setting;

typedef struct {
    uint32_t d;
    float *logits; /* [LONG][TINY_VOCAB] */
    float *hidden; /* [LONG][d], NULL: not asked for */
} rows;

static void rows_free(rows *r) {
    free(r->logits);
    free(r->hidden);
}

static uint32_t by_seed(void *ctx, const node *n) {
    return (uint32_t)(rng_u64(((const setting *)ctx)->split_seed, n->id) & 1);
}

static status open_exec(exec **x, const gguf *file, setting *set, err *e) {
    cpu_options opt = {.n_threads = 2, .tier = set->tier};
    backend *b[2] = {0};
    *x = NULL;
    status s = cpu_backend_open(&b[0], &opt, e);
    if (!s && set->split_seed && (s = test_backend_open(&b[1], &opt, e))) b[0]->ops->close(b[0]);
    exec_options eo = {.max_tok = set->max_tok,
                       .max_out = set->max_tok,
                       .n_pages = N_PAGES,
                       .page_tokens = PAGE,
                       .type_k = QUANT_F16,
                       .type_v = QUANT_F16,
                       .hidden = set->hidden,
                       .passes = set->passes,
                       .choose = set->split_seed ? by_seed : NULL,
                       .choose_ctx = set};
    return s ? s : exec_open(x, file, &eo, b, set->split_seed ? 2 : 1, NULL, NULL, e);
}

/* One list of tokens in chunks of max_tok, every row with output. */
static rows run(const gguf *file, setting set) {
    exec *x;
    err e = {0};
    if (open_exec(&x, file, &set, &e)) fail_msg("%s", e.text);
    rows r = {.d = exec_model(x)->d_model};
    r.logits = malloc(LONG * TINY_VOCAB * sizeof *r.logits);
    if (set.hidden) r.hidden = malloc(LONG * r.d * sizeof *r.hidden);
    uint32_t pages[N_PAGES], seq[LONG] = {0};
    int32_t token[LONG], pos[LONG], out[LONG];
    for (uint32_t i = 0; i < N_PAGES; i++) pages[i] = N_PAGES - 1 - i;
    exec_seq q = {.pages = pages};
    for (uint32_t at = 0; at < LONG; at += set.max_tok) {
        uint32_t n = LONG - at < set.max_tok ? LONG - at : set.max_tok;
        for (uint32_t i = 0; i < n; i++) {
            token[i] = (int32_t)(rng_u64(5, at + i) % TINY_VOCAB);
            pos[i] = (int32_t)(at + i);
            out[i] = (int32_t)i;
        }
        exec_batch b = {n, 1, n, token, pos, seq, out, &q};
        if (exec_step(x, &b, &e)) fail_msg("%s", e.text);
        for (uint32_t i = 0; i < n; i++) {
            memcpy(r.logits + (at + i) * TINY_VOCAB, exec_logits(x, i), TINY_VOCAB * sizeof(float));
            if (r.hidden) memcpy(r.hidden + (at + i) * r.d, exec_hidden(x, i), r.d * sizeof(float));
        }
    }
    exec_close(x);
    return r;
}

/* The output matrix by hand. Quantised types see the hidden states as int8. */
static void check_product(const gguf *file, const rows *r, quant_type type) {
    const gguf_tensor *w = gguf_tensor_find(file, "output.weight");
    if (!w) w = gguf_tensor_find(file, "token_embd.weight");
    const quant_info *q = quant_lookup((uint32_t)w->type);
    float *m = malloc(TINY_VOCAB * r->d * sizeof *m);
    q->decode(m, w->data, TINY_VOCAB * r->d);
    double tolerance = type == QUANT_F32 || type == QUANT_F16 ? 1e-5 : 2e-2;
    for (uint32_t t = 0; t < LONG; t++)
        for (uint32_t v = 0; v < TINY_VOCAB; v++) {
            double sum = 0, size = 0;
            for (uint32_t k = 0; k < r->d; k++) {
                double x = (double)r->hidden[t * r->d + k] * (double)m[v * r->d + k];
                sum += x;
                size += fabs(x);
            }
            double is = (double)r->logits[t * TINY_VOCAB + v];
            if (fabs(is - sum) > tolerance * size)
                fail_msg("%s, position %u, token %u: logit %g, by the hidden state %g", q->name, t, v, is, sum);
        }
    free(m);
}

static void check_same(const gguf *file, setting set, const rows *want, const rows *want_hidden) {
    rows r = run(file, set);
    assert_memory_equal(r.logits, want->logits, LONG * TINY_VOCAB * sizeof(float));
    assert_memory_equal(r.hidden, want_hidden->hidden, LONG * r.d * sizeof(float));
    rows_free(&r);
}

static void check_model(const char *arch, quant_type type, bool experts) {
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of(arch, type);
    if (experts) shape.n_expert = 4, shape.n_used = 2;
    tiny_gguf_write(&shape, path);
    gguf *file;
    assert_int_equal(gguf_open(&file, path, NULL), OK);
    setting set = {.max_tok = LONG, .passes = PASS_ALL, .tier = TIER_SCALAR};
    rows without = run(file, set);
    set.hidden = true;
    rows with = run(file, set);
    assert_memory_equal(with.logits, without.logits, LONG * TINY_VOCAB * sizeof(float));
    check_product(file, &with, type);
    static const uint32_t chunks[] = {1, 7, 32, LONG};
    static const unsigned passes[] = {PASS_LOWER, PASS_LOWER | PASS_FUSE, PASS_LOWER | PASS_CSE | PASS_NOOP, PASS_ALL};
    set.tier = (int)cpu_tier_best();
    for (uint32_t i = 0; i < 4; i++) {
        set.max_tok = chunks[i], set.passes = passes[i];
        check_same(file, set, &without, &with);
    }
    for (set.split_seed = 1; set.split_seed <= 6; set.split_seed++) {
        set.passes = set.split_seed % 3 ? PASS_ALL : PASS_LOWER;
        check_same(file, set, &without, &with);
    }
    rows_free(&without);
    rows_free(&with);
    gguf_close(file);
    unlink(path);
}

static void test_hidden_states(void **state) {
    (void)state;
    check_model("llama", QUANT_F32, false);
    check_model("llama", QUANT_Q8_0, false);
    check_model("llama", QUANT_Q4_K, false);
    check_model("llama", QUANT_Q8_0, true);
    check_model("gemma3", QUANT_F16, false);
    check_model("gemma3", QUANT_Q4_1, false);
}

static void test_survives_oom(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    tiny_gguf_write(&shape, path);
    gguf *file;
    assert_int_equal(gguf_open(&file, path, NULL), OK);
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        setting set = {.max_tok = 8, .passes = PASS_ALL, .tier = TIER_SCALAR, .split_seed = 2, .hidden = true};
        exec *x;
        mem_fail_at(n);
        status s = open_exec(&x, file, &set, NULL);
        bool fired = mem_fail_off();
        assert_int_equal(s, fired ? ERR_NOMEM : OK);
        exec_close(x);
        assert_int_equal(mem_live(), live);
        if (!fired) break;
    }
    gguf_close(file);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hidden_states), cmocka_unit_test(test_survives_oom)};
    return cmocka_run_group_tests_name("hidden", tests, NULL, NULL);
}
