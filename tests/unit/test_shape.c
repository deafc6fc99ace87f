/* An engine's shape: how much cache, of which pages, for which context; what does not fit; and what is told of it. */
#include "check.h"

#include <unistd.h>

#include "api/api.h"
#include "base/rng.h"
#include "tiny_gguf.h"

/* --- options to shapes, for a model that is only its numbers -------------------------------------------------------------- */

static model_layer layers[64];

/* Pages of f16: n_layer * 8 heads * 2 * 128 * 2 bytes a token. */
static rf_model numbers(uint32_t n_layer) {
    for (uint32_t i = 0; i < n_layer; i++) layers[i] = (model_layer){.n_kv_head = 8, .d_k = 128, .d_v = 128};
    return (rf_model){.info = {.n_layer = n_layer, .n_kv_layers = n_layer, .context_train = 32768, .layer = layers}};
}

static api_shape made(const rf_model *m, rf_engine_options opt) {
    api_shape s;
    err e = {0};
    if (api_shape_make(&s, m, &opt, &e)) fail_msg("%s", e.text);
    return s;
}

static void refused(const rf_model *m, rf_engine_options opt, status want, const char *names) {
    api_shape s;
    err e = {0};
    assert_int_equal(api_shape_make(&s, m, &opt, &e), want);
    if (!strstr(e.text, names)) fail_msg("\"%s\" does not name %s", e.text, names);
}

static void test_pages_follow_the_context(void **state) {
    (void)state;
    static const struct {
        uint32_t context, parallel, page_tokens, n_pages;
    } want[] = {{1, 1, 16, 1},          {1000, 3, 16, 3 * 63}, {1023, 1, 16, 64},   {1024, 1, 32, 32},
                {4095, 2, 32, 2 * 128}, {4096, 1, 64, 64},     {8192, 8, 64, 1024}, {0, 1, 64, 128}};
    rf_model m = numbers(4);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        api_shape s = made(&m, (rf_engine_options){.context = want[i].context, .parallel = want[i].parallel});
        assert_true(s.exec.page_tokens == want[i].page_tokens && s.exec.n_pages == want[i].n_pages);
        assert_true(s.context == (want[i].context ? want[i].context : 8192) && s.sched.context == s.context);
        assert_true(s.exec.hidden && !s.fixed_cache && s.down.n == 0);
    }
}

static void test_a_number_of_tokens(void **state) {
    (void)state;
    rf_model m = numbers(4);
    api_shape s = made(&m, (rf_engine_options){.context = 2048, .parallel = 8, .kv_tokens = 5000});
    assert_true(s.exec.page_tokens == 32 && s.exec.n_pages == 157 && s.context == 2048 && s.fixed_cache);
    s = made(&m, (rf_engine_options){.parallel = 2, .kv_tokens = 900, .kv_shrink = true}); /* the context follows */
    assert_true(s.context == 900 && s.exec.page_tokens == 16 && s.exec.n_pages == 57 && !s.may_shrink);
    assert_true(s.down.n == 1 && s.down.item[0].id == DOWN_CONTEXT && strstr(s.down.item[0].text, "900 tokens"));
    s = made(&m, (rf_engine_options){.kv_tokens = 100000});
    assert_true(s.context == 8192 && s.exec.n_pages == 1563);
    refused(&m, (rf_engine_options){.context = 2048, .kv_tokens = 2000}, ERR_RANGE, "2048");
    refused(&m, (rf_engine_options){.context = 2048, .kv_tokens = 2000}, ERR_RANGE, "2016");
    s = made(&m, (rf_engine_options){.context = 2000, .kv_tokens = 2000});
    assert_int_equal(s.exec.n_pages, 63);
}

/* The sizes that ROCmForge's users know: 16, 32 or 64 tokens a page, half of 4, 12 or 40 GiB, 64 to 8192 pages. */
static void test_presets(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t n_layer, page_tokens, n_pages; /* n_layer * 4096 bytes a token */
    } want[] = {{"small", 32, 16, (2ull << 30) / (32 * 4096 * 16)},
                {"medium", 32, 32, (6ull << 30) / (32 * 4096 * 32)},
                {"large", 32, 64, (20ull << 30) / (32 * 4096 * 64)},
                {"small", 1, 16, 8192},
                {"medium", 2, 32, 8192},
                {"large", 64, 64, (20ull << 30) / (64 * 4096 * 64)}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        rf_model m = numbers(want[i].n_layer);
        api_shape s = made(&m, (rf_engine_options){.kv_preset = want[i].name, .parallel = 4});
        assert_true(s.exec.page_tokens == want[i].page_tokens && s.exec.n_pages == want[i].n_pages && s.fixed_cache);
        assert_int_equal(s.context, 8192);
    }
    rf_model m = numbers(64);
    for (uint32_t i = 0; i < 64; i++) layers[i].n_kv_head = 1024; /* 2 GiB are 64 MiB a token times 32 */
    api_shape s = made(&m, (rf_engine_options){.kv_preset = "small"});
    assert_true(s.exec.n_pages == 64 && s.context == 1024); /* a context nobody asked for is what the cache holds */
    assert_true(s.down.n == 1 && s.down.item[0].id == DOWN_CONTEXT && strstr(s.down.item[0].text, "1024 tokens"));
    refused(&m, (rf_engine_options){.kv_preset = "small", .context = 1025}, ERR_RANGE, "1025");
    m = numbers(4);
    refused(&m, (rf_engine_options){.kv_preset = "huge"}, ERR_USAGE, "huge");
    refused(&m, (rf_engine_options){.kv_preset = "small", .kv_tokens = 9000}, ERR_USAGE, "one of the two");
}

/* Whatever is asked for: one sequence of the longest kind has pages, and the batch has a row for everybody. */
static void test_a_context_always_fits(void **state) {
    (void)state;
    static const char *const presets[] = {NULL, NULL, NULL, "small", "medium", "large"};
    uint32_t n_made = 0;
    for (uint64_t i = 0; i < 4000; i++) {
        uint64_t r = rng_u64(9, i);
        rf_model m = numbers(1 + (uint32_t)(r % 40));
        m.info.context_train = 1u << (r >> 8) % 18;
        rf_engine_options opt = {.context = (r >> 16) % 2 ? 1 + (uint32_t)(r >> 17) % 20000 : 0,
                                 .parallel = (uint32_t)(r >> 32) % 40,
                                 .kv_tokens = (r >> 40) % 3 ? 0 : 1 + (uint32_t)(r >> 41) % 30000,
                                 .kv_preset = presets[(r >> 56) % 6]};
        api_shape s;
        if (api_shape_make(&s, &m, &opt, NULL)) continue;
        n_made++;
        assert_true((uint64_t)s.exec.n_pages * s.exec.page_tokens >= s.context && s.context >= 1);
        assert_true(s.exec.max_tok >= s.parallel && s.exec.max_out >= 1 && (!opt.context || s.context == opt.context));
    }
    assert_true(n_made > 2000);
}

static void test_scheduling(void **state) {
    (void)state;
    rf_model m = numbers(4);
    sched_options o = made(&m, (rf_engine_options){.parallel = 3}).sched;
    assert_true(o.parallel == 3 && o.queue == 1000 && o.chunking == CHUNK_ADAPTIVE && o.chunk == 128 &&
                o.step_us == 100000);
    assert_true(!o.no_prefix && !o.disk);
    o = made(&m, (rf_engine_options){.queue = 5, .chunking = "fixed", .chunk = 32, .no_prefix_cache = true}).sched;
    assert_true(o.queue == 5 && o.chunking == CHUNK_FIXED && o.chunk == 32 && o.no_prefix);
    o = made(&m, (rf_engine_options){.chunking = "none", .step_ms = 20}).sched;
    assert_true(o.chunking == CHUNK_NONE && o.step_us == 20000);
    refused(&m, (rf_engine_options){.chunking = "some"}, ERR_USAGE, "some");
    refused(&m, (rf_engine_options){.step_ms = 60001}, ERR_RANGE, "60001");
    refused(&m, (rf_engine_options){.chunk = 20000}, ERR_RANGE, "20000");
    refused(&m, (rf_engine_options){.kv_cache_dir = "/x", .no_prefix_cache = true}, ERR_USAGE, "folder");
    kv_disk_options f = made(&m, (rf_engine_options){.kv_cache_dir = "/x", .context = 2048}).folder;
    assert_true(strcmp(f.dir, "/x") == 0 && f.max_bytes == 4ull << 30 && f.page_tokens == 32 && f.max_tokens == 2048);
    assert_int_equal(f.page_bytes, 4 * 4096 * 32);
    assert_int_equal(made(&m, (rf_engine_options){.kv_cache_dir = "/x", .kv_cache_bytes = 7}).folder.max_bytes, 7);
}

/* --- plans and engines of a tiny model ------------------------------------------------------------------------------------ */

static rf_model *open_tiny(char path[TINY_PATH]) {
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    rf_model *m;
    rf_error e;
    tiny_gguf_write(&shape, path);
    if (!rf_model_open(&m, path, &e)) fail_msg("%s", e.message);
    return m;
}

static json_t *parsed(char *text) {
    assert_non_null(text);
    json_t *v = json_loads(text, 0, NULL);
    assert_non_null(v);
    rf_free(text);
    return v;
}

static json_int_t int_at(const json_t *v, const char *key) {
    const json_t *x = json_object_get(v, key);
    if (!json_is_integer(x)) fail_msg("no integer %s", key);
    return json_integer_value(x);
}

static json_t *plan_of(const rf_model *m, rf_engine_options opt) {
    rf_error e;
    char *text = rf_plan(m, &opt, &e);
    if (!text) fail_msg("%s", e.message);
    return parsed(text);
}

/* More than any machine has: 1 KiB a token, 2^24 tokens, 4096 times. */
/* Each prompt in one step: it holds a context, gives each of its rows, and no cache is larger than it needs. */
static void test_encoders(void **state) {
    (void)state;
    rf_model m = numbers(4);
    m.info.encoder = true, m.info.arch_name = "bert", m.info.context_train = m.info.max_positions = 512;
    m.info.n_kv_layers = 1;
    api_shape s = made(&m, (rf_engine_options){.parallel = 100, .ubatch = 64, .logits_rows = 1});
    assert_true(s.context == 512 && s.exec.max_tok == 512 && s.exec.max_out == 512 && s.sched.no_prefix);
    assert_true(s.exec.type_k == QUANT_F32 && s.exec.n_pages == 512 / 16 + 100 && !s.gpus);
    s = made(&m, (rf_engine_options){.context = 100, .parallel = 8, .ubatch = 700, .cache_type_k = "f16"});
    assert_true(s.exec.max_tok == 700 && s.exec.max_out == 700 && s.exec.n_pages == 700 / 16 + 1 + 8);
    assert_true(s.exec.type_k == QUANT_F16 && s.exec.type_v == QUANT_F32);
    refused(&m, (rf_engine_options){.context = 513}, ERR_RANGE, "512");
    refused(&m, (rf_engine_options){.device = "gpu"}, ERR_UNSUPPORTED, "bert");
    refused(&m, (rf_engine_options){.kv_cache_dir = "/x"}, ERR_USAGE, "bert");
    m.info.max_positions = 0;
    refused(&m, (rf_engine_options){.context = 16385}, ERR_RANGE, "16384");
}

static void test_what_does_not_fit(void **state) {
    (void)state;
    char path[TINY_PATH];
    rf_model *m = open_tiny(path);
    rf_engine_options vast = {.context = 4096,
                              .parallel = 4096,
                              .ubatch = 64,
                              .kv_tokens = UINT32_MAX,
                              .cache_type_k = "f32",
                              .cache_type_v = "f32"};
    json_t *v = plan_of(m, vast);
    assert_true(json_is_false(json_object_get(v, "fits")));
    json_decref(v);
    rf_engine *g;
    rf_error e;
    assert_false(rf_engine_open(&g, m, &vast, &e));
    assert_string_equal(e.code, "memory.plan");
    vast.kv_tokens = 0;
    vast.context = 1 << 24;
    v = plan_of(m, vast);
    assert_true(json_is_false(json_object_get(v, "fits")) && json_array_size(json_object_get(v, "warnings")) == 0);
    assert_int_equal(int_at(v, "kv_tokens"), (json_int_t)1 << 36);
    json_decref(v);
    vast.context = 65536; /* 256 GiB in all: may be cut down to one of it */
    vast.kv_shrink = true;
    v = plan_of(m, vast);
    json_int_t tokens = int_at(v, "kv_tokens");
    if (tokens < (json_int_t)65536 * 4096) { /* a usual machine */
        assert_true(json_is_true(json_object_get(v, "fits")) && tokens >= 65536 && tokens % 64 == 0);
        const json_t *w = json_object_get(v, "warnings");
        assert_true(json_array_size(w) == 1 && strstr(json_string_value(json_array_get(w, 0)), "268435456"));
        assert_true(strncmp(json_string_value(json_array_get(w, 0)), "cache.memory [memory.plan]: ", 28) == 0);
        json_int_t spare = int_at(v, "available") - int_at(v, "need") - int_at(v, "margin");
        assert_true(spare >= 0 && spare < 1 << 20); /* no more was taken away than had to be */
    }
    json_decref(v);
    rf_model_close(m);
    unlink(path);
}

static void test_tables_are_planned(void **state) {
    (void)state;
    char path[TINY_PATH];
    rf_model *m = open_tiny(path);
    json_int_t bytes[3];
    for (int i = 0; i < 3; i++) {
        rf_engine_options opt = {
            .context = 4096, .no_prefix_cache = i == 0, .kv_cache_dir = i == 2 ? "/nowhere" : NULL};
        json_t *v = plan_of(m, opt);
        bytes[i] = int_at(json_object_get(v, "bytes"), "tables");
        json_decref(v);
    }
    assert_true(bytes[0] > 64 * 8 && bytes[1] > bytes[0] + 4096 * 4 && bytes[2] > bytes[1] + (1 << 20));
    rf_model_close(m);
    unlink(path);
}

static void ignore(void *user, const rf_event *ev) { (void)user, (void)ev; }

static void run_prompt(rf_engine *g, uint32_t n) {
    int32_t tokens[200];
    for (uint32_t i = 0; i < n; i++) tokens[i] = TINY_FIRST_TEXT + (int32_t)(i % 90);
    rf_request_params p = rf_request_defaults();
    rf_request *r;
    rf_error e;
    p.tokens = tokens;
    p.n_tokens = n;
    p.max_tokens = 0;
    if (!rf_request_start(&r, g, &p, ignore, NULL, &e)) fail_msg("%s", e.message);
    rf_request_wait(r);
    rf_request_free(r);
}

static void test_memory_of_an_engine(void **state) {
    (void)state;
    char path[TINY_PATH];
    rf_model *m = open_tiny(path);
    rf_engine_options opt = {.context = 256, .parallel = 2, .ubatch = 32, .threads = 1};
    rf_engine *g;
    rf_error e;
    if (!rf_engine_open(&g, m, &opt, &e)) fail_msg("%s", e.message);
    json_t *v = parsed(rf_engine_info(g));
    assert_true(json_is_array(json_object_get(v, "warnings")) && json_array_size(json_object_get(v, "warnings")) == 0);
    json_decref(v);
    for (int after = 0; after < 2; after++) {
        if (after) run_prompt(g, 40); /* two whole pages, and eight tokens of a third */
        v = parsed(rf_engine_memory(g));
        const json_t *pages = json_object_get(v, "pages");
        assert_true(int_at(v, "page_tokens") == 16 && int_at(pages, "total") == 32 && int_at(pages, "used") == 0);
        assert_true(int_at(pages, "cached") == (after ? 3 : 0) && int_at(pages, "free") == (after ? 29 : 32));
        assert_int_equal(int_at(v, "tokens"), after ? 40 : 0);
        assert_int_equal(int_at(v, "bytes"), 32 * int_at(v, "page_bytes"));
        assert_int_equal(int_at(v, "page_bytes"), 16 * int_at(v, "bytes_per_token"));
        assert_true(int_at(v, "allocator_bytes") > 32 * 16 * 4 && int_at(v, "page_table_bytes") >= 2 * 16 * 4);
        double fragmentation = json_real_value(json_object_get(v, "fragmentation"));
        double efficiency = json_real_value(json_object_get(v, "efficiency"));
        assert_true(fragmentation == (after ? 1 - 40.0 / 48 : 0) && efficiency == (after ? 40.0 / 512 : 0));
        json_decref(v);
    }
    rf_engine_close(g);
    rf_model_close(m);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_follow_the_context),
        cmocka_unit_test(test_a_number_of_tokens),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_a_context_always_fits),
        cmocka_unit_test(test_scheduling),
        cmocka_unit_test(test_encoders),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_tables_are_planned),
        cmocka_unit_test(test_memory_of_an_engine),
    };
    return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
