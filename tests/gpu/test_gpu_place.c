/* Whether a model fits into an APU, whose memory is VRAM and what it may map of the host's (GTT), with the sizes that laptops
 * and small desktops have. Nothing is taken: the plan says it from the header. What does not fit is refused with the numbers,
 * the largest context and the most layers that would, and those do. */
#include "../unit/check.h"

#include <stdlib.h>
#include <unistd.h>

#include "../unit/tiny_gguf.h"
#include "api/api.h"
#include "api/verify.h"
#include "backend/gpu/code.h"
#include "fake_driver.h"

enum { MIB = 20, GIB = 30, PARALLEL = 600, CONTEXT = 2048, N_LAYER = 8 };

static rf_model *model;
static char path[TINY_PATH];
static gpu_list list;

/* Keys and values of 16 KiB a token: 18.75 GiB for 600 sequences of 2048. */
static int set_up(void **state) {
    (void)state;
    rf_error e;
    tiny_shape shape = tiny_shape_of("llama", QUANT_F16);
    shape.n_layer = N_LAYER, shape.n_head = shape.n_kv_head = 4, shape.d_head = 128;
    tiny_gguf_write(&shape, path);
    if (!rf_model_open(&model, path, &e)) fail_msg("%s", e.message);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rf_model_close(model);
    unlink(path);
    return 0;
}

typedef struct {
    const char *arch;
    uint64_t vram, gtt, host; /* bytes; host: available */
} machine;

/* The plan of the machine's GPU for these options: OK, or why not. *s is to be read only. */
static status try_fit(const machine *a, rf_engine_options opt, api_shape *s, err *e) {
    rf_engine_options plain = opt;
    plain.device = "cpu", plain.gpu_layers = plain.placement = NULL;
    assert_int_equal(api_shape_make(s, model, &plain, e), OK);
    fake_list_open(&list, 1, &(fake_options){.wave = 32, .memory = a->vram});
    gpu_device *d = &list.device[0];
    snprintf(d->facts.arch, sizeof d->facts.arch, "%s", a->arch);
    d->facts.integrated = true;
    d->gtt_total = a->gtt;
    s->gpus = &list;
    s->host_bytes = a->host;
    s->placement = opt.placement ? PLACEMENT_GPU : PLACEMENT_ONLY;
    s->may_split = s->may_move = opt.placement != NULL;
    api_backends b;
    status rc = api_split_make(s, model, &opt, e);
    if (!rc) rc = api_backends_open(&b, s, e);
    if (!rc) rc = api_fit_memory(s, model, &b, e);
    api_backends_close(&b);
    s->gpus = NULL; /* not from the heap */
    fake_list_close(&list);
    return rc;
}

static const machine laptop = {"gfx1150", 512ull << MIB, 16ull << GIB, 28ull << GIB};
static const machine desktop = {"gfx1151", 4ull << GIB, 64ull << GIB, 120ull << GIB};
static const rf_engine_options full = {.context = CONTEXT, .parallel = PARALLEL};

static void test_both_memories_count(void **state) {
    (void)state;
    err e = {0};
    api_shape s;
    assert_int_equal(try_fit(&desktop, full, &s, &e), OK);
    machine none = desktop;
    none.gtt = 0; /* 4 GiB of its own are too few */
    assert_int_equal(try_fit(&none, full, &s, &e), ERR_GPU_MEMORY);
    none.vram = 24ull << GIB;
    assert_int_equal(try_fit(&none, full, &s, &e), OK);
}

static unsigned long number_after(const char *text, const char *words) {
    const char *at = strstr(text, words);
    if (!at) fail_msg("no \"%s\" in: %s", words, text);
    return strtoul(at + strlen(words), NULL, 10);
}

static void test_what_does_not_fit_is_said_with_what_would(void **state) {
    (void)state;
    err e = {0}, again = {0};
    api_shape s;
    rf_engine_options opt = full;
    assert_int_equal(try_fit(&laptop, opt, &s, &e), ERR_GPU_MEMORY);
    assert_non_null(strstr(e.text, "KV cache 19200,"));
    assert_non_null(strstr(e.text, "16896 of 16896 are free"));
    unsigned long context = number_after(e.text, "the largest context that fits is "),
                  layers = number_after(e.text, "or -ngl ");
    assert_true(context >= 1024 && context < CONTEXT && layers > 0 && layers < N_LAYER);
    opt.context = (uint32_t)context;
    assert_int_equal(try_fit(&laptop, opt, &s, &again), OK);
    opt.context += 256;
    assert_int_equal(try_fit(&laptop, opt, &s, &again), ERR_GPU_MEMORY);
    char ngl[24];
    opt = full, opt.gpu_layers = ngl;
    machine big = laptop;
    big.host = 64ull << GIB; /* the other layers' cache is the host's, too */
    snprintf(ngl, sizeof ngl, "%lu", layers);
    assert_int_equal(try_fit(&big, opt, &s, &again), OK);
    snprintf(ngl, sizeof ngl, "%lu", layers + 1);
    assert_int_equal(try_fit(&big, opt, &s, &again), ERR_GPU_MEMORY);
}

static void test_layers_are_split_where_that_is_allowed(void **state) {
    (void)state;
    err e = {0};
    api_shape s;
    rf_engine_options opt = full;
    opt.placement = "gpu";
    machine big = laptop;
    big.host = 64ull << GIB;
    assert_int_equal(try_fit(&big, opt, &s, &e), OK);
    assert_true(s.split.first > 0 && s.split.first < N_LAYER && s.down.n == 1 && s.down.item[0].id == DOWN_LAYERS);
}

/* The GTT is the host's memory: what the GPU takes of it the host must have. */
static void test_shared_memory_is_counted_once_on_each_side(void **state) {
    (void)state;
    err e = {0};
    api_shape s;
    machine poor = desktop;
    poor.host = 12ull << GIB;
    assert_int_equal(try_fit(&poor, full, &s, &e), ERR_MEMORY_PLAN);
    poor.host = 18ull << GIB; /* 4 GiB are in its own */
    assert_int_equal(try_fit(&poor, full, &s, &e), OK);
}

/* Where the host has no memory to be asked, the GPU is taken unverified, and that is said. */
static void test_an_unverified_gpu(void **state) {
    (void)state;
    const char *target;
    if (!gpu_code_covers("gfx1100", &target)) skip(); /* this build has no code for it */
    err e = {0};
    rf_error why;
    char small[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    rf_model *m;
    api_shape s;
    api_backends b;
    exec *x = NULL;
    tiny_gguf_write(&shape, small);
    setenv("XDG_CACHE_HOME", "nowhere", 1); /* no verdict is kept */
    setenv("HOME", "nowhere", 1);
    if (!rf_model_open(&m, small, &why)) fail_msg("%s", why.message);
    assert_int_equal(api_shape_make(&s, m, &(rf_engine_options){.device = "cpu", .context = 256, .threads = 1}, &e),
                     OK);
    fake_list_open(&list, 1, &(fake_options){.wave = 32});
    s.gpus = &list;
    s.host_bytes = 1;
    assert_int_equal(api_split_make(&s, m, &(rf_engine_options){0}, &e), OK);
    assert_int_equal(api_backends_open(&b, &s, &e), OK);
    exec_options eo = api_exec_options(&s, &b);
    if (exec_open(&x, m->file, &eo, b.b, b.n, NULL, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(verify_engine(x, m, &s, VERIFY_ALWAYS, &e), OK);
    assert_int_equal(strncmp(s.verified, "not verified: ", 14), 0);
    assert_true(s.down.n == 1 && s.down.item[0].id == DOWN_VERIFY && s.down.item[0].cause == ERR_MEMORY_PLAN);
    s.host_bytes = 0;
    assert_int_equal(verify_engine(x, m, &s, VERIFY_ALWAYS, &e), OK);
    assert_string_equal(s.verified, "equal to the CPU, bit for bit, now");
    exec_close(x);
    s.gpus = NULL;
    fake_list_close(&list);
    rf_model_close(m);
    unlink(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_memories_count),
        cmocka_unit_test(test_what_does_not_fit_is_said_with_what_would),
        cmocka_unit_test(test_layers_are_split_where_that_is_allowed),
        cmocka_unit_test(test_shared_memory_is_counted_once_on_each_side),
        cmocka_unit_test(test_an_unverified_gpu),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
