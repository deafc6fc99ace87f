/* One request, one text: whatever runs beside it, however its prompt is cut, whatever of it the cache knew, and however
 * often it made room for others. Everything is compared, bit for bit, with the request alone and uncached. */
#include "check.h"

#include "heap_calls.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "sched_rig.h"

/* --- a mixed crowd ---------------------------------------------------------------------------------------------------------- */

/* Prompts of a few beginnings, of any length, some the same to the last token; greedy and sampled, with stop strings, with
 * penalties; some for logits or an embedding, some that want no cache. */
enum { CROWD = 48, GOLDEN = 5 /* a greedy one, which comes again and again */ };

static void make_params(uint32_t i, int32_t *tokens, sched_params *p) {
    static const char *const stops[] = {"\"", "Z", "ab"};
    uint32_t n_stem = 1 + (uint32_t)(rng_u64(5, i) % 420), n_tail = i % 3 ? (uint32_t)(rng_u64(6, i) % 9) : 0;
    rig_tokens(tokens, n_stem, 100 + i % 4);
    rig_tokens(tokens + n_stem, n_tail, 200 + i);
    *p = rig_params(tokens, n_stem + n_tail, 1 + (int64_t)(rng_u64(7, i) % 40));
    if (i % 2) p->sampling.temperature = 0.9f, p->sampling.seed = i;
    if (i % 5 == 3) p->sampling.repeat_penalty = 1.2f, p->sampling.frequency_penalty = 0.1f;
    if (i % 4 == 2) p->stop = stops, p->n_stop = 3;
    if (i % 16 == 7) rig_want_logits(p);
    if (i % 16 == 11) rig_want_embedding(p);
    p->no_cache = i % 13 == 4;
}

static told alone[CROWD];

static int run_alone(void **state) {
    (void)state;
    int32_t tokens[RIG_CONTEXT];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 1, .ubatch = 512, .opt = {.no_prefix = true}});
    for (uint32_t i = 0; i < CROWD; i++) {
        sched_params p;
        make_params(i, tokens, &p);
        rig_submit(&r, p, &alone[i]);
        rig_run(&r);
        assert_int_equal(alone[i].t.n_cached, 0);
    }
    sched_rig_close(&r);
    return 0;
}

/* n requests of the crowd, handed in a few at a time while others run; every third is the golden one. */
static void run_crowd(sched_rig *r, uint32_t n, uint64_t dice) {
    static told got[256];
    static uint32_t which[256];
    int32_t tokens[RIG_CONTEXT];
    assert_true(n <= 256);
    for (uint32_t i = 0, step = 0; i < n; step++) {
        for (uint32_t more = (uint32_t)(rng_u64(dice, step) % 6); more > 0 && i < n; more--, i++) {
            sched_params p;
            which[i] = i % 3 == 0 ? GOLDEN : (uint32_t)(rng_u64(dice + 1, i) % CROWD);
            make_params(which[i], tokens, &p);
            got[i].cancel_after = 0;
            rig_submit(r, p, &got[i]);
        }
        rig_step(r);
    }
    rig_run(r);
    for (uint32_t i = 0; i < n; i++) assert_told_equal(&got[i], &alone[which[i]]);
}

static void test_batches_and_chunks(void **state) {
    (void)state;
    static const uint32_t ubatch[] = {16, 32, 64, 128, 256, 512}, parallel[] = {1, 2, 5, 8, 16, 32};
    for (uint32_t k = 0; k < 6; k++)
        for (uint32_t c = CHUNK_ADAPTIVE; c <= CHUNK_NONE; c++) {
            sched_rig r;
            rig_shape shape = {.ubatch = ubatch[k], .parallel = parallel[(k + c) % 6]};
            shape.opt = (sched_options){.chunking = (chunk_strategy)c, .chunk = 16u << (k + c) % 6};
            if (shape.ubatch < shape.parallel) shape.ubatch = shape.parallel;
            sched_rig_open(&r, &shape);
            run_crowd(&r, 96, 1000 + k * 10 + c);
            sched_stats st = rig_stats(&r);
            assert_true(st.cached_tokens > 0 && st.pages_copied > 0);
            assert_int_equal(st.pages_used, 0);
            sched_rig_close(&r);
        }
}

/* One greedy request a thousand times among others: no two texts. Each rig goes on for so long that the cache turns over. */
static void test_a_thousand_golden_runs(void **state) {
    (void)state;
    for (uint32_t k = 0; k < 4; k++) {
        sched_rig r;
        rig_shape shape = {.ubatch = 64u << k, .parallel = 4u << k, .rows = 8u << k, .pages = 45 + 40 * k};
        shape.opt.no_prefix = k == 3;
        sched_rig_open(&r, &shape);
        for (uint32_t round = 0; round < (k && check_sanitized() ? 1 : 3); round++)
            run_crowd(&r, 252, 2000 + k * 10 + round);
        sched_stats st = rig_stats(&r);
        if (k == 0) assert_true(st.preemptions > 10 && st.prefix.evictions > 100);
        if (k == 3) assert_int_equal(st.cached_tokens, 0);
        sched_rig_close(&r);
    }
}

/* As few pages as there can be, and sequences that grow long: all but the oldest are put back again and again. What was
 * shown is not shown again, what a stop string may begin with is still held back, characters stay whole. */
static void test_forced_preemption(void **state) {
    (void)state;
    enum { N = 24 };
    static told want[N], got[N];
    static const char *const stops[] = {"never in this text", "~~~~"};
    int32_t tokens[RIG_CONTEXT];
    for (uint32_t k = 0; k < 4; k++) {
        sched_rig r, lone;
        rig_shape shape = {.ubatch = 32, .parallel = 16, .pages = RIG_CONTEXT / RIG_PAGE, .opt = {.no_prefix = k % 2}};
        sched_rig_open(&lone, &(rig_shape){.parallel = 1, .opt = {.no_prefix = true}});
        sched_rig_open(&r, &shape);
        for (uint32_t i = 0; i < N; i++) {
            rig_tokens(tokens, 10 + i, 50 + i % 5);
            sched_params p = rig_params(tokens, 10 + i, k < 2 ? 200 : 40 + i * 25);
            if (i % 2) p.sampling.temperature = 1.1f, p.sampling.seed = i;
            p.stop = stops, p.n_stop = 2;
            rig_submit(&lone, p, &want[i]);
            rig_submit(&r, p, &got[i]);
        }
        rig_run(&lone);
        rig_run(&r);
        uint32_t n_preempted = 0;
        for (uint32_t i = 0; i < N; i++) {
            assert_told_equal(&got[i], &want[i]);
            n_preempted += got[i].t.n_preempted;
        }
        assert_int_equal(got[0].t.n_preempted, 0); /* the oldest never */
        assert_true(n_preempted >= 10);
        assert_int_equal(rig_stats(&r).preemptions, n_preempted);
        sched_rig_close(&r);
        sched_rig_close(&lone);
    }
}

/* Those that want a row at every position get each once, also when they were put back in the middle. */
static void test_rows_after_preemption(void **state) {
    (void)state;
    int32_t tokens[100];
    for (uint32_t kind = 0; kind < 2; kind++) {
        sched_rig r, lone;
        told a = {0}, b = {0}, want = {0};
        sched_rig_open(&lone, &(rig_shape){.parallel = 1, .rows = 100, .opt = {.no_prefix = true}});
        sched_rig_open(&r, &(rig_shape){.parallel = 2, .rows = 4, .ubatch = 64, .pages = RIG_CONTEXT / RIG_PAGE});
        rig_tokens(tokens, 16, 900);
        rig_submit(&r, rig_params(tokens, 16, -1), &a);
        rig_step(&r);
        rig_tokens(tokens, 100, 901);
        sched_params p = rig_params(tokens, 100, 7);
        kind ? rig_want_embedding(&p) : rig_want_logits(&p);
        rig_submit(&lone, p, &want);
        rig_run(&lone);
        rig_submit(&r, p, &b);
        for (uint32_t i = 0; i < 10; i++) rig_step(&r);
        assert_int_equal(b.n_ends, 0);
        put_back_newest(r.s, r.s->running.first);
        rig_run(&r);
        assert_told_equal(&b, &want);
        assert_int_equal(b.t.n_preempted, 1);
        assert_int_equal(b.n_rows, kind ? 1 : 100);
        sched_rig_close(&r);
        sched_rig_close(&lone);
    }
}

/* ROCMFORGE.md 7g 5b: a request is answered from its own tokens, whoever ran before or runs beside it, also where both begin
 * alike, also in the middle of a page. */
static void test_no_request_sees_anothers_tokens(void **state) {
    (void)state;
    enum { N = 60 };
    static told want[N], got[N];
    int32_t tokens[RIG_CONTEXT];
    sched_rig lone, r;
    sched_rig_open(&lone, &(rig_shape){.parallel = 1, .opt = {.no_prefix = true}});
    sched_rig_open(&r, &(rig_shape){.parallel = 8, .pages = 60});
    for (uint32_t i = 0; i < N; i++) { /* the same 70 tokens but for one, at each place in turn */
        rig_tokens(tokens, 70, 42);
        tokens[10 + i] = tokens[10 + i] == 50 ? 51 : 50;
        sched_params p = rig_params(tokens, 70, 12);
        rig_submit(&lone, p, &want[i]);
        rig_run(&lone);
        rig_submit(&r, p, &got[i]);
        if (i % 5 == 0) rig_step(&r);
    }
    rig_run(&r);
    for (uint32_t i = 0; i < N; i++) assert_told_equal(&got[i], &want[i]);
    assert_true(rig_stats(&r).cached_tokens > N);
    sched_rig_close(&lone);
    sched_rig_close(&r);
}

static void test_neighbours_are_cancelled(void **state) {
    (void)state;
    enum { N = 64 };
    static told got[N];
    int32_t tokens[RIG_CONTEXT];
    for (uint32_t k = 0; k < 3; k++) {
        sched_rig r;
        sched_rig_open(&r, &(rig_shape){.parallel = 8, .ubatch = 48, .pages = k ? 0 : 50});
        for (uint32_t i = 0; i < N; i++) {
            sched_params p;
            make_params(i % CROWD, tokens, &p);
            got[i].cancel_after = i % 4 == 1 ? 1 + i % 7 : 0;
            rig_submit(&r, p, &got[i]);
            if (i % 3 == k) rig_step(&r);
            if (i % 4 == 3 && got[i - 1].q) sched_cancel(got[i - 1].q); /* waiting, reading, or generating */
        }
        rig_run(&r);
        for (uint32_t i = 0; i < N; i++) {
            const told *want = &alone[i % CROWD];
            assert_int_equal(got[i].n_ends, 1);
            if (got[i].finish != FINISH_CANCELLED) assert_told_equal(&got[i], want);
            assert_memory_equal(got[i].id, want->id, got[i].n_ids * sizeof want->id[0]);
        }
        sched_stats st = rig_stats(&r);
        assert_int_equal(st.running + st.waiting + st.pages_used, 0);
        sched_rig_close(&r);
    }
}

/* --- the cache -------------------------------------------------------------------------------------------------------------- */

static void test_hit_in_the_middle_of_a_page(void **state) {
    (void)state;
    int32_t tokens[RIG_CONTEXT];
    sched_rig r, lone;
    told a = {0}, b = {0}, want = {0};
    sched_rig_open(&lone, &(rig_shape){.opt = {.no_prefix = true}});
    for (uint32_t same = 1; same < 60; same += 3) {
        sched_rig_open(&r, &(rig_shape){.parallel = 2});
        rig_tokens(tokens, 60, 31);
        rig_submit(&r, rig_params(tokens, 60, 10), &a);
        rig_run(&r);
        tokens[same] = tokens[same] == 9 ? 10 : 9;
        sched_params p = rig_params(tokens, 60, 10);
        rig_submit(&r, p, &b);
        rig_submit(&lone, p, &want);
        rig_run(&r);
        rig_run(&lone);
        assert_told_equal(&b, &want);
        assert_int_equal(b.t.n_cached, same);
        assert_int_equal(b.first_done, same); /* the first report is what was known */
        assert_int_equal(rig_stats(&r).pages_copied, same % RIG_PAGE != 0);
        sched_rig_close(&r);
    }
    sched_rig_close(&lone);
}

/* A second turn is the first one's prompt and answer and some new tokens: only those are computed. */
static void test_a_second_turn_costs_its_new_tokens(void **state) {
    (void)state;
    int32_t tokens[RIG_CONTEXT];
    sched_rig r;
    told a = {0}, b = {0};
    sched_rig_open(&r, &(rig_shape){.parallel = 2});
    rig_tokens(tokens, 100, 8);
    rig_submit(&r, rig_params(tokens, 100, 33), &a);
    rig_run(&r);
    uint64_t computed = rig_stats(&r).tokens_computed;
    assert_int_equal(computed, 100 + 32); /* the last token's keys nobody wanted */
    memcpy(tokens + 100, a.id, 33 * sizeof tokens[0]);
    rig_tokens(tokens + 133, 20, 9);
    rig_submit(&r, rig_params(tokens, 153, 1), &b);
    rig_run(&r);
    assert_int_equal(b.t.n_cached, 132);
    assert_int_equal(rig_stats(&r).tokens_computed - computed, 21);
    sched_rig_close(&r);
}

/* Choices of one prompt, handed in at once: the first reads it, the others wait for that and go on from there. */
static void test_choices_of_one_prompt_cost_one_prefill(void **state) {
    (void)state;
    enum { N = 6, PROMPT = 200 };
    int32_t tokens[PROMPT];
    told got[N] = {0}, want = {0};
    sched_rig r, lone;
    sched_rig_open(&lone, &(rig_shape){.opt = {.no_prefix = true}});
    sched_rig_open(&r, &(rig_shape){.parallel = 8, .ubatch = 64, .pages = RIG_CONTEXT / RIG_PAGE});
    rig_tokens(tokens, PROMPT, 15);
    for (uint32_t i = 0; i < N; i++) {
        sched_params p = rig_params(tokens, PROMPT, 8);
        p.sampling.temperature = 1, p.sampling.seed = i;
        rig_submit(&r, p, &got[i]);
    }
    rig_run(&r);
    sched_stats st = rig_stats(&r);
    assert_int_equal(st.tokens_computed, PROMPT + (N - 1) + N * 7);
    assert_int_equal(st.cached_tokens, (N - 1) * (PROMPT - 1));
    assert_int_equal(st.waited_prefix, N - 1);
    for (uint32_t i = 0; i < N; i++) {
        sched_params p = rig_params(tokens, PROMPT, 8);
        p.sampling.temperature = 1, p.sampling.seed = i;
        rig_submit(&lone, p, &want);
        rig_run(&lone);
        assert_told_equal(&got[i], &want);
        assert_int_equal(got[i].t.waited_for & SCHED_WAIT_PREFIX, i ? SCHED_WAIT_PREFIX : 0);
    }
    sched_rig_close(&r);
    sched_rig_close(&lone);
}

/* The one that was waited for is cancelled in the middle: the next one reads on from there. */
static void test_the_leader_is_cancelled(void **state) {
    (void)state;
    int32_t tokens[300];
    told got[4] = {0}, want = {0};
    sched_rig r, lone;
    sched_rig_open(&lone, &(rig_shape){.opt = {.no_prefix = true}});
    sched_rig_open(&r, &(rig_shape){.parallel = 4, .ubatch = 40});
    rig_tokens(tokens, 300, 16);
    for (uint32_t i = 0; i < 4; i++) rig_submit(&r, rig_params(tokens, 300, 8), &got[i]);
    rig_step(&r);
    rig_step(&r);
    assert_int_equal(rig_stats(&r).running, 1);
    sched_cancel(got[0].q);
    rig_run(&r);
    assert_int_equal(got[0].finish, FINISH_CANCELLED);
    rig_submit(&lone, rig_params(tokens, 300, 8), &want);
    rig_run(&lone);
    for (uint32_t i = 1; i < 4; i++) assert_told_equal(&got[i], &want);
    assert_int_equal(got[1].t.n_cached, 80);
    assert_int_equal(got[3].t.n_cached, 299);
    sched_rig_close(&r);
    sched_rig_close(&lone);
}

static void test_who_wants_no_cache_gets_none(void **state) {
    (void)state;
    int32_t tokens[100];
    told got = {0};
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 2, .rows = 32});
    rig_tokens(tokens, 100, 4);
    for (uint32_t i = 0; i < 4; i++) {
        sched_params p = rig_params(tokens, 100, 4);
        p.no_cache = i == 1;
        if (i == 2) rig_want_logits(&p);
        if (i == 3) rig_want_embedding(&p);
        rig_submit(&r, p, &got);
        rig_run(&r);
        assert_int_equal(got.t.n_cached, 0);
        assert_int_equal(got.n_rows, i == 2 ? 100 : i == 3);
    }
    sched_rig_close(&r);
}

/* --- the folder -------------------------------------------------------------------------------------------------------------- */

static kv_disk *open_folder(const char *dir, size_t page_bytes) {
    kv_disk_options o = {.dir = dir,
                         .max_bytes = 64 << 20,
                         .identity = {1, 2},
                         .page_tokens = RIG_PAGE,
                         .max_tokens = RIG_CONTEXT,
                         .page_bytes = page_bytes};
    kv_disk *d = NULL;
    err e;
    if (kv_disk_open(&d, &o, &e)) fail_msg("%s", e.text);
    return d;
}

static void test_pages_found_again_on_disk(void **state) {
    (void)state;
    char dir[] = "/tmp/rf-sched-XXXXXX", command[64];
    int32_t tokens[RIG_CONTEXT];
    assert_non_null(mkdtemp(dir));
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 1});
    size_t page_bytes = exec_page_bytes(r.x);
    sched_rig_close(&r);
    for (uint32_t round = 0; round < 3; round++) {
        kv_disk *d = open_folder(dir, page_bytes);
        sched_rig_open(&r, &(rig_shape){.parallel = 4, .ubatch = 64, .opt = {.disk = d}});
        static told got[CROWD];
        for (uint32_t i = 0; i < CROWD; i++) {
            sched_params p;
            make_params(i, tokens, &p);
            rig_submit(&r, p, &got[i]);
            if (i % 2) rig_run(&r);
        }
        rig_run(&r);
        uint32_t n_cached = got[0].t.n_cached + got[1].t.n_cached;
        for (uint32_t i = 0; i < CROWD; i++) assert_told_equal(&got[i], &alone[i]);
        if (round) assert_true(n_cached >= RIG_PAGE && rig_stats(&r).disk.loaded > 10);
        sched_rig_close(&r);
        kv_disk_close(d);
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static int tear_down(void **state) {
    (void)state;
    sched_rig_end();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_and_chunks),
        cmocka_unit_test(test_a_thousand_golden_runs),
        cmocka_unit_test(test_forced_preemption),
        cmocka_unit_test(test_rows_after_preemption),
        cmocka_unit_test(test_no_request_sees_anothers_tokens),
        cmocka_unit_test(test_neighbours_are_cancelled),
        cmocka_unit_test(test_hit_in_the_middle_of_a_page),
        cmocka_unit_test(test_a_second_turn_costs_its_new_tokens),
        cmocka_unit_test(test_choices_of_one_prompt_cost_one_prefill),
        cmocka_unit_test(test_the_leader_is_cancelled),
        cmocka_unit_test(test_who_wants_no_cache_gets_none),
        cmocka_unit_test(test_pages_found_again_on_disk),
    };
    return cmocka_run_group_tests_name("sched_text", tests, run_alone, tear_down);
}
