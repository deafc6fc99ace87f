/* Tokens drawn on the GPU backend (kernels in the interpreter) are the CPU's: for every way of drawing, in steps of one and of
 * several sequences, beside sequences that want their logits, with draws that the device leaves to the host. Rows that were
 * drawn from do not come to the host. */
#include "../unit/check.h"

#include <math.h>
#include <unistd.h>

#include "../unit/tiny_gguf.h"
#include "backend/cpu/cpu.h"
#include "backend/gpu/code.h"
#include "backend/gpu/gpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "fake_driver.h"

enum { PAGE = 16, N_PAGES = 32, N_SEQ = 6, STEPS = 14, PROMPT = 5, N_TOP = 3 };

static const sample_bias twice[] = {{3, 1.0f}, {3, 0.5f}};
static const sample_bias some[] = {{3, 2.0f}, {7, -INFINITY}};
static const int32_t banned[] = {1, 2};
static const sample_params ways[N_SEQ] = {
    {.temperature = 0, .top_p = 1, .repeat_penalty = 1},
    {.temperature = 0.8f,
     .top_k = 40,
     .top_p = 0.95f,
     .min_p = 0.05f,
     .repeat_penalty = 1.1f,
     .repeat_last_n = 64,
     .seed = 1},
    {.temperature = 1,
     .top_p = 0.9f,
     .repeat_penalty = 1,
     .seed = 2,
     .bias = some,
     .n_bias = 2,
     .banned = banned,
     .n_banned = 2},
    {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 3},
    {.temperature = 2, .top_p = 1, .min_p = 0.2f, .repeat_penalty = 1, .seed = 4},
    {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5, .bias = twice, .n_bias = 2}, /* the host draws */
};

typedef struct {
    gpu_list list;
    gguf *file;
    backend *b;
    exec *x;
    bool gpu;
} rig;

static void rig_open(rig *r, const char *path, bool gpu, unsigned wave, bool no_graphs) {
    err e = {0};
    *r = (rig){.gpu = gpu};
    if (gpu) fake_list_open(&r->list, 1, &(fake_options){.wave = wave});
    gpu_options go = {.list = &r->list, .n_threads = 1, .no_graphs = no_graphs};
    cpu_options co = {.n_threads = 1, .tier = TIER_SCALAR};
    exec_options eo = {.max_tok = 64, .max_out = 64, .n_pages = N_PAGES, .page_tokens = PAGE, .passes = PASS_ALL};
    eo.type_k = eo.type_v = QUANT_F16;
    status s = gguf_open(&r->file, path, &e);
    if (!s) s = gpu ? gpu_backend_open(&r->b, &go, &e) : cpu_backend_open(&r->b, &co, &e);
    if (!s) s = exec_open(&r->x, r->file, &eo, &r->b, 1, NULL, NULL, &e);
    if (s) fail_msg("%s", e.text);
}

static void rig_close(rig *r) {
    exec_close(r->x);
    gguf_close(r->file);
    if (!r->gpu) return;
    assert_int_equal(fake_counts_of(&r->list).live, 0);
    fake_list_close(&r->list);
}

typedef struct {
    int32_t log[N_SEQ][PROMPT + STEPS + 1];
    float logprob[N_SEQ][STEPS + 1];
    sample_top top[N_SEQ][STEPS + 1][N_TOP];
    float logits[STEPS + 1][TINY_VOCAB]; /* of the sequence that wants them */
    uint64_t bytes_out, calls;
} story;

/* Sequences first .. first + n; sequence 4 wants its logits too, sequences with odd numbers the best tokens. */
static void tell(rig *r, story *t, uint32_t first, uint32_t n) {
    uint32_t pages[N_SEQ][2];
    uint64_t calls = 0;
    for (uint32_t s = 0; s < N_SEQ; s++) {
        for (uint32_t i = 0; i < PROMPT; i++) t->log[s][i] = (int32_t)(rng_u64(s, i) % TINY_VOCAB);
        pages[s][0] = s * 2, pages[s][1] = s * 2 + 1;
    }
    for (uint32_t step = 0; step <= STEPS; step++) {
        int32_t token[64], pos[64], out_row[N_SEQ];
        uint32_t seq[64];
        exec_seq q[N_SEQ];
        sample_result result[N_SEQ] = {0};
        err failed[N_SEQ] = {0}, e = {0};
        exec_batch b = {.token = token, .pos = pos, .seq = seq, .out_row = out_row, .seqs = q, .n_seq = n};
        for (uint32_t k = 0; k < n; k++) {
            uint32_t s = first + k, from = step ? PROMPT + step - 1 : 0, end = PROMPT + step;
            result[k].top = t->top[s][step], result[k].n_top = s % 2 ? N_TOP : 0;
            q[k] = (exec_seq){.pages = pages[s], .sampling = &ways[s], .history = t->log[s], .n_history = end};
            q[k].sample_pos = end, q[k].result = &result[k], q[k].failed = &failed[k], q[k].logits = s == 4;
            for (uint32_t i = from; i < end; i++, b.n_tok++)
                token[b.n_tok] = t->log[s][i], pos[b.n_tok] = (int32_t)i, seq[b.n_tok] = k;
            out_row[b.n_out++] = (int32_t)b.n_tok - 1;
        }
        if (exec_step(r->x, &b, &e)) fail_msg("%s", e.text);
        if (step == 1) calls = mem_calls();
        for (uint32_t k = 0; k < n; k++) {
            uint32_t s = first + k;
            if (failed[k].code) fail_msg("%s", failed[k].text);
            t->log[s][PROMPT + step] = result[k].id;
            t->logprob[s][step] = result[k].logprob;
            if (s == 4) memcpy(t->logits[step], exec_logits(r->x, k), sizeof t->logits[step]);
        }
    }
    t->calls = mem_calls() - calls;
    if (r->gpu) t->bytes_out = gpu_backend_counters(r->b).bytes_out;
}

static void compare(const char *path, unsigned wave, bool no_graphs, uint32_t first, uint32_t n) {
    story *is = calloc(1, sizeof *is), *must = calloc(1, sizeof *must);
    rig g, c;
    rig_open(&g, path, true, wave, no_graphs);
    rig_open(&c, path, false, 0, false);
    tell(&g, is, first, n);
    tell(&c, must, first, n);
    assert_memory_equal(is->log, must->log, sizeof is->log);
    assert_memory_equal(is->logprob, must->logprob, sizeof is->logprob);
    assert_memory_equal(is->top, must->top, sizeof is->top);
    assert_memory_equal(is->logits, must->logits, sizeof is->logits);
    assert_int_equal(is->calls, 0);
    if (n == 1 && first == 0) assert_true(is->bytes_out < (STEPS + 1) * 64); /* no row of logits */
    rig_close(&g);
    rig_close(&c);
    free(is);
    free(must);
}

static void test_draws(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    tiny_gguf_write(&shape, path);
    compare(path, 32, false, 0, N_SEQ);
    compare(path, 64, true, 0, N_SEQ);
    compare(path, 64, false, 0, 1);
    compare(path, 32, true, 1, 1);
    compare(path, 32, false, 2, 2);
    unlink(path);
}

int main(void) {
    const char *target;
    if (!gpu_code_covers("gfx1100", &target)) {
        printf("skipped: this build has no code for gfx1100 (gpu_targets)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
