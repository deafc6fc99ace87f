/* Vectors and their index: one order of every sum, a graph that finds what is near, survives being saved, and is never
 * believed when it is wrong. */
#include "check.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "backend/cpu/cpu_ops.h"
#include "base/mem.h"
#include "base/rng.h"
#include "context/hnsw.h"
#include "context/index_file.h"
#include "context/search.h"
#include "context/vec.h"
#include "context_rig.h"
#include "heap_calls.h"

enum { D = 24, MOST = 4000 };
static float data[MOST][D];
static context_rig rig;

static void make_data(void) {
    for (size_t i = 0; i < MOST; i++) {
        for (size_t d = 0; d < D; d++) data[i][d] = (float)(rng_unit(5, i * D + d) - 0.5);
        assert_true(vec_normalise(data[i], data[i], D));
    }
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

/* --- sums ------------------------------------------------------------------------------------------------------------- */

/* The definition of vec.h, written once more. */
static float dot_plain(const float *a, const float *b, size_t n) {
    float s[16] = {0};
    for (size_t k = 0; k < n; k++) {
        volatile float product = a[k] * b[k]; /* rounded, then added */
        s[k % 16] += product;
    }
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) s[i] += s[i + step];
    return s[0];
}

static void test_dots_are_one_sum(void **state) {
    (void)state;
    static float x[2100], y[2100];
    for (size_t i = 0; i < 2100; i++) {
        x[i] = (float)((rng_unit(1, i) - 0.5) * exp(20 * (rng_unit(2, i) - 0.5)));
        y[i] = (float)(rng_unit(3, i) - 0.5);
    }
    for (size_t n = 1; n < 2000; n += 1 + n / 7) {
        const float want = dot_plain(x + n % 5, y + n % 3, n);
        const float base = vec_dot_base(x + n % 5, y + n % 3, n);
        if (memcmp(&want, &base, sizeof want)) fail_msg("%d floats: %g, not %g", (int)n, (double)base, (double)want);
        const float best = vec_dot_best()(x + n % 5, y + n % 3, n);
        assert_memory_equal(&base, &best, sizeof base);
    }
}

static void test_avx2_is_the_same_sum(void **state) {
    (void)state;
#ifdef __x86_64__
    if (cpu_tier_best() < TIER_AVX2) skip();
    for (size_t i = 0; i + 70 < MOST; i += 70)
        for (size_t n = 1; n < 60 * D; n += 37) {
            const float a = vec_dot_base(data[i], data[i + 3], n), b = vec_dot_avx2(data[i], data[i + 3], n);
            assert_memory_equal(&a, &b, sizeof a);
        }
#else
    skip();
#endif
}

static void test_lengths_become_one(void **state) {
    (void)state;
    float v[3] = {3e-20f, 0, 4e-20f}, bad[2] = {1, NAN}, zero[2] = {0}, huge[2] = {3e38f, 3e38f};
    assert_true(vec_normalise(v, v, 3));
    assert_true(fabsf(v[0] - 0.6f) < 1e-6f && fabsf(v[2] - 0.8f) < 1e-6f);
    assert_true(vec_normalise(huge, huge, 2));
    assert_false(vec_normalise(bad, bad, 2) || vec_normalise(zero, zero, 2));
    for (size_t i = 0; i < MOST; i += 13) {
        float same = vec_similarity(data[i], data[i], D);
        assert_true(same <= 1 && same > 0.999999f); /* a similarity: 1 is identical */
    }
}

/* --- the graph -------------------------------------------------------------------------------------------------------- */

static hnsw *graph_of(size_t n) {
    hnsw *h;
    err e;
    assert_int_equal(hnsw_new(&h, D, 10, vec_dot_best(), &e), OK); /* it grows many times */
    for (size_t i = 0; i < n; i++)
        if (hnsw_add(h, i + 1, data[i], &e)) fail_msg("%s", e.text);
    return h;
}

/* How many of the true 10 nearest living ones of the first n are found, of 50 queries. */
static double recall(hnsw *h, size_t n) {
    size_t hits = 0, all = 0;
    for (size_t q = 0; q < 50; q++) {
        near_list best;
        hnsw_near found[10];
        size_t n_found;
        err e;
        const float *v = data[MOST - 1 - q];
        assert_true(near_open(&best, 10));
        for (size_t i = 0; i < n; i++)
            if (hnsw_has(h, i + 1)) near_put(&best, (int64_t)i + 1, vec_dot_best()(v, data[i], D));
        assert_int_equal(hnsw_search(h, v, 10, 100, found, &n_found, &e), OK);
        for (size_t i = 0; i < n_found; i++) {
            assert_true(hnsw_has(h, found[i].label));
            assert_true(i == 0 || found[i].similarity <= found[i - 1].similarity);
            for (size_t k = 0; k < best.n; k++) hits += best.item[k].id == (int64_t)found[i].label;
        }
        all += best.n;
        near_close(&best);
    }
    return (double)hits / (double)all;
}

static void test_the_graph_finds_what_is_near(void **state) {
    (void)state;
    const size_t n = check_sanitized() ? 600 : 3000;
    hnsw *h = graph_of(n);
    err e;
    assert_true(recall(h, n) > 0.97);
    assert_int_equal(hnsw_add(h, 7, data[7], &e), ERR_RANGE);
    for (size_t i = 0; i < n; i += 4) assert_true(hnsw_delete(h, i + 1));
    assert_false(hnsw_delete(h, 1) || hnsw_delete(h, n + 1));
    assert_int_equal(hnsw_deleted(h), (n + 3) / 4);
    assert_true(recall(h, n) > 0.95);
    hnsw_free(h);
}

/* A whole cluster goes and comes again: links of the graph end among deleted nodes only. */
static void test_deleted_clusters(void **state) {
    (void)state;
    hnsw *h;
    err e;
    hnsw_near found[5];
    size_t n;
    float v[D] = {0};
    assert_int_equal(hnsw_new(&h, D, 4, vec_dot_best(), &e), OK);
    assert_int_equal(hnsw_search(h, data[0], 5, 50, found, &n, &e), OK);
    assert_int_equal(n, 0);
    uint64_t label = 0;
    for (int round = 0; round < 3; round++) {
        const uint64_t first = label + 1;
        for (size_t i = 0; i < 200; i++) {
            memcpy(v, data[i], sizeof v);
            v[round] += 100; /* far from the others, near each other */
            assert_true(vec_normalise(v, v, D));
            assert_int_equal(hnsw_add(h, ++label, v, &e), OK);
        }
        if (round < 2)
            for (uint64_t l = first; l <= label; l++) assert_true(hnsw_delete(h, l));
    }
    assert_int_equal(hnsw_search(h, v, 5, 100, found, &n, &e), OK);
    assert_int_equal(n, 5);
    assert_true(found[0].similarity > 0.9999f);
    for (int i = 0; i < 300; i++) assert_int_equal(hnsw_add(h, ++label, data[0], &e), OK); /* all alike */
    hnsw_free(h);
}

typedef struct {
    char *p;
    size_t n, cap, most;
} bytes;

static bool put_bytes(void *user, const void *p, size_t n) {
    bytes *b = user;
    if (b->n + n > b->most) return false;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return true;
}

static const float *vector_of(void *user, uint64_t label) {
    const uint64_t *missing = user;
    return label == 0 || label > MOST || (missing && label % *missing == 0) ? NULL : data[label - 1];
}

static void test_a_saved_graph_is_the_same(void **state) {
    (void)state;
    enum { N = 500 };
    hnsw *h = graph_of(N), *back;
    err e;
    for (uint64_t l = 3; l < N; l += 5) hnsw_delete(h, l);
    bytes b = {.most = hnsw_saved_bytes(h), .p = malloc(hnsw_saved_bytes(h))};
    assert_int_equal(hnsw_save(h, put_bytes, &b, &e), OK);
    assert_int_equal(b.n, b.most);
    if (hnsw_load(&back, b.p, b.n, D, vec_dot_best(), vector_of, NULL, &e)) fail_msg("%s", e.text);
    assert_int_equal(hnsw_count(back), N);
    assert_int_equal(hnsw_deleted(back), hnsw_deleted(h));
    for (size_t i = 0; i < 100; i++) {
        hnsw_near x[10], y[10];
        size_t n, m;
        assert_int_equal(hnsw_search(h, data[MOST - 1 - i], 10, 50, x, &n, &e), OK);
        assert_int_equal(hnsw_search(back, data[MOST - 1 - i], 10, 50, y, &m, &e), OK);
        assert_int_equal(n, m);
        for (size_t j = 0; j < n; j++) assert_true(x[j].label == y[j].label && x[j].similarity == y[j].similarity);
    }
    for (size_t i = N; i < N + 100; i++) assert_int_equal(hnsw_add(back, i + 1, data[i], &e), OK);
    hnsw_free(back);
    uint64_t seventh = 7; /* rows that have gone since */
    assert_int_equal(hnsw_load(&back, b.p, b.n, D, vec_dot_best(), vector_of, &seventh, &e), OK);
    assert_false(hnsw_has(back, 14));
    assert_true(recall(back, N) > 0.9);
    hnsw_free(back);
    b.n = 0, b.most /= 2; /* the disk is full */
    assert_int_equal(hnsw_save(h, put_bytes, &b, &e), ERR_IO);
    hnsw_free(h);
    free(b.p);
}

/* Every length, and bits anywhere: refused, or a graph that can be asked and added to. */
static void test_a_damaged_graph_is_harmless(void **state) {
    (void)state;
    hnsw *h = graph_of(60), *back;
    err e;
    bytes b = {.most = hnsw_saved_bytes(h), .p = malloc(hnsw_saved_bytes(h))};
    assert_int_equal(hnsw_save(h, put_bytes, &b, &e), OK);
    hnsw_free(h);
    for (size_t n = 0; n < b.n; n += 1 + n / 50)
        assert_int_equal(hnsw_load(&back, b.p, n, D, vec_dot_best(), vector_of, NULL, &e), ERR_RANGE);
    size_t n_taken = 0;
    const size_t n_flips = check_sanitized() ? 300 : 3000;
    for (size_t i = 0; i < n_flips; i++) {
        const size_t at = rng_u64(9, i) % b.n;
        const char bit = (char)(1 << rng_u64(10, i) % 8);
        b.p[at] ^= bit;
        if (!hnsw_load(&back, b.p, b.n, D, vec_dot_best(), vector_of, NULL, &e)) {
            hnsw_near found[10];
            size_t n;
            n_taken++;
            status asked = hnsw_search(back, data[i], 10, 50, found, &n, &e);
            status added = hnsw_add(back, 3999, data[3998], &e);
            assert_true((asked == OK || asked == ERR_NOMEM) && (added == OK || added == ERR_NOMEM));
            hnsw_free(back);
        }
        b.p[at] ^= bit;
    }
    assert_true(n_taken < n_flips);
    free(b.p);
}

/* --- kept in step with rows --------------------------------------------------------------------------------------------- */
typedef struct {
    store *s;
    vector_index *x;
    vector_model m;
    int64_t message[MOST];
} kept;

static void keep_notice(void *user, const char *line) {
    context_rig *r = user;
    if (r->n_notices < 8) snprintf(r->notice[r->n_notices++], sizeof r->notice[0], "%s", line);
}

static void kept_open(kept *k) {
    err e;
    const store_options o = {.notice = keep_notice, .user = &rig};
    if (store_open(&k->s, rig.db, &o, &e) || index_open(&k->x, k->s, &e)) fail_msg("%s", e.text);
}

static void kept_close(kept *k) {
    index_close(k->x);
    store_close(k->s);
}

static void kept_add(kept *k, size_t from, size_t to) {
    err e;
    sql_conn *c;
    const uint8_t identity[VECTOR_IDENTITY] = {1};
    assert_int_equal(store_write(k->s, &c, &e), OK);
    status s = vectors_model(c, identity, D, true, &k->m, &e);
    for (size_t i = from; !s && i < to; i++) {
        context_message m = {.text = "t",
                             .n_text = 1,
                             .time_us = 1,
                             .role = "user",
                             .conversation = i % 10 ? "many" : "few",
                             .metadata = "{}"};
        s = rows_add(c, &m, &k->message[i], &e);
        if (!s) s = vectors_add(c, &k->m, k->message[i], data[i], &e);
    }
    if (store_commit(k->s, c, s, &e)) fail_msg("%s", e.text);
}

static void kept_delete(kept *k, size_t from, size_t to, size_t step) {
    err e;
    sql_conn *c;
    assert_int_equal(store_write(k->s, &c, &e), OK);
    status s = OK;
    bool there = true;
    for (size_t i = from; !s && there && i < to; i += step) s = rows_delete(c, k->message[i], &there, &e);
    if (store_commit(k->s, c, s, &e) || !there) fail_msg("%s", e.text);
}

static void settle(kept *k) {
    index_kick(k->x, &k->m);
    index_settle(k->x);
}

static index_status status_now(kept *k) {
    index_status s;
    index_get_status(k->x, MOST, &s);
    return s;
}

static void search(kept *k, vector_index *x, const float *v, const char *conversation, search_hits *out) {
    err e;
    sql_conn *c;
    search_query q = {
        .mode = SEARCH_VECTOR, .vector = v, .model = k->m, .k = 10, .index = x, .filter.conversation = conversation};
    assert_int_equal(store_read(k->s, &c, &e), OK);
    if (search_rows(c, &q, out, &e)) fail_msg("%s", e.text);
    store_read_end(k->s, c);
}

/* The index's answers against those of comparing all; each of its hits is a row with its true similarity. */
static double agreement(kept *k, const char *conversation, bool *exact) {
    size_t same = 0, all = 0;
    *exact = true;
    for (size_t i = 0; i < 30; i++) {
        search_hits a, b;
        search(k, k->x, data[MOST - 1 - i], conversation, &a);
        search(k, NULL, data[MOST - 1 - i], conversation, &b);
        assert_true(b.exact);
        *exact = *exact && a.exact;
        assert_int_equal(a.n, b.n);
        for (size_t j = 0; j < a.n; j++)
            for (size_t l = 0; l < b.n; l++)
                if (a.hit[j].id == b.hit[l].id) {
                    same++;
                    assert_memory_equal(&a.hit[j].similarity, &b.hit[l].similarity, sizeof(float));
                }
        all += b.n;
        search_close(&a);
        search_close(&b);
    }
    return (double)same / (double)all;
}

static void test_the_index_keeps_step(void **state) {
    (void)state;
    kept k;
    bool exact;
    kept_open(&k);
    kept_add(&k, 0, INDEX_SMALL - 1);
    settle(&k);
    assert_true(agreement(&k, NULL, &exact) == 1 && exact);
    kept_add(&k, INDEX_SMALL - 1, 2400);
    settle(&k);
    assert_string_equal(status_now(&k).state, "ready");
    assert_int_equal(status_now(&k).n_indexed, 2400);
    assert_true(agreement(&k, NULL, &exact) > 0.97 && !exact);
    kept_add(&k, 2400, 2500); /* not in the graph yet, or just so: found all the same */
    search_hits h;
    search(&k, k.x, data[2450], NULL, &h);
    assert_int_equal(h.hit[0].id, k.message[2450]);
    assert_true(h.hit[0].similarity > 0.999999f);
    search_close(&h);
    kept_delete(&k, 0, 500, 1); /* and not taken out yet, or just so */
    assert_true(agreement(&k, NULL, &exact) > 0.97);
    settle(&k);
    assert_int_equal(status_now(&k).n_deleted, 500); /* a fifth */
    assert_true(agreement(&k, "few", &exact) > 0.9); /* filters find k of them, or compare all */
    kept_delete(&k, 500, 1100, 1);
    settle(&k); /* more than 30 %: built anew */
    assert_int_equal(status_now(&k).n_deleted, 0);
    assert_int_equal(status_now(&k).n_indexed, 1400);
    assert_true(agreement(&k, NULL, &exact) > 0.97);
    kept_close(&k);
    assert_int_equal(rig.n_notices, 0);
}

static void write_index(kept *k) {
    kept_open(k);
    kept_add(k, 0, 2100);
    settle(k);
    kept_close(k);
    assert_int_equal(access(rig.index, F_OK), 0);
}

static void test_a_saved_index_is_used(void **state) {
    (void)state;
    kept k;
    bool exact;
    write_index(&k);
    kept_open(&k);
    kept_add(&k, 2100, 2110);
    kept_delete(&k, 0, 20, 1);
    kept_close(&k); /* without the index having heard of it */
    kept_open(&k);
    settle(&k);
    assert_string_equal(status_now(&k).state, "ready");
    assert_int_equal(status_now(&k).n_indexed, 2110); /* loaded, then brought up: built anew it were 2090 */
    assert_int_equal(status_now(&k).n_deleted, 20);
    assert_true(agreement(&k, NULL, &exact) > 0.97 && !exact);
    kept_close(&k);
    assert_int_equal(rig.n_notices, 0);
}

static void test_a_wrong_index_is_built_again(void **state) {
    (void)state;
    kept k;
    bool exact;
    write_index(&k);
    const size_t size = context_file_size(rig.index);
    const int n_flips = check_sanitized() ? 4 : 12;
    for (int i = 0; i < n_flips; i++) {
        rig.n_notices = 0;
        context_flip(rig.index, i < 4 ? (size_t)(20 * i) : rng_u64(3, (uint64_t)i) % size, 16);
        kept_open(&k);
        settle(&k);
        assert_string_equal(status_now(&k).state, "ready");
        assert_true(agreement(&k, NULL, &exact) > 0.97);
        kept_close(&k); /* saves a good one */
        assert_int_equal(rig.n_notices, 1);
        if (!strstr(rig.notice[0], "built again")) fail_msg("%s", rig.notice[0]);
    }
    assert_int_equal(truncate(rig.index, (off_t)size / 2), 0);
    kept_open(&k);
    settle(&k);
    assert_string_equal(status_now(&k).state, "ready");
    kept_close(&k);
}

/* The rows are put back from an older copy, and go on differently: the index of the other rows is not theirs. */
static void test_an_index_of_other_rows(void **state) {
    (void)state;
    kept k;
    bool exact;
    char copy[400];
    kept_open(&k);
    kept_add(&k, 0, 2050);
    kept_close(&k);
    snprintf(copy, sizeof copy, "cp %s %s.copy", rig.db, rig.db);
    assert_int_equal(system(copy), 0);
    kept_open(&k);
    kept_add(&k, 2050, 2150);
    settle(&k);
    kept_close(&k);
    snprintf(copy, sizeof copy, "mv %s.copy %s", rig.db, rig.db);
    assert_int_equal(system(copy), 0);
    kept_open(&k);
    kept_add(&k, 2200, 2300); /* other vectors with the same numbers */
    kept_delete(&k, 10, 40, 1);
    settle(&k);
    assert_string_equal(status_now(&k).state, "ready");
    assert_true(agreement(&k, NULL, &exact) > 0.97 && !exact);
    for (size_t i = 2200; i < 2300; i += 9) {
        search_hits h;
        search(&k, k.x, data[i], NULL, &h);
        assert_int_equal(h.hit[0].id, k.message[i]);
        search_close(&h);
    }
    kept_close(&k);
}

static void test_clear_takes_the_vectors(void **state) {
    (void)state;
    kept k;
    write_index(&k);
    assert_true(context_rig_holds(&rig, data[100], sizeof data[0]));
    rf_context *c = context_rig_open(&rig, NULL);
    rf_error e;
    rf_context_settle(c);
    assert_true(rf_context_clear(c, NULL, NULL, &e));
    for (size_t i = 0; i < 2100; i += 10) assert_false(context_rig_holds(&rig, data[i], sizeof data[0]));
    assert_int_equal(access(rig.index, F_OK), -1);
    rf_context_settle(c);
    rf_context_counts n;
    assert_true(rf_context_stats(c, &n, &e));
    assert_string_equal(n.index, "none");
    assert_int_equal(n.n_vectors + n.n_indexed, 0);
    rf_context_close(c);
    assert_int_equal(access(rig.index, F_OK), -1);
}

/* --- many at once ------------------------------------------------------------------------------------------------------- */
typedef struct {
    kept *k;
    _Atomic bool stop;
    _Atomic int64_t last; /* index of the newest vector that was committed */
    _Atomic uint64_t n_searches;
} crowd;

static void *reader(void *arg) {
    crowd *w = arg;
    for (uint64_t i = 0; !atomic_load(&w->stop); i++) {
        search_hits h;
        const size_t want =
            i % 2 ? (size_t)atomic_load(&w->last) : 1500 + rng_u64(4, i) % 500; /* none of them is deleted */
        search(w->k, w->k->x, data[want], i % 3 ? NULL : want % 10 ? "many" : "few", &h);
        assert_true(h.n > 0);
        assert_int_equal(h.hit[0].id, w->k->message[want]); /* what was acknowledged is found */
        search_close(&h);
        atomic_fetch_add(&w->n_searches, 1);
    }
    return NULL;
}

static void test_readers_and_a_writer(void **state) {
    (void)state;
    static kept k;
    static crowd w;
    pthread_t t[4];
    w = (crowd){.k = &k};
    kept_open(&k);
    kept_add(&k, 0, 2100);
    atomic_store(&w.last, 2099);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, reader, &w), 0);
    index_kick(k.x, &k.m); /* it is built meanwhile */
    for (size_t i = 2100; i < 2400; i++) {
        kept_add(&k, i, i + 1);
        atomic_store(&w.last, (int64_t)i);
        index_kick(k.x, &k.m);
        if (i % 3 == 0) kept_delete(&k, i - 2100, i - 2099, 1);
    }
    index_settle(k.x);
    for (uint64_t n = atomic_load(&w.n_searches); atomic_load(&w.n_searches) < n + 40;) usleep(1000);
    atomic_store(&w.stop, true);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    bool exact;
    settle(&k);
    assert_true(agreement(&k, NULL, &exact) > 0.97 && !exact);
    kept_close(&k);
}

int main(void) {
    make_data();
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(test_dots_are_one_sum),
                                       TEST(test_avx2_is_the_same_sum),
                                       TEST(test_lengths_become_one),
                                       TEST(test_the_graph_finds_what_is_near),
                                       TEST(test_deleted_clusters),
                                       TEST(test_a_saved_graph_is_the_same),
                                       TEST(test_a_damaged_graph_is_harmless),
                                       TEST(test_the_index_keeps_step),
                                       TEST(test_a_saved_index_is_used),
                                       TEST(test_a_wrong_index_is_built_again),
                                       TEST(test_an_index_of_other_rows),
                                       TEST(test_clear_takes_the_vectors),
                                       TEST(test_readers_and_a_writer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
