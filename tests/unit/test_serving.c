/* What a server needs of an engine, through rocmforge.h: bounded queue, deadlines, figures, the prefix cache and its folder,
 * embeddings; many threads, few pages. Also built with ThreadSanitizer. */
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "rocmforge.h"

#include "tiny_gguf.h"

enum { CONTEXT = 256, MOST_TOKENS = 256 };

static char model_path[TINY_PATH];
static rf_model *model;
static rf_logit_bias no_specials[TINY_FIRST_TEXT];

static rf_engine_options usual(void) {
    return (rf_engine_options){.context = CONTEXT, .parallel = 4, .ubatch = 64, .threads = 2};
}

static rf_engine *must_open(const rf_engine_options *opt) {
    rf_engine *g;
    rf_error e;
    if (!rf_engine_open(&g, model, opt, &e)) fail_msg("%s", e.message);
    return g;
}

typedef struct {
    int32_t id[MOST_TOKENS];
    uint32_t n_ids, n_prompts, first_done, n_ends;
    float mean[64];
    uint32_t n_embd;
    rf_event end;
    char code[40];
    rf_engine *g; /* its figures are read at the end */
    rf_stats at_end;
    atomic_uint n_started; /* events so far */
} report;

static void on_event(void *user, const rf_event *ev) {
    report *r = user;
    if (ev->kind == RF_EVENT_PROMPT && r->n_prompts++ == 0) r->first_done = ev->prompt_done;
    if (ev->kind == RF_EVENT_TOKEN && ev->id >= 0 && r->n_ids < MOST_TOKENS) r->id[r->n_ids++] = ev->id;
    if (ev->kind == RF_EVENT_EMBEDDING) {
        r->n_embd = ev->n_embd;
        memcpy(r->mean, ev->row, sizeof r->mean);
    }
    if (ev->kind == RF_EVENT_FAILED) snprintf(r->code, sizeof r->code, "%s", ev->error->code);
    if (ev->kind == RF_EVENT_FINISHED || ev->kind == RF_EVENT_FAILED) {
        r->end = *ev;
        r->n_ends++;
        if (r->g) rf_engine_stats(r->g, &r->at_end);
    }
    atomic_fetch_add(&r->n_started, 1);
}

static rf_request_params params(const int32_t *tokens, size_t n, int64_t max_tokens) {
    rf_request_params p = rf_request_defaults();
    p.tokens = tokens, p.n_tokens = n, p.max_tokens = max_tokens;
    p.temperature = 0;
    p.logit_bias = no_specials, p.n_logit_bias = TINY_FIRST_TEXT;
    return p;
}

static void make_tokens(int32_t *out, uint32_t n, uint32_t seed) {
    for (uint32_t i = 0; i < n; i++) out[i] = TINY_FIRST_TEXT + (int32_t)((i * 37 + seed * 11 + i * i * 3) % 90);
}

static rf_request *must_start(rf_engine *g, const rf_request_params *p, report *r) {
    rf_request *q;
    rf_error e;
    *r = (report){.g = r->g};
    if (!rf_request_start(&q, g, p, on_event, r, &e)) fail_msg("%s", e.message);
    return q;
}

static void run(rf_engine *g, const rf_request_params *p, report *r) {
    rf_request *q = must_start(g, p, r);
    rf_request_wait(q);
    rf_request_free(q);
    assert_int_equal(r->n_ends, 1);
}

/* --- options ------------------------------------------------------------------------------------------------------------------ */

static void test_options(void **state) {
    (void)state;
    rf_engine *g;
    rf_error e;
    rf_engine_options opt = usual();
    opt.chunking = "layerwise";
    assert_false(rf_engine_open(&g, model, &opt, &e));
    assert_string_equal(e.code, "usage.argument");
    assert_non_null(strstr(e.message, "layerwise"));
    assert_null(g);
    opt = usual(), opt.step_ms = 60001;
    assert_false(rf_engine_open(&g, model, &opt, &e));
    assert_string_equal(e.code, "usage.range");
    opt = usual(), opt.kv_cache_dir = "/tmp", opt.no_prefix_cache = true;
    assert_false(rf_engine_open(&g, model, &opt, &e));
    assert_string_equal(e.code, "usage.argument");
    opt = usual(), opt.kv_cache_dir = "/proc/no/such/folder";
    assert_false(rf_engine_open(&g, model, &opt, &e));
    assert_string_equal(e.code, "io.failed");
    static const char *const chunkings[] = {"adaptive", "fixed", "none"};
    int32_t tokens[100];
    make_tokens(tokens, 100, 1);
    report want, got;
    memset(&got, 0, sizeof got);
    for (uint32_t i = 0; i < 3; i++) {
        opt = usual(), opt.chunking = chunkings[i], opt.chunk = 16, opt.step_ms = 1;
        g = must_open(&opt);
        rf_request_params p = params(tokens, 100, 30);
        run(g, &p, &got);
        if (i == 0) want = got;
        assert_memory_equal(got.id, want.id, sizeof got.id);
        rf_stats s;
        rf_engine_stats(g, &s);
        assert_int_equal(s.parallel, 4);
        assert_int_equal(s.queue, 1000);
        assert_int_equal(s.page_tokens, 16);
        rf_engine_close(g);
    }
}

/* --- limits --------------------------------------------------------------------------------------------------------------------- */

static void test_a_full_queue_refuses(void **state) {
    (void)state;
    rf_engine_options opt = usual();
    opt.parallel = 1, opt.queue = 2;
    rf_engine *g = must_open(&opt);
    int32_t tokens[10];
    make_tokens(tokens, 10, 1);
    static report a[3], extra;
    rf_request *q[3], *none = NULL;
    rf_error e;
    for (uint32_t round = 0; round < 3; round++) {
        rf_request_params p = params(tokens, 10, -1);
        p.ignore_eos = true;
        for (uint32_t i = 0; i < 3; i++) q[i] = must_start(g, &p, &a[i]);
        bool taken = rf_request_start(&none, g, &p, on_event, &extra, &e);
        if (!taken) {
            assert_string_equal(e.code, "request.queue_full");
            assert_int_equal(e.http, 429);
            assert_true(e.retry);
            assert_null(none);
        }
        for (uint32_t i = 0; i < 3; i++) rf_request_cancel(q[i]);
        for (uint32_t i = 0; i < 3; i++) rf_request_free(q[i]);
        rf_request_free(none);
        none = NULL;
        rf_stats s;
        rf_engine_stats(g, &s);
        assert_int_equal(s.running + s.waiting, 0);
        run(g, &p, &a[0]); /* and there is room again */
        assert_int_equal(a[0].end.finish, RF_FINISH_LENGTH);
    }
    rf_engine_close(g);
}

static void test_a_deadline_ends_a_request(void **state) {
    (void)state;
    rf_engine_options opt = usual();
    rf_engine *g = must_open(&opt);
    int32_t tokens[CONTEXT];
    make_tokens(tokens, CONTEXT, 1);
    report a = {0};
    rf_request_params p = params(tokens, 200, -1);
    p.timeout_us = 1;
    run(g, &p, &a);
    assert_string_equal(a.code, "request.timeout");
    p.timeout_us = -1;
    rf_request *q;
    rf_error e;
    assert_false(rf_request_start(&q, g, &p, on_event, &a, &e));
    assert_string_equal(e.code, "usage.range");
    p.timeout_us = 0;
    run(g, &p, &a);
    assert_int_equal(a.end.finish, RF_FINISH_LENGTH);
    rf_engine_close(g);
}

/* --- the cache ------------------------------------------------------------------------------------------------------------------- */

static void test_figures_of_the_cache(void **state) {
    (void)state;
    rf_engine_options opt = usual();
    rf_engine *g = must_open(&opt);
    int32_t tokens[100];
    make_tokens(tokens, 100, 1);
    report a = {.g = g}, b = {.g = g};
    rf_request_params p = params(tokens, 100, 10);
    run(g, &p, &a);
    assert_int_equal(a.first_done, 0);
    assert_int_equal(a.end.n_cached, 0);
    run(g, &p, &b);
    assert_int_equal(b.first_done, 99);
    assert_int_equal(b.end.n_cached, 99);
    assert_int_equal(b.at_end.running + b.at_end.waiting, 0); /* seen by whoever is told of the end */
    assert_int_equal(b.at_end.generated_tokens, 20);
    assert_memory_equal(a.id, b.id, sizeof a.id);
    rf_stats s;
    rf_engine_stats(g, &s);
    assert_int_equal(s.prompt_tokens, 200);
    assert_int_equal(s.cached_tokens, 99);
    assert_int_equal(s.prefix_hits, 99);
    assert_int_equal(s.prefix_queries, 198);
    assert_int_equal(s.tokens_computed, 100 + 9 + 1 + 9);
    assert_int_equal(s.pages_used, 0);
    assert_int_equal(s.pages_total, 4 * CONTEXT / 16);
    assert_true(s.pages_cached >= 7);
    p.no_cache = true;
    run(g, &p, &b);
    assert_int_equal(b.end.n_cached, 0);
    rf_engine_close(g);
    opt.no_prefix_cache = true;
    g = must_open(&opt);
    for (uint32_t i = 0; i < 2; i++) {
        b.g = NULL;
        run(g, &p, &b);
        assert_int_equal(b.end.n_cached, 0);
    }
    rf_engine_close(g);
}

/* What one engine computed another finds in the folder, in another process's life; not with another model or page type. */
static void test_pages_survive_the_engine(void **state) {
    (void)state;
    char dir[] = "/tmp/rf-serving-XXXXXX", command[64], other_path[TINY_PATH];
    assert_non_null(mkdtemp(dir));
    int32_t tokens[200];
    make_tokens(tokens, 200, 1);
    rf_request_params p = params(tokens, 200, 10);
    report want = {0}, got = {0};
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    shape.seed = 2;
    tiny_gguf_write(&shape, other_path);
    rf_model *other, *first = model;
    assert_true(rf_model_open(&other, other_path, NULL));
    for (uint32_t i = 0; i < 4; i++) {
        rf_engine_options opt = usual();
        opt.kv_cache_dir = dir;
        if (i == 2) opt.cache_type_k = "f32";
        model = i == 3 ? other : first;
        rf_engine *g = must_open(&opt);
        run(g, &p, &got);
        if (i == 0) want = got;
        assert_int_equal(got.end.n_cached, i == 1 ? 192 : 0);
        if (i == 1) assert_memory_equal(got.id, want.id, sizeof got.id);
        rf_stats s;
        rf_engine_stats(g, &s);
        assert_int_equal(s.disk_loaded, i == 1 ? 12 : 0);
        assert_int_equal(s.disk_dropped, 0);
        rf_engine_close(g);
        model = first;
    }
    rf_model_close(other);
    unlink(other_path);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* --- embeddings -------------------------------------------------------------------------------------------------------------------- */

static void test_embeddings_do_not_depend_on_chunks(void **state) {
    (void)state;
    int32_t tokens[150];
    make_tokens(tokens, 150, 4);
    report want = {0}, got = {0};
    for (uint32_t i = 0; i < 4; i++) {
        static const uint32_t rows[] = {1, 4, 33, 64}, ubatch[] = {16, 64, 64, 150};
        rf_engine_options opt = usual();
        opt.logits_rows = rows[i], opt.ubatch = ubatch[i];
        rf_engine *g = must_open(&opt);
        rf_request_params p = params(tokens, 150, 10);
        p.embedding = true;
        run(g, &p, &got);
        assert_int_equal(got.end.finish, RF_FINISH_LENGTH);
        assert_int_equal(got.n_ids, 0);
        assert_int_equal(got.n_embd, rf_model_n_embd(model));
        if (i == 0) want = got;
        assert_memory_equal(got.mean, want.mean, sizeof got.mean);
        p.n_tokens = 149;
        run(g, &p, &got);
        assert_memory_not_equal(got.mean, want.mean, sizeof got.mean);
        rf_engine_close(g);
    }
    float sum = 0;
    for (uint32_t k = 0; k < 64; k++) sum += want.mean[k] * want.mean[k];
    assert_true(isfinite(sum) && sum > 0);
}

/* --- many threads ---------------------------------------------------------------------------------------------------------------------- */

enum { N_CLIENTS = 4, N_EACH = 10, N_KINDS = 12 };

typedef struct {
    rf_engine *g;
    const report *want;
    uint32_t first;
    atomic_bool wrong;
} client;

static rf_request_params kind_params(uint32_t kind, int32_t *tokens) {
    make_tokens(tokens, 150, kind % 3); /* three beginnings */
    rf_request_params p = params(tokens, 20 + kind * 11, 20 + kind * 5);
    p.ignore_eos = true;
    if (kind % 2) p.temperature = 0.8f, p.seed = kind;
    p.embedding = kind % 6 == 4;
    return p;
}

static void *client_main(void *arg) {
    client *c = arg;
    static _Thread_local report got;
    for (uint32_t i = 0; i < N_EACH; i++) {
        int32_t tokens[150];
        uint32_t kind = (c->first + i * 5) % N_KINDS;
        rf_request_params p = kind_params(kind, tokens);
        got = (report){0};
        rf_request *q;
        if (!rf_request_start(&q, c->g, &p, on_event, &got, NULL)) {
            atomic_store(&c->wrong, true);
            return NULL;
        }
        bool cancel = i % 4 == 3;
        if (cancel) rf_request_cancel(q);
        rf_stats s;
        rf_engine_stats(c->g, &s);
        rf_request_wait(q);
        rf_request_free(q);
        const report *want = &c->want[kind];
        bool whole = got.n_ids == want->n_ids && memcmp(got.mean, want->mean, sizeof got.mean) == 0;
        if (got.n_ends != 1 || (!cancel && !whole)) atomic_store(&c->wrong, true);
        if (memcmp(got.id, want->id, got.n_ids * sizeof got.id[0]) != 0) atomic_store(&c->wrong, true);
        if (s.running > 4 || s.pages_used + s.pages_cached > s.pages_total) atomic_store(&c->wrong, true);
    }
    return NULL;
}

static void test_threads_share_few_pages(void **state) {
    (void)state;
    static report want[N_KINDS];
    rf_engine_options opt = usual();
    rf_engine *g = must_open(&opt);
    for (uint32_t i = 0; i < N_KINDS; i++) {
        int32_t tokens[150];
        rf_request_params p = kind_params(i, tokens);
        run(g, &p, &want[i]);
    }
    rf_engine_close(g);
    opt.kv_tokens = CONTEXT + 64;
    g = must_open(&opt);
    pthread_t t[N_CLIENTS];
    client c[N_CLIENTS];
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        c[i] = (client){.g = g, .want = want, .first = i};
        pthread_create(&t[i], NULL, client_main, &c[i]);
    }
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        pthread_join(t[i], NULL);
        assert_false(c[i].wrong);
    }
    rf_stats s;
    rf_engine_stats(g, &s);
    assert_int_equal(s.running + s.waiting + s.pages_used, 0);
    assert_true(s.evictions > 0);
    rf_engine_close(g);
}

static int set_up(void **state) {
    (void)state;
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    for (int i = 0; i < TINY_FIRST_TEXT; i++) no_specials[i] = (rf_logit_bias){.id = i, .bias = -INFINITY};
    tiny_gguf_write(&shape, model_path);
    return rf_model_open(&model, model_path, NULL) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    rf_model_close(model);
    unlink(model_path);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_a_full_queue_refuses),
        cmocka_unit_test(test_a_deadline_ends_a_request),
        cmocka_unit_test(test_figures_of_the_cache),
        cmocka_unit_test(test_pages_survive_the_engine),
        cmocka_unit_test(test_embeddings_do_not_depend_on_chunks),
        cmocka_unit_test(test_threads_share_few_pages),
    };
    return cmocka_run_group_tests_name("serving", tests, set_up, tear_down);
}
