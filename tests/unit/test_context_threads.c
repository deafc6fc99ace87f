/* The public context store with a model that embeds: search by meaning, both ways merged, and many threads on one store. */
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "context_rig.h"
#include "heap_calls.h"
#include "tiny_gguf.h"

static context_rig rig;
static char path[TINY_PATH], other_path[TINY_PATH];
static rf_model *model, *other;
static rf_engine *engine, *other_engine;

static void open_engine(const tiny_shape *shape, char *at, rf_model **m, rf_engine **g) {
    rf_error e;
    tiny_gguf_write(shape, at);
    const rf_engine_options opt = {.device = "cpu", .context = 256, .parallel = 4, .threads = 1};
    if (!rf_model_open(m, at, &e) || !rf_engine_open(g, *m, &opt, &e)) fail_msg("%s", e.message);
}

static int open_engines(void **state) {
    (void)state;
    tiny_shape shape = tiny_shape_of("llama", QUANT_F32);
    open_engine(&shape, path, &model, &engine);
    shape.seed += 1;
    open_engine(&shape, other_path, &other, &other_engine);
    return 0;
}

static int close_engines(void **state) {
    (void)state;
    rf_engine_close(engine);
    rf_model_close(model);
    rf_engine_close(other_engine);
    rf_model_close(other);
    unlink(path);
    unlink(other_path);
    return 0;
}

static int set_up(void **state) {
    (void)state;
    context_rig_make(&rig);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    context_rig_remove(&rig);
    return 0;
}

static rf_context_hits *search(rf_context *c, rf_context_query q) {
    rf_context_hits *h;
    rf_error e;
    if (!q.vector) q.n_text = strlen(q.text);
    if (!rf_context_search(c, &q, &h, &e)) fail_msg("%s", e.message);
    return h;
}

static void test_search_by_meaning(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, engine);
    static const char *const text[] = {"the cat sat", "rain over hills", "a third thing", "numbers 1 2 3", "the end"};
    int64_t id[5];
    for (int i = 0; i < 5; i++) id[i] = context_add_text(c, i < 3 ? "a" : "b", text[i]);
    for (int i = 0; i < 5; i++) {
        rf_context_hits *h = search(c, (rf_context_query){.text = text[i], .mode = RF_CONTEXT_VECTOR});
        assert_int_equal(h->n, 5);
        assert_int_equal(h->hit[0].message->id, id[i]);
        assert_true(h->hit[0].similarity > 0.99999f && h->hit[0].similarity <= 1); /* 1 is identical */
        assert_true(h->exact);
        for (size_t k = 1; k < 5; k++) assert_true(h->hit[k].similarity <= h->hit[k - 1].similarity);
        assert_int_equal(h->hit[0].found_by, RF_FOUND_VECTOR);
        rf_context_hits_free(h);
    }
    rf_context_hits *h = search(c, (rf_context_query){.text = "the cat sat", .conversation = "b", .k = 2});
    assert_int_equal(h->mode, RF_CONTEXT_HYBRID);
    assert_int_equal(h->n, 2);
    assert_string_equal(h->hit[0].message->conversation, "b");
    assert_string_equal(h->hit[0].message->text, "the end"); /* shares a word, so both lists have it */
    assert_int_equal(h->hit[0].found_by, RF_FOUND_VECTOR | RF_FOUND_WORDS);
    rf_context_hits_free(h);
    h = search(c, (rf_context_query){.text = "rain", .mode = RF_CONTEXT_WORDS, .expand = 1});
    assert_int_equal(h->n, 3);
    for (size_t k = 0; k < 3; k++) assert_false(isnan(h->hit[k].similarity)); /* it has vectors to compare */
    rf_context_hits_free(h);
    rf_context_counts n;
    rf_error e;
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_vectors, 5);
    assert_int_equal(n.n_unembedded + n.n_others, 0);
    assert_int_equal(n.n_embd, rf_model_n_embd(model));
    assert_string_equal(n.index, "small");
    rf_context_close(c);
}

/* The sum of reciprocal ranks, by hand. */
static void test_ranks_are_merged(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, engine);
    for (int i = 0; i < 12; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s %d %s", i % 2 ? "apple" : "pear", i, i % 3 ? "tree" : "pie apple");
        context_add_text(c, NULL, text);
    }
    rf_context_hits *v = search(c, (rf_context_query){.text = "apple pie", .k = 50, .mode = RF_CONTEXT_VECTOR});
    rf_context_hits *w = search(c, (rf_context_query){.text = "apple pie", .k = 50, .mode = RF_CONTEXT_WORDS});
    rf_context_hits *h = search(c, (rf_context_query){.text = "apple pie", .k = 50, .mode = RF_CONTEXT_HYBRID});
    assert_int_equal(h->n, 12);
    double before = 1;
    for (size_t i = 0; i < h->n; i++) {
        double want = 0;
        for (size_t k = 0; k < v->n; k++)
            want += v->hit[k].message->id == h->hit[i].message->id ? 1.0 / (61 + (double)k) : 0;
        for (size_t k = 0; k < w->n; k++)
            want += w->hit[k].message->id == h->hit[i].message->id ? 1.0 / (61 + (double)k) : 0;
        assert_true(fabs(h->hit[i].score - want) < 1e-12 && want <= before);
        before = want;
    }
    rf_context_hits_free(v);
    rf_context_hits_free(w);
    rf_context_hits_free(h);
    rf_context_close(c);
}

static void test_vectors_belong_to_their_model(void **state) {
    (void)state;
    rf_error e;
    rf_context_counts n;
    size_t done;
    rf_context *c = context_rig_open(&rig, engine);
    for (int i = 0; i < 3; i++) context_add_text(c, NULL, "with the first");
    rf_context_close(c);
    c = context_rig_open(&rig, NULL);
    for (int i = 0; i < 4; i++) context_add_text(c, NULL, "with none");
    rf_context_close(c);
    c = context_rig_open(&rig, other_engine);
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_vectors, 0);
    assert_int_equal(n.n_others, 3);
    assert_int_equal(n.n_unembedded, 7);
    rf_context_hits *h = search(c, (rf_context_query){.text = "first", .mode = RF_CONTEXT_VECTOR});
    assert_int_equal(h->n, 0); /* never compared with another model's */
    rf_context_hits_free(h);
    assert_true(rf_context_embed(c, 5, &done, &e));
    assert_int_equal(done, 5);
    assert_true(rf_context_embed(c, 5, &done, &e));
    assert_int_equal(done, 2);
    h = search(c, (rf_context_query){.text = "with none", .k = 7, .mode = RF_CONTEXT_VECTOR});
    assert_int_equal(h->n, 7);
    assert_true(h->hit[0].similarity > 0.99999f);
    rf_context_hits_free(h);
    rf_context_close(c);
    c = context_rig_open(&rig, engine); /* the first one's are still there */
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_vectors, 3);
    assert_int_equal(n.n_others, 7);
    rf_context_close(c);
}

static void test_what_cannot_be_embedded(void **state) {
    (void)state;
    static char text[1000];
    memset(text, 'a', sizeof text);
    rf_context *c = context_rig_open(&rig, engine);
    rf_error e;
    rf_message m[2] = {{.text = "short", .n_text = 5}, {.text = text, .n_text = sizeof text}};
    assert_false(rf_context_add(c, m, 2, NULL, &e));
    assert_string_equal(e.code, "request.context_length");
    rf_context_counts n;
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_messages, 0);
    float v[3] = {1, 0, 0};
    context_add_text(c, NULL, "one");
    rf_context_hits *h;
    assert_false(rf_context_search(c, &(rf_context_query){.vector = v, .n_vector = 3}, &h, &e));
    assert_string_equal(e.code, "usage.range");
    rf_context_close(c);
}

/* --- many threads ------------------------------------------------------------------------------------------------------- */
typedef struct {
    rf_context *c;
    uint64_t seed;
    _Atomic int *writers;
} worker;

static void *read_a_lot(void *arg) {
    worker *w = arg;
    rf_error e;
    for (uint64_t i = 0; atomic_load(w->writers) || i < 5; i++) {
        rf_context_hits *h;
        rf_messages *l;
        rf_context_counts n;
        static const char *const q[] = {"writer 1 says", "message 5", "nothing like it"};
        rf_context_query query = {.text = q[i % 3], .n_text = strlen(q[i % 3]), .k = 4, .expand = (uint32_t)(i % 3)};
        if (!rf_context_search(w->c, &query, &h, &e)) fail_msg("%s", e.message);
        for (size_t k = 1; k < h->n && !h->hit[k].near_id; k++) assert_true(h->hit[k].score <= h->hit[k - 1].score);
        rf_context_hits_free(h);
        if (!rf_context_list(w->c, &(rf_context_filter){.conversation = "c1", .limit = 500}, &l, &e))
            fail_msg("%s", e.message);
        for (size_t k = 1; k < l->n; k++) assert_true(l->item[k].seq > l->item[k - 1].seq);
        rf_messages_free(l);
        assert_true(rf_context_stats(w->c, &n, &e));
        assert_int_equal(n.n_unembedded, 0); /* a message and its vector come together */
    }
    return NULL;
}

static void *write_a_lot(void *arg) {
    worker *w = arg;
    rf_error e;
    const int n = check_sanitized() ? 15 : 40;
    for (int i = 0; i < n; i++) {
        char text[64], conversation[8];
        snprintf(text, sizeof text, "writer %d says message %d", (int)w->seed, i);
        snprintf(conversation, sizeof conversation, "c%d", (int)w->seed);
        int64_t id = context_add_text(w->c, conversation, text);
        if (i % 5 == 4 && !rf_context_delete(w->c, &id, 1, NULL, &e)) fail_msg("%s", e.message);
    }
    atomic_fetch_sub(w->writers, 1);
    return NULL;
}

static void crowd(rf_context *c) {
    enum { WRITERS = 2, READERS = 4 };
    pthread_t t[WRITERS + READERS];
    _Atomic int writers = WRITERS;
    worker w[WRITERS + READERS];
    for (int i = 0; i < WRITERS + READERS; i++) {
        w[i] = (worker){c, (uint64_t)i, &writers};
        assert_int_equal(pthread_create(&t[i], NULL, i < WRITERS ? write_a_lot : read_a_lot, &w[i]), 0);
    }
    for (int i = 0; i < WRITERS + READERS; i++) pthread_join(t[i], NULL);
    rf_context_counts n;
    rf_error e;
    assert_true(rf_context_stats(c, &n, &e));
    assert_int_equal(n.n_messages, WRITERS * (check_sanitized() ? 12 : 32));
    assert_int_equal(n.n_vectors, n.n_messages);
    assert_int_equal(n.n_edges, n.n_messages - WRITERS);
}

static void test_threads_share_a_store(void **state) {
    (void)state;
    rf_context *c = context_rig_open(&rig, engine);
    crowd(c);
    rf_context_close(c);
    rf_error e;
    assert_true(rf_context_open(&c, NULL, &(rf_context_options){.engine = engine}, &e)); /* in memory: one connection */
    crowd(c);
    rf_context_close(c);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_search_by_meaning), TEST(test_ranks_are_merged),
                                       TEST(test_vectors_belong_to_their_model), TEST(test_what_cannot_be_embedded),
                                       TEST(test_threads_share_a_store)};
    return cmocka_run_group_tests(tests, open_engines, close_engines);
}
