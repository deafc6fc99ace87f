/* The scheduler's decisions, step by step: who is let in, who waits and why, what a step holds, when requests end. */
#include "check.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sched_rig.h"

/* --- states -------------------------------------------------------------------------------------------------------------- */

static void test_illegal_transitions_are_refused(void **state) {
    (void)state;
    static const bool legal[4][4] = {{0, 1, 0, 1}, {1, 0, 1, 1}, {1, 0, 0, 1}, {0, 0, 0, 0}};
    for (int from = REQUEST_WAITING; from <= REQUEST_DONE; from++)
        for (int to = REQUEST_WAITING; to <= REQUEST_DONE; to++) {
            sched_request r = {.state = (request_state)from};
            err e = {0};
            status rc = request_move(&r, (request_state)to, &e);
            assert_int_equal(rc, legal[from][to] ? OK : ERR_INTERNAL);
            assert_int_equal(r.state, legal[from][to] ? to : from);
            if (rc) assert_non_null(strstr(e.text, "a request cannot go from"));
        }
}

/* --- budgets -------------------------------------------------------------------------------------------------------------- */

/* A machine on which a step costs 10 ms, 1 more for each generation and 0.5 for each token of a prompt. */
static int64_t modelled_us(uint32_t n_decode, uint32_t n_prefill) {
    return 10000 + 1000 * (int64_t)n_decode + 500 * (int64_t)n_prefill;
}

static void test_budget_keeps_steps_short(void **state) {
    (void)state;
    step_cost c = {.token_us = 0};
    assert_int_equal(step_cost_budget(&c, 4, 100000, 512), BUDGET_LEAST); /* nothing known yet */
    for (uint32_t i = 0; i < 40; i++) {
        step_cost_learn(&c, 0, 512, modelled_us(0, 512));
        step_cost_learn(&c, 8, 0, modelled_us(8, 0));
    }
    static const int64_t targets[] = {25000, 30000, 40000, 100000};
    for (uint32_t k = 0; k < 4; k++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < 40; i++) {
            n = step_cost_budget(&c, 8, targets[k], 512);
            step_cost_learn(&c, 8, n, modelled_us(8, n));
        }
        int64_t us = modelled_us(8, n);
        assert_true(n >= BUDGET_LEAST && n <= 512);
        if (n > BUDGET_LEAST) assert_true(us <= targets[k] * 21 / 20);
        assert_true(us <= 3 * modelled_us(8, 0)); /* a stream sees no gap of three times the usual one */
    }
    assert_true(step_cost_budget(&c, 8, 100000, 512) > step_cost_budget(&c, 8, 25000, 512));
    assert_int_equal(step_cost_budget(&c, 8, 1, 512), BUDGET_LEAST); /* prompts always go on */
    assert_int_equal(step_cost_budget(&c, 8, 1, 0), 0);              /* nor more than there is room for */
}

static void test_budget_follows_a_slower_machine(void **state) {
    (void)state;
    step_cost c = {.token_us = 0};
    for (uint32_t i = 0; i < 60; i++) { /* no step without prompts is ever seen again */
        if (i == 0) step_cost_learn(&c, 4, 0, modelled_us(4, 0));
        uint32_t n = step_cost_budget(&c, 4, 30000, 512);
        step_cost_learn(&c, 4, n, (i < 30 ? 1 : 3) * modelled_us(4, n));
    }
    assert_int_equal(step_cost_budget(&c, 4, 30000, 512), BUDGET_LEAST);
    step_cost_learn(&c, 0, 0, 1000);
    step_cost_learn(&c, 4, 16, 0); /* a clock that stood still */
    assert_true(isfinite(c.token_us) && c.token_us > 0);
}

/* ROCMFORGE.md 7g 5: prompts are read in whole chunks, not a token a step; sequences share a step; no step is padded. */
static void test_batching_is_real(void **state) {
    (void)state;
    enum { N = 8 };
    told got[N] = {0};
    int32_t tokens[100];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = N, .ubatch = 512});
    for (uint32_t i = 0; i < N; i++) {
        rig_tokens(tokens, 60, 70 + i);
        rig_submit(&r, rig_params(tokens, 60, 20), &got[i]);
    }
    int64_t t0 = clock_us();
    uint32_t steps = rig_run(&r);
    assert_int_equal(steps, 20); /* all prompts in the first, then a token of everybody in each */
    assert_int_equal(rig_stats(&r).steps, 20);
    assert_true(rig_stats(&r).step_us <= (uint64_t)(clock_us() - t0));
    assert_int_equal(rig_stats(&r).tokens_computed, N * (60 + 19));
    told slow = {0}; /* 50 ms a step would be half a minute; any machine does it in far less */
    rig_submit(&r, rig_params(tokens, 10, 600), &slow);
    t0 = clock_us();
    rig_run(&r);
    assert_true(clock_us() - t0 < 600 * 45000);
    sched_rig_close(&r);
}

static void test_chunks_beside_generations(void **state) {
    (void)state;
    static const chunk_strategy strategies[] = {CHUNK_FIXED, CHUNK_NONE};
    for (uint32_t k = 0; k < 2; k++) {
        told a = {0}, b = {0};
        int32_t tokens[400];
        sched_rig r;
        rig_shape shape = {.ubatch = 128, .parallel = 4};
        shape.opt = (sched_options){.chunking = strategies[k], .chunk = 24};
        sched_rig_open(&r, &shape);
        rig_tokens(tokens, 400, 1);
        rig_submit(&r, rig_params(tokens, 10, 100), &a);
        rig_step(&r);
        rig_tokens(tokens, 400, 2);
        rig_submit(&r, rig_params(tokens, 400, 5), &b);
        for (uint32_t done = 0; done < 400;) {
            uint32_t before = a.n_ids;
            rig_step(&r);
            uint32_t want = k ? 127 : 24, left = 400 - done;
            assert_int_equal(a.n_ids, before + 1); /* a generation never misses a step */
            assert_int_equal(rig_stats(&r).last_batch_tokens, 1 + (want < left ? want : left));
            done = b.last_done;
        }
        rig_run(&r);
        sched_rig_close(&r);
    }
}

/* --- fairness -------------------------------------------------------------------------------------------------------------- */

/* A short prompt behind a long one is read at once; a long one is read on, however many short ones come. */
static void test_long_and_short_prompts_share(void **state) {
    (void)state;
    enum { LONG = 600, SHORT = 14 }; /* the half that is not the oldest one's holds a short one */
    told first = {0}, slow = {0}, quick[100] = {0};
    int32_t tokens[LONG];
    sched_rig r;
    rig_shape shape = {.ubatch = 128, .parallel = 8, .opt = {.chunking = CHUNK_FIXED, .chunk = 32}};
    sched_rig_open(&r, &shape);
    rig_tokens(tokens, 5, 3);
    rig_submit(&r, rig_params(tokens, 5, 600), &first); /* generates all the time */
    rig_step(&r);
    rig_tokens(tokens, LONG, 4);
    rig_submit(&r, rig_params(tokens, LONG, 1), &slow);
    rig_step(&r);
    uint32_t n_quick = 0, steps = 0;
    for (; slow.n_ends == 0; steps++) {
        assert_true(steps < 2 * LONG / 16 + 2); /* half of the budget is the oldest one's */
        rig_tokens(tokens, SHORT, 1000 + n_quick);
        if (n_quick) assert_int_equal(quick[n_quick - 1].n_ends, 1); /* read in the step it came in */
        rig_submit(&r, rig_params(tokens, SHORT, 1), &quick[n_quick++]);
        rig_step(&r);
    }
    assert_true(n_quick > 15);
    sched_cancel(first.q);
    rig_run(&r);
    sched_rig_close(&r);
}

/* --- the queue --------------------------------------------------------------------------------------------------------------- */

static void test_the_queue_is_bounded(void **state) {
    (void)state;
    enum { PARALLEL = 3, QUEUE = 5 };
    told got[PARALLEL + QUEUE] = {0}, extra = {0};
    int32_t tokens[10];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = PARALLEL, .opt = {.queue = QUEUE}});
    rig_tokens(tokens, 10, 1);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < PARALLEL + QUEUE; i++) {
            rig_submit(&r, rig_params(tokens, 10, 50), &got[i]);
            if (i % 2 == round) rig_step(&r);
        }
        sched_params p = rig_params(tokens, 10, 5);
        sched_request *q = (sched_request *)1;
        err e;
        p.user = &extra;
        for (uint32_t i = 0; i < 3; i++) {
            uint64_t live = mem_live();
            assert_int_equal(sched_submit(r.s, &p, &q, &e), ERR_QUEUE_FULL);
            assert_null(q);
            assert_non_null(strstr(e.text, "8 requests"));
            assert_int_equal(mem_live(), live);
            rig_step(&r);
        }
        assert_int_equal(rig_stats(&r).running, PARALLEL);
        assert_int_equal(rig_stats(&r).waiting, QUEUE);
        sched_cancel(got[PARALLEL + QUEUE - 1].q); /* one goes, one may come */
        rig_step(&r);
        told late = {0};
        rig_submit(&r, p, &late);
        rig_run(&r);
        assert_int_equal(late.finish, FINISH_LENGTH);
        assert_int_equal(rig_stats(&r).waiting, 0);
    }
    assert_int_equal(extra.n_ends, 0);
    sched_rig_close(&r);
}

static void test_why_requests_wait(void **state) {
    (void)state;
    told a = {0}, b = {0}, c = {0}, d = {0};
    int32_t tokens[400];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 2, .pages = RIG_CONTEXT / RIG_PAGE});
    rig_tokens(tokens, 400, 1);
    rig_submit(&r, rig_params(tokens, 400, 20), &a);
    rig_step(&r);
    rig_tokens(tokens, 400, 2);
    rig_submit(&r, rig_params(tokens, 400, 20), &b); /* a place, but not its pages */
    rig_submit(&r, rig_params(tokens, 4, 2), &c);    /* behind it */
    rig_step(&r);
    sched_stats st = rig_stats(&r);
    assert_int_equal(st.running, 1);
    assert_int_equal(st.waiting, 2);
    assert_int_equal(st.waited_kv, 1);
    assert_int_equal(st.waited_queue, 1);
    rig_run(&r);
    assert_int_equal(a.t.waited_for, 0);
    assert_int_equal(b.t.waited_for, SCHED_WAIT_KV);
    assert_int_equal(c.t.waited_for, SCHED_WAIT_QUEUE);
    assert_true(b.t.queue_us > a.t.queue_us);
    rig_submit(&r, rig_params(tokens, 4, 20), &a);
    rig_submit(&r, rig_params(tokens + 9, 4, 30), &b);
    rig_submit(&r, rig_params(tokens, 9, 20), &c);
    rig_submit(&r, rig_params(tokens, 7, 20), &d);
    rig_run(&r);
    assert_int_equal(a.t.waited_for | b.t.waited_for, 0);
    assert_int_equal(c.t.waited_for, SCHED_WAIT_BATCH);
    assert_int_equal(d.t.waited_for, SCHED_WAIT_QUEUE | SCHED_WAIT_BATCH);
    assert_int_equal(rig_stats(&r).waited_batch, 2);
    sched_rig_close(&r);
}

/* Submitted first, let in first. */
static void test_first_come_first_served(void **state) {
    (void)state;
    enum { N = 30 };
    told got[N] = {0};
    int32_t tokens[100];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 2});
    for (uint32_t i = 0; i < N; i++) {
        rig_tokens(tokens, 20, i);
        rig_submit(&r, rig_params(tokens, 5 + i * 7 % 15, 3), &got[i]);
    }
    uint32_t n_in = 0;
    while (sched_has_work(r.s)) {
        rig_step(&r);
        for (uint32_t i = 0; i < N; i++) {
            if (got[i].prompt_calls == 0) break;
            if (i == n_in) n_in++;
        }
        for (uint32_t i = n_in; i < N; i++) assert_int_equal(got[i].prompt_calls, 0);
    }
    assert_int_equal(n_in, N);
    sched_rig_close(&r);
}

/* --- ends ---------------------------------------------------------------------------------------------------------------------- */

/* Past its deadline a request fails in the next step, whatever it was at; the others do not notice. */
static void test_deadlines(void **state) {
    (void)state;
    static const char *const doing[] = {"waiting", "reading its prompt", "generating"};
    told want = {0};
    int32_t tokens[400];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 2, .ubatch = 32});
    rig_tokens(tokens, 400, 1);
    rig_submit(&r, rig_params(tokens, 5, 60), &want);
    rig_run(&r);
    for (int phase = REQUEST_WAITING; phase <= REQUEST_DECODE; phase++) {
        told a = {0}, b = {0}, late = {0};
        rig_submit(&r, rig_params(tokens, 5, 60), &a);
        rig_tokens(tokens, 400, 10);
        if (phase == REQUEST_WAITING) rig_submit(&r, rig_params(tokens, 7, 60), &b);
        rig_tokens(tokens, 400, 20 + (uint64_t)phase);
        sched_params p = rig_params(tokens, phase == REQUEST_PREFILL ? 400 : 6, 60);
        p.timeout_us = 3600 * INT64_C(1000000);
        rig_submit(&r, p, &late);
        for (uint32_t i = 0; i < 3; i++) rig_step(&r);
        assert_int_equal(late.q->state, phase);
        assert_int_equal(late.n_ends, 0);
        late.q->deadline_us = 1; /* long ago */
        rig_step(&r);
        assert_int_equal(late.failed.code, ERR_TIMEOUT);
        assert_non_null(strstr(late.failed.text, doing[phase]));
        assert_int_equal(late.n_ids > 0, phase == REQUEST_DECODE);
        rig_run(&r);
        assert_told_equal(&a, &want);
        assert_int_equal(rig_stats(&r).pages_used, 0);
        rig_tokens(tokens, 400, 1);
    }
    told soon = {0};
    sched_params p = rig_params(tokens, 5, 600);
    p.timeout_us = 1;
    rig_submit(&r, p, &soon);
    while (clock_us() <= soon.q->deadline_us) {}
    rig_step(&r);
    assert_int_equal(soon.failed.code, ERR_TIMEOUT);
    assert_int_equal(soon.prompt_calls, 0);
    sched_rig_close(&r);
}

static void test_cancels_are_seen_before_the_next_step(void **state) {
    (void)state;
    int32_t tokens[400];
    told want = {0};
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 2, .ubatch = 32});
    rig_tokens(tokens, 400, 1);
    rig_submit(&r, rig_params(tokens, 5, 60), &want);
    rig_run(&r);
    for (int phase = REQUEST_WAITING; phase <= REQUEST_DECODE; phase++) {
        told a = {0}, b = {0}, gone = {0}, after = {0};
        rig_submit(&r, rig_params(tokens, 5, 60), &a);
        rig_tokens(tokens, 400, 11);
        if (phase == REQUEST_WAITING) rig_submit(&r, rig_params(tokens, 7, 60), &b);
        rig_tokens(tokens, 400, 30 + (uint64_t)phase);
        rig_submit(&r, rig_params(tokens, phase == REQUEST_PREFILL ? 400 : 6, 60), &gone);
        rig_tokens(tokens, 400, 1);
        rig_submit(&r, rig_params(tokens, 5, 60), &after); /* behind it */
        for (uint32_t i = 0; i < 3; i++) rig_step(&r);
        assert_int_equal(gone.q->state, phase);
        uint32_t n_ids = gone.n_ids;
        sched_cancel(gone.q);
        rig_step(&r);
        assert_int_equal(gone.finish, FINISH_CANCELLED);
        assert_int_equal(gone.n_ids, n_ids);
        assert_int_equal(gone.t.n_predicted, n_ids);
        assert_true(gone.t.queue_us >= 0 && gone.t.prompt_us >= 0 && gone.t.predicted_us >= 0);
        rig_run(&r);
        assert_told_equal(&a, &want);
        assert_told_equal(&after, &want);
    }
    told never = {0}; /* before any step saw it */
    rig_submit(&r, rig_params(tokens, 5, 60), &never);
    sched_cancel(never.q);
    rig_step(&r);
    assert_int_equal(never.finish, FINISH_CANCELLED);
    assert_int_equal(never.prompt_calls, 0);
    sched_rig_close(&r);
}

/* ROCMFORGE.md 7g 1: the end of the text ends the request, and so does a stop string; which one is told. */
static void test_end_of_text_stops(void **state) {
    (void)state;
    told a = {0}, whole = {0};
    int32_t tokens[20];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 1});
    rig_tokens(tokens, 20, 1);
    sched_params p = rig_params(tokens, 20, 100);
    sample_bias want_eos = {.id = TINY_EOS, .bias = 1e6f};
    p.sampling.bias = &want_eos, p.sampling.n_bias = 1;
    rig_submit(&r, p, &a);
    rig_run(&r);
    assert_int_equal(a.finish, FINISH_STOP);
    assert_int_equal(a.n_ids, 1);
    assert_int_equal(a.n_text, 0);
    assert_int_equal(a.t.stop, -1);
    p = rig_params(tokens, 20, 40);
    rig_submit(&r, p, &whole);
    rig_run(&r);
    for (uint32_t at = 1; at < 20; at += 4) {
        char stop[4] = {whole.text[at], whole.text[at + 1], whole.text[at + 2], 0};
        const char *stops[] = {"never", "not this either", stop};
        p.stop = stops, p.n_stop = 3;
        rig_submit(&r, p, &a);
        rig_run(&r);
        assert_int_equal(a.finish, FINISH_STOP);
        assert_int_equal(a.t.stop, 2);
        assert_int_equal(a.n_text, strstr(whole.text, stop) - whole.text);
    }
    sched_rig_close(&r);
}

/* ROCMFORGE.md 7g 2: what a request asks of the sampler is what it gets, each its own, side by side. */
static void test_parameters_reach_the_sampler(void **state) {
    (void)state;
    enum { N = 8 };
    told got[N] = {0};
    int32_t tokens[30];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = N});
    rig_tokens(tokens, 30, 1);
    sample_bias only = {.id = 77, .bias = 1e6f};
    for (uint32_t i = 0; i < N; i++) {
        sched_params p = rig_params(tokens, 30, 40);
        p.ignore_eos = true;
        if (i == 1) p.sampling.temperature = 1, p.sampling.seed = 1, p.sampling.top_k = 1; /* greedy in other words */
        if (i == 2) p.sampling.temperature = 1, p.sampling.seed = 1, p.sampling.top_p = 0; /* and in others */
        if (i == 3) p.sampling.temperature = 3, p.sampling.seed = 1, p.sampling.top_k = 0, p.sampling.min_p = 0;
        if (i == 4) p.sampling.temperature = 3, p.sampling.seed = 2, p.sampling.top_k = 0, p.sampling.min_p = 0;
        if (i == 5) p.sampling.temperature = 1, p.sampling.seed = 1, p.sampling.min_p = 1;
        if (i == 6) p.sampling.bias = &only, p.sampling.n_bias = 1;
        if (i == 7) p.sampling.repeat_penalty = 1000, p.sampling.presence_penalty = 1000, p.sampling.repeat_last_n = -1;
        rig_submit(&r, p, &got[i]);
    }
    rig_run(&r);
    for (uint32_t i = 1; i < N; i++) {
        bool same = memcmp(got[i].id, got[0].id, 40 * sizeof got[0].id[0]) == 0;
        assert_int_equal(same, i == 1 || i == 2 || i == 5);
    }
    assert_memory_not_equal(got[3].id, got[4].id, 40 * sizeof got[0].id[0]);
    for (uint32_t i = 0; i < 40; i++) assert_int_equal(got[6].id[i], 77);
    bool seen[TINY_VOCAB] = {0};
    for (uint32_t i = 0; i < 30; i++) seen[tokens[i]] = true;
    for (uint32_t i = 0; i < 40; i++) {
        assert_false(seen[got[7].id[i]]);
        seen[got[7].id[i]] = true;
    }
    sched_rig_close(&r);
}

/* --- figures -------------------------------------------------------------------------------------------------------------------- */

static void test_figures_add_up(void **state) {
    (void)state;
    enum { N = 40 };
    told got[N] = {0};
    int32_t tokens[200];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 4, .ubatch = 64, .pages = 60});
    for (uint32_t i = 0; i < N; i++) {
        rig_tokens(tokens, 200, i % 5);
        got[i].cancel_after = i % 7 == 3 ? 4 : 0;
        rig_submit(&r, rig_params(tokens, 20 + i * 13 % 180, 3 + i % 20), &got[i]);
        rig_step(&r);
        sched_stats st = rig_stats(&r);
        assert_true(st.pages_used + st.pages_cached <= st.pages_total && st.running <= 4);
        assert_true(st.tokens_held <= (uint64_t)(st.pages_used + st.pages_cached) * RIG_PAGE);
        uint32_t n_open = 0;
        for (uint32_t k = 0; k <= i; k++) n_open += got[k].n_ends == 0;
        assert_int_equal(st.running + st.waiting, n_open);
    }
    rig_run(&r);
    uint64_t n_prompt = 0, n_cached = 0, n_predicted = 0, n_preempted = 0, waited[4] = {0};
    for (uint32_t i = 0; i < N; i++) {
        const sched_timings *t = &got[i].t;
        n_prompt += t->n_prompt;
        n_cached += t->n_cached;
        n_predicted += t->n_predicted;
        n_preempted += t->n_preempted;
        for (uint32_t k = 0; k < 4; k++) waited[k] += t->waited_for >> k & 1;
        assert_int_equal(t->n_predicted, got[i].n_ids);
        assert_true(t->n_cached < t->n_prompt);
    }
    sched_stats st = rig_stats(&r);
    assert_int_equal(st.prompt_tokens, n_prompt);
    assert_int_equal(st.cached_tokens, n_cached);
    assert_int_equal(st.prefix.hits, n_cached);
    assert_int_equal(st.prefix.queries, n_prompt - N);
    assert_int_equal(st.generated_tokens, n_predicted);
    assert_int_equal(st.preemptions, n_preempted);
    assert_int_equal(st.waited_queue, waited[0]);
    assert_int_equal(st.waited_kv, waited[1]);
    assert_int_equal(st.waited_batch, waited[2]);
    assert_int_equal(st.waited_prefix, waited[3]);
    if (n_preempted == 0) assert_int_equal(st.tokens_computed, n_prompt - n_cached + n_predicted - N);
    assert_int_equal(st.pages_used + st.running + st.waiting, 0);
    sched_rig_close(&r);
}

static void test_refusals(void **state) {
    (void)state;
    int32_t tokens[RIG_CONTEXT + 1];
    sched_rig r;
    sched_rig_open(&r, &(rig_shape){.parallel = 1});
    rig_tokens(tokens, RIG_CONTEXT + 1, 1);
    sched_request *q;
    err e;
    sched_params p = rig_params(tokens, RIG_CONTEXT + 1, 1);
    assert_int_equal(sched_submit(r.s, &p, &q, &e), ERR_CONTEXT_LENGTH);
    p = rig_params(tokens, 0, 1);
    assert_int_equal(sched_submit(r.s, &p, &q, &e), ERR_EMPTY);
    p = rig_params(tokens, 5, -2);
    assert_int_equal(sched_submit(r.s, &p, &q, &e), ERR_RANGE);
    p = rig_params(tokens, 5, 1);
    p.timeout_us = -1;
    assert_int_equal(sched_submit(r.s, &p, &q, &e), ERR_RANGE);
    assert_false(sched_has_work(r.s));
    sched *s;
    exec_options small = r.shape;
    small.n_pages--;
    sched_options so = {.context = RIG_CONTEXT, .parallel = 1};
    assert_int_equal(sched_open(&s, r.x, r.text, &small, &so, &e), ERR_RANGE);
    assert_null(s);
    sched_rig_close(&r);
}

/* Closing with requests in every state leaves nothing behind. */
static void test_close_in_the_middle(void **state) {
    (void)state;
    int32_t tokens[300];
    uint64_t live = mem_live();
    for (uint32_t steps = 0; steps < 6; steps++) {
        told got[6] = {0};
        sched_rig r;
        sched_rig_open(&r, &(rig_shape){.parallel = 3, .ubatch = 32});
        for (uint32_t i = 0; i < 6; i++) {
            rig_tokens(tokens, 300, i);
            rig_submit(&r, rig_params(tokens, i ? 4 * i : 200, 50), &got[i]);
        }
        for (uint32_t i = 0; i < steps; i++) rig_step(&r);
        sched_rig_close(&r);
        for (uint32_t i = 0; i < 6; i++) assert_int_equal(got[i].n_ends, 0);
        assert_int_equal(mem_live(), live);
    }
}

static int tear_down(void **state) {
    (void)state;
    sched_rig_end();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_illegal_transitions_are_refused),
        cmocka_unit_test(test_budget_keeps_steps_short),
        cmocka_unit_test(test_budget_follows_a_slower_machine),
        cmocka_unit_test(test_batching_is_real),
        cmocka_unit_test(test_chunks_beside_generations),
        cmocka_unit_test(test_long_and_short_prompts_share),
        cmocka_unit_test(test_the_queue_is_bounded),
        cmocka_unit_test(test_why_requests_wait),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_cancels_are_seen_before_the_next_step),
        cmocka_unit_test(test_end_of_text_stops),
        cmocka_unit_test(test_parameters_reach_the_sampler),
        cmocka_unit_test(test_figures_add_up),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_close_in_the_middle),
    };
    return cmocka_run_group_tests_name("sched", tests, NULL, tear_down);
}
