/* Engines and requests through rocmforge.h, on tiny models: what a client sees. Batching, limits, stop strings, cancelling
 * from everywhere, failures that end one request and leave the engine fit for the next. Also built with ThreadSanitizer. */
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "rocmforge.h"

#include "base/mem.h"
#include "heap_calls.h"
#include "tiny_gguf.h"

/* --- a model and engines on it ----------------------------------------------------------------------------------------- */

enum { CONTEXT = 96, N_BANNED = TINY_FIRST_TEXT };

static rf_logit_bias no_specials[N_BANNED];

typedef struct {
    char path[TINY_PATH];
    rf_model *m;
    rf_engine *g;
} rig;

static rf_engine_options usual(void) {
    return (rf_engine_options){.context = CONTEXT, .parallel = 4, .ubatch = 32, .threads = 2};
}

static void rig_open_shape(rig *r, const tiny_shape *shape, rf_engine_options opt) {
    rf_error e;
    tiny_gguf_write(shape, r->path);
    if (!rf_model_open(&r->m, r->path, &e)) fail_msg("%s", e.message);
    if (!rf_engine_open(&r->g, r->m, &opt, &e)) fail_msg("%s", e.message);
    restore_sigbus();
}

static void rig_open(rig *r, rf_engine_options opt) {
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    rig_open_shape(r, &shape, opt);
}

static void rig_close(rig *r) {
    rf_engine_close(r->g);
    rf_model_close(r->m);
    unlink(r->path);
}

/* --- what a request reported -------------------------------------------------------------------------------------------- */

typedef struct {
    char text[4096];
    int32_t id[CONTEXT];
    uint32_t n_text, n_tokens, n_logits, n_ends;
    rf_finish finish; /* 0: failed */
    char code[40], message[512];
    uint32_t n_prompt, n_predicted;
    float sum;             /* of the logits' first column, so that every row is read */
    uint32_t cancel_after; /* tokens; 0: never */
    uint32_t harm_after;   /* tokens, then the file is cut; 0: never */
    const char *path;
    rf_request *volatile *self;       /* to cancel from the callback */
    uint64_t first_calls, last_calls; /* allocations of the process at the first event and the last */
    atomic_uint n_events;
} report;

static void on_event(void *user, const rf_event *ev) {
    report *r = user;
    r->last_calls = mem_calls() + check_heap_calls();
    if (atomic_fetch_add(&r->n_events, 1) == 0) r->first_calls = r->last_calls;
    assert_int_equal(r->n_ends, 0); /* nothing after the end */
    switch (ev->kind) {
    case RF_EVENT_PROMPT: assert_true(ev->prompt_done <= ev->prompt_total); break;
    case RF_EVENT_TOKEN:
        if (ev->id >= 0) r->id[r->n_tokens++] = ev->id;
        assert_true(r->n_text + ev->n_text < sizeof r->text);
        if (ev->n_text) memcpy(r->text + r->n_text, ev->text, ev->n_text);
        r->n_text += (uint32_t)ev->n_text;
        if (r->cancel_after && r->n_tokens == r->cancel_after) rf_request_cancel(*r->self);
        if (r->harm_after && r->n_tokens == r->harm_after) assert_int_equal(truncate(r->path, 0), 0);
        break;
    case RF_EVENT_LOGITS:
        assert_int_equal(ev->pos, r->n_logits++);
        assert_int_equal(ev->n_vocab, TINY_VOCAB);
        r->sum += ev->row[0];
        break;
    case RF_EVENT_EMBEDDING: break;
    case RF_EVENT_FINISHED:
        r->finish = ev->finish;
        r->n_prompt = ev->n_prompt;
        r->n_predicted = ev->n_predicted;
        r->n_ends++;
        break;
    case RF_EVENT_FAILED:
        snprintf(r->code, sizeof r->code, "%s", ev->error->code);
        snprintf(r->message, sizeof r->message, "%s", ev->error->message);
        r->n_ends++;
        break;
    }
}

static const int32_t prompt[] = {TINY_BOS, 40, 41, 42, 43, 44, 45, 46, 47};
enum { N_PROMPT = sizeof prompt / sizeof prompt[0] };

/* Greedy, 20 tokens of text. */
static rf_request_params usual_params(void) {
    rf_request_params p = rf_request_defaults();
    p.tokens = prompt, p.n_tokens = N_PROMPT;
    p.max_tokens = 20;
    p.temperature = 0;
    p.logit_bias = no_specials, p.n_logit_bias = N_BANNED;
    return p;
}

static rf_request *must_start(rf_engine *g, const rf_request_params *p, report *r) {
    rf_request *q;
    rf_error e;
    if (!rf_request_start(&q, g, p, on_event, r, &e)) fail_msg("%s", e.message);
    return q;
}

static void run(rf_engine *g, const rf_request_params *p, report *r) {
    *r = (report){0};
    rf_request *q = must_start(g, p, r);
    rf_request_wait(q);
    rf_request_free(q);
    assert_int_equal(r->n_ends, 1);
}

static void same_text(const report *a, const report *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->id, b->id, a->n_tokens * sizeof a->id[0]);
    assert_string_equal(a->text, b->text);
}

/* --- ends --------------------------------------------------------------------------------------------------------------- */

static void test_length(void **state) {
    (void)state;
    rig r;
    report a, b;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    run(r.g, &p, &a);
    assert_int_equal(a.finish, RF_FINISH_LENGTH);
    assert_int_equal(a.n_tokens, 20);
    assert_int_equal(a.n_predicted, 20);
    assert_int_equal(a.n_prompt, N_PROMPT);
    assert_true(a.n_text >= 20);
    run(r.g, &p, &b);
    same_text(&a, &b);
    p.max_tokens = 0;
    run(r.g, &p, &b);
    assert_int_equal(b.finish, RF_FINISH_LENGTH);
    assert_int_equal(b.n_tokens, 0);
    rig_close(&r);
}

static void test_full_context(void **state) {
    (void)state;
    rig r;
    report a;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    p.max_tokens = -1;
    run(r.g, &p, &a);
    assert_int_equal(a.finish, RF_FINISH_LENGTH);
    assert_int_equal(a.n_tokens, CONTEXT - N_PROMPT);
    int32_t full[CONTEXT + 1];
    for (uint32_t i = 0; i <= CONTEXT; i++) full[i] = 20 + (int32_t)i % 50;
    p.tokens = full, p.n_tokens = CONTEXT;
    run(r.g, &p, &a);
    assert_int_equal(a.finish, RF_FINISH_LENGTH);
    assert_int_equal(a.n_tokens, 0);
    p.n_tokens = CONTEXT - 1;
    run(r.g, &p, &a);
    assert_int_equal(a.n_tokens, 1);
    rig_close(&r);
}

static void refused(rf_engine *g, const rf_request_params *p, const char *code, const char *one, const char *two) {
    rf_request *q = (rf_request *)1;
    rf_error e;
    report r = {0};
    assert_false(rf_request_start(&q, g, p, on_event, &r, &e));
    assert_null(q);
    assert_string_equal(e.code, code);
    if (!strstr(e.message, one) || !strstr(e.message, two)) fail_msg("\"%s\" lacks %s or %s", e.message, one, two);
    assert_false(rf_request_start(&q, g, p, on_event, &r, NULL));
    assert_int_equal(r.n_events, 0);
}

static void test_refusals(void **state) {
    (void)state;
    rig r;
    report a;
    rig_open(&r, usual());
    int32_t many[CONTEXT + 5];
    for (uint32_t i = 0; i < CONTEXT + 5; i++) many[i] = 10;
    rf_request_params p = usual_params();
    p.tokens = many, p.n_tokens = CONTEXT + 5;
    refused(r.g, &p, "request.context_length", "101", "96");
    p = usual_params();
    p.n_tokens = 0;
    refused(r.g, &p, "request.empty", "", "");
    int32_t bad[] = {TINY_BOS, TINY_VOCAB, 5};
    p.tokens = bad, p.n_tokens = 3;
    refused(r.g, &p, "request.token", "100", "99");
    bad[1] = -1;
    refused(r.g, &p, "request.token", "-1", "99");
    p = usual_params();
    p.max_tokens = -2;
    refused(r.g, &p, "usage.range", "max_tokens", "-2");
    p = usual_params();
    p.n_top = 65;
    refused(r.g, &p, "usage.range", "65", "64");
    p = usual_params();
    p.temperature = NAN;
    refused(r.g, &p, "usage.range", "temperature", "");
    p = usual_params();
    rf_logit_bias beyond = {.id = TINY_VOCAB, .bias = 1};
    p.logit_bias = &beyond, p.n_logit_bias = 1;
    refused(r.g, &p, "request.token", "100", "");
    p = usual_params();
    run(r.g, &p, &a); /* and the engine is as good as new */
    assert_int_equal(a.n_tokens, 20);
    rig_close(&r);
}

static void test_end_of_generation(void **state) {
    (void)state;
    rig r;
    report a, b;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    rf_logit_bias want_eos = {.id = TINY_EOS, .bias = 1e6f};
    p.logit_bias = &want_eos, p.n_logit_bias = 1;
    run(r.g, &p, &a);
    assert_int_equal(a.finish, RF_FINISH_STOP);
    assert_int_equal(a.n_tokens, 1);
    assert_int_equal(a.id[0], TINY_EOS);
    assert_int_equal(a.n_text, 0);
    p.special_text = true;
    run(r.g, &p, &a);
    assert_string_equal(a.text, "</s>");
    p.special_text = false, p.ignore_eos = true;
    run(r.g, &p, &b);
    assert_int_equal(b.finish, RF_FINISH_LENGTH);
    assert_int_equal(b.n_tokens, 20);
    for (uint32_t i = 0; i < b.n_tokens; i++) assert_int_not_equal(b.id[i], TINY_EOS);
    rig_close(&r);
}

/* Every piece of the text, of any length, as a stop string: the text ends right before its first occurrence. */
static void test_stop_strings(void **state) {
    (void)state;
    rig r;
    report whole, a;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    run(r.g, &p, &whole);
    for (uint32_t at = 0; at < 12; at++)
        for (uint32_t n = 1; n <= 5; n++) {
            char stop[8] = {0};
            memcpy(stop, whole.text + at, n);
            const char *stops[] = {"never in this text", stop};
            p.stop = stops, p.n_stop = 2;
            run(r.g, &p, &a);
            const char *first = strstr(whole.text, stop);
            assert_int_equal(a.finish, RF_FINISH_STOP);
            assert_int_equal(a.n_text, first - whole.text);
            assert_memory_equal(a.text, whole.text, a.n_text);
        }
    char tail[8] = {0}; /* what only began to be one comes out in the end */
    memcpy(tail, whole.text + whole.n_text - 2, 2);
    tail[2] = '\x7f';
    const char *stops[] = {tail};
    p.stop = stops, p.n_stop = 1;
    run(r.g, &p, &a);
    assert_string_equal(a.text, whole.text);
    assert_int_equal(a.finish, RF_FINISH_LENGTH);
    rig_close(&r);
}

static void test_logits(void **state) {
    (void)state;
    rig r;
    report a, b;
    for (uint32_t rows = 0; rows < 10; rows += 3) {
        rf_engine_options opt = usual();
        opt.logits_rows = rows;
        rig_open(&r, opt);
        rf_request_params p = usual_params();
        p.logits = true;
        run(r.g, &p, rows ? &b : &a);
        if (rows) assert_memory_equal(&a.sum, &b.sum, sizeof a.sum);
        assert_int_equal(a.n_logits, N_PROMPT);
        assert_int_equal(a.n_tokens, 0);
        assert_int_equal(a.finish, RF_FINISH_LENGTH);
        rig_close(&r);
    }
}

static void test_alternatives(void **state) {
    (void)state;
    rig r;
    report a;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    p.n_top = 64, p.temperature = 0.9f, p.seed = 5;
    run(r.g, &p, &a);
    assert_int_equal(a.n_tokens, 20);
    rig_close(&r);
}

/* --- many at once -------------------------------------------------------------------------------------------------------- */

/* Requests of different lengths, seeds and limits; more than fit at once, so that some wait for pages. */
enum { CROWD = 24 };

static rf_request_params crowd_params(uint32_t i, int32_t *tokens) {
    rf_request_params p = usual_params();
    p.tokens = tokens, p.n_tokens = 1 + i * 7 % 80;
    for (uint32_t k = 0; k < p.n_tokens; k++) tokens[k] = 3 + (int32_t)((i * 31 + k * 7) % 90);
    p.max_tokens = 5 + i % 12;
    p.temperature = i % 3 ? 0.8f : 0.0f;
    p.seed = i;
    p.logits = i % 8 == 7;
    return p;
}

static void test_a_crowd_reads_the_same_as_alone(void **state) {
    (void)state;
    static const uint32_t ubatches[] = {4, 17, 512};
    static report alone[CROWD], crowd[CROWD];
    rig r;
    int32_t tokens[CROWD][CONTEXT];
    for (uint32_t k = 0; k < 3; k++) {
        rf_engine_options opt = usual();
        opt.ubatch = ubatches[k];
        opt.parallel = k == 0 ? 2 : 4;
        opt.logits_rows = k == 2 ? 16 : 0;
        rig_open(&r, opt);
        rf_request *q[CROWD];
        memset(crowd, 0, sizeof crowd);
        for (uint32_t i = 0; i < CROWD; i++) {
            rf_request_params p = crowd_params(i, tokens[i]);
            if (k == 0) run(r.g, &p, &alone[i]);
        }
        for (uint32_t i = 0; i < CROWD; i++) {
            rf_request_params p = crowd_params(i, tokens[i]);
            q[i] = must_start(r.g, &p, &crowd[i]);
        }
        for (uint32_t i = 0; i < CROWD; i++) rf_request_wait(q[i * 7 % CROWD]);
        for (uint32_t i = 0; i < CROWD; i++) rf_request_free(q[CROWD - 1 - i]);
        for (uint32_t i = 0; i < CROWD; i++) {
            assert_int_equal(crowd[i].n_ends, 1);
            assert_int_equal(crowd[i].finish, alone[i].finish);
            assert_int_equal(crowd[i].n_logits, alone[i].n_logits);
            assert_memory_equal(&crowd[i].sum, &alone[i].sum, sizeof alone[i].sum);
            same_text(&crowd[i], &alone[i]);
        }
        rig_close(&r);
    }
}

typedef struct {
    rf_engine *g;
    const report *want;
    uint32_t first;
    atomic_bool wrong;
} client;

static void *client_main(void *arg) {
    client *c = arg;
    for (uint32_t i = 0; i < 6; i++) {
        static _Thread_local report got;
        int32_t tokens[CONTEXT];
        uint32_t which = (c->first + i) % CROWD;
        rf_request_params p = crowd_params(which, tokens);
        memset(&got, 0, sizeof got);
        rf_request *q;
        if (!rf_request_start(&q, c->g, &p, on_event, &got, NULL)) {
            atomic_store(&c->wrong, true);
            return NULL;
        }
        if (i % 3 == 2) rf_request_cancel(q);
        if (i % 2) rf_request_wait(q);
        rf_request_free(q);
        bool cancelled = i % 2 == 0 || i % 3 == 2;
        bool same = got.n_tokens == c->want[which].n_tokens && strcmp(got.text, c->want[which].text) == 0;
        if (got.n_ends != 1 || (!cancelled && !same)) atomic_store(&c->wrong, true);
        if (memcmp(got.text, c->want[which].text, got.n_text) != 0) atomic_store(&c->wrong, true);
    }
    return NULL;
}

static void test_clients_in_several_threads(void **state) {
    (void)state;
    enum { N = 4 };
    static report alone[CROWD];
    rig r;
    pthread_t t[N];
    client c[N];
    rig_open(&r, usual());
    for (uint32_t i = 0; i < CROWD; i++) {
        int32_t tokens[CONTEXT];
        rf_request_params p = crowd_params(i, tokens);
        run(r.g, &p, &alone[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        c[i] = (client){.g = r.g, .want = alone, .first = i * 5};
        pthread_create(&t[i], NULL, client_main, &c[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        pthread_join(t[i], NULL);
        assert_false(c[i].wrong);
    }
    rig_close(&r);
}

/* --- cancelling and closing ----------------------------------------------------------------------------------------------- */

static void test_cancel_from_the_callback(void **state) {
    (void)state;
    rig r;
    rig_open(&r, usual());
    for (uint32_t after = 1; after < 6; after++) {
        report a = {.cancel_after = after};
        rf_request *volatile q = NULL;
        rf_request_params p = usual_params();
        a.self = &q;
        rf_request *started = NULL;
        rf_error e;
        /* *out is filled before the first event can come */
        assert_true(rf_request_start((rf_request **)(uintptr_t)&q, r.g, &p, on_event, &a, &e));
        started = q;
        rf_request_wait(started);
        assert_int_equal(a.finish, RF_FINISH_CANCELLED);
        assert_int_equal(a.n_tokens, after);
        assert_int_equal(a.n_predicted, after);
        rf_request_free(started);
    }
    rig_close(&r);
}

static void test_cancel_at_any_time(void **state) {
    (void)state;
    rig r;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    p.max_tokens = -1;
    report whole;
    run(r.g, &p, &whole);
    for (uint32_t us = 0; us < 3000; us += 100) {
        report a = {0};
        rf_request *q = must_start(r.g, &p, &a);
        if (us) usleep(us);
        rf_request_cancel(q);
        rf_request_cancel(q);
        rf_request_wait(q);
        rf_request_wait(q);
        assert_int_equal(a.n_ends, 1);
        assert_true(a.finish == RF_FINISH_CANCELLED || a.finish == RF_FINISH_LENGTH);
        assert_memory_equal(a.text, whole.text, a.n_text);
        rf_request_cancel(q); /* too late is fine */
        rf_request_free(q);
    }
    for (uint32_t i = 0; i < 20; i++) { /* freed in the middle: as if cancelled and waited for */
        report a = {0};
        rf_request_free(must_start(r.g, &p, &a));
        assert_int_equal(a.n_ends, 1);
    }
    rf_request_free(NULL);
    rig_close(&r);
}

/* A request that waits for pages behind a long one is cancelled without ever having run. */
static void test_cancel_in_the_queue(void **state) {
    (void)state;
    rig r;
    rf_engine_options opt = usual();
    opt.parallel = 1;
    rig_open(&r, opt);
    rf_request_params p = usual_params();
    p.max_tokens = -1;
    report a = {0}, b = {0}, c = {0};
    rf_request *qa = must_start(r.g, &p, &a), *qb = must_start(r.g, &p, &b), *qc = must_start(r.g, &p, &c);
    rf_request_cancel(qb);
    rf_request_wait(qb);
    rf_request_wait(qc);
    rf_request_wait(qa);
    assert_int_equal(a.finish, RF_FINISH_LENGTH);
    assert_int_equal(c.finish, RF_FINISH_LENGTH);
    same_text(&a, &c);
    assert_true(b.finish == RF_FINISH_CANCELLED || b.finish == RF_FINISH_LENGTH);
    rf_request_free(qc);
    rf_request_free(qa);
    rf_request_free(qb);
    rig_close(&r);
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_an_idle_engine_uses_no_cpu(void **state) {
    (void)state;
    rig r;
    report a;
    rig_open(&r, usual());
    rf_request_params p = usual_params();
    run(r.g, &p, &a);
    usleep(50000);
    double before = cpu_seconds();
    usleep(300000);
    assert_true(cpu_seconds() - before < 0.03);
    rig_close(&r);
    rig_open(&r, usual()); /* and one that never ran closes */
    rig_close(&r);
    rf_engine_close(NULL);
    rf_model_close(NULL);
}

/* --- what goes wrong -------------------------------------------------------------------------------------------------------- */

/* Only who sees the poisoned token fails; the others of its step, and whoever gets its pages, read as ever. */
static void test_a_poisoned_token_is_one_requests_affair(void **state) {
    (void)state;
    rig r;
    report clean, a;
    const uint16_t nan = 0x7E00;
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q8_0);
    rf_engine_options opt = usual();
    tiny_gguf_write(&shape, r.path);
    tiny_gguf_poke(r.path, "token_embd.weight", (size_t)90 * shape.d_model / 32 * 34, &nan, 2);
    assert_true(rf_model_open(&r.m, r.path, NULL));
    assert_true(rf_engine_open(&r.g, r.m, &opt, NULL));
    rf_request_params good = usual_params(), bad = usual_params();
    rf_logit_bias bias[N_BANNED + 1];
    memcpy(bias, no_specials, sizeof no_specials);
    bias[N_BANNED] = (rf_logit_bias){.id = 90, .bias = -INFINITY};
    good.logit_bias = bias, good.n_logit_bias = N_BANNED + 1;
    const int32_t evil[] = {TINY_BOS, 90, 40, 41};
    bad.tokens = evil, bad.n_tokens = 4;
    run(r.g, &good, &clean);
    assert_int_equal(clean.n_tokens, 20);
    for (uint32_t round = 0; round < 8; round++) {
        report x = {0}, y = {0}, z = {0};
        bad.logits = round % 2;
        rf_request *qx = must_start(r.g, &good, &x), *qy = must_start(r.g, &bad, &y), *qz = must_start(r.g, &good, &z);
        rf_request_wait(qx);
        rf_request_wait(qy);
        rf_request_wait(qz);
        assert_string_equal(y.code, "model.not_finite");
        assert_int_equal(y.n_tokens, 0);
        assert_int_equal(y.n_text, 0);
        if (!bad.logits) assert_int_equal(y.n_logits, 0);
        same_text(&x, &clean);
        same_text(&z, &clean);
        rf_request_free(qx);
        rf_request_free(qy);
        rf_request_free(qz);
        run(r.g, &good, &a);
        same_text(&a, &clean);
    }
    rig_close(&r);
}

static void test_file_cut_between_tokens(void **state) {
    (void)state;
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_Q4_K};
    for (size_t k = 0; k < 4; k++) {
        rig r;
        tiny_shape shape = tiny_shape_of("llama", types[k]);
        rig_open_shape(&r, &shape, usual());
        rf_request_params p = usual_params();
        report a = {.harm_after = 5, .path = r.path};
        rf_request *q = must_start(r.g, &p, &a);
        rf_request_wait(q);
        rf_request_free(q);
        assert_string_equal(a.code, "io.file_changed");
        assert_int_equal(a.n_tokens, 5);
        run(r.g, &p, &a);
        assert_string_equal(a.code, "io.file_changed");
        assert_int_equal(a.n_tokens, 0);
        p.logits = true;
        run(r.g, &p, &a);
        assert_string_equal(a.code, "io.file_changed");
        assert_int_equal(a.n_logits, 0);
        rig_close(&r);
    }
}

static void *cut_soon(void *path) {
    usleep(1500);
    if (truncate(path, 4096)) abort();
    return NULL;
}

static void test_file_cut_at_any_time(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        rig r;
        tiny_shape shape = tiny_shape_of("llama", i % 2 ? QUANT_F16 : QUANT_Q8_0);
        rig_open_shape(&r, &shape, usual());
        rf_request_params p = usual_params();
        p.max_tokens = -1;
        report whole, a = {0};
        run(r.g, &p, &whole);
        pthread_t t;
        rf_request *q = must_start(r.g, &p, &a);
        pthread_create(&t, NULL, cut_soon, r.path);
        rf_request_wait(q);
        pthread_join(t, NULL);
        rf_request_free(q);
        assert_memory_equal(a.text, whole.text, a.n_text); /* all that was published is true */
        if (a.finish != RF_FINISH_LENGTH) assert_string_equal(a.code, "io.file_changed");
        rig_close(&r);
    }
}

/* Whatever a model hands out is made from the file, so it is refused once the file is another. */
static void test_views_of_a_changed_file(void **state) {
    (void)state;
    rig r;
    rf_error e;
    int32_t *ids;
    size_t n;
    char *text;
    rig_open(&r, usual());
    assert_true(rf_tokenize(r.m, "ab c", 4, 0, &ids, &n, &e));
    assert_int_equal(truncate(r.path, 0), 0);
    assert_true(rf_detokenize(r.m, ids, 0, true, &text, &n, &e) || strcmp(e.code, "io.file_changed") == 0);
    rf_free(text);
    assert_false(rf_detokenize(r.m, ids, 3, true, &text, &n, &e));
    assert_string_equal(e.code, "io.file_changed");
    assert_null(text);
    rf_free(ids);
    assert_false(rf_tokenize(r.m, "ab c", 4, 0, &ids, &n, &e));
    assert_string_equal(e.code, "io.file_changed");
    assert_null(ids);
    assert_false(rf_token_piece(r.m, 50, &text, &n, &e));
    assert_string_equal(e.code, "io.file_changed");
    assert_null(rf_model_inspect(r.m, RF_INSPECT_TENSORS | RF_INSPECT_METADATA, &e));
    assert_string_equal(e.code, "io.file_changed");
    assert_null(rf_model_graph(r.m, -1, &e));
    assert_string_equal(e.code, "io.file_changed");
    assert_null(rf_plan(r.m, NULL, &e));
    assert_string_equal(e.code, "io.file_changed");
    rf_engine *g;
    assert_false(rf_engine_open(&g, r.m, NULL, &e));
    assert_string_equal(e.code, "io.file_changed");
    assert_null(g);
    rig_close(&r);
}

/* --- memory ------------------------------------------------------------------------------------------------------------------ */

static bool load_and_answer(const char *path, rf_error *e, report *got) {
    rf_model *m = NULL;
    rf_engine *g = NULL;
    rf_request *q = NULL;
    rf_engine_options opt = usual();
    const char *stops[] = {"one", "two words"};
    rf_request_params p = usual_params();
    p.stop = stops, p.n_stop = 2, p.n_top = 3;
    bool ok =
        rf_model_open(&m, path, e) && rf_engine_open(&g, m, &opt, e) && rf_request_start(&q, g, &p, on_event, got, e);
    if (ok) {
        rf_request_wait(q);
        if (!got->finish) snprintf(e->code, sizeof e->code, "%s", got->code);
        ok = got->finish != 0;
    }
    rf_request_free(q);
    rf_engine_close(g);
    rf_model_close(m);
    return ok;
}

static void test_each_allocation_fails(void **state) {
    (void)state;
    char path[TINY_PATH];
    tiny_shape shape = tiny_shape_of("llama", QUANT_Q4_0);
    tiny_gguf_write(&shape, path);
    report want = {0};
    rf_error e;
    assert_true(load_and_answer(path, &e, &want));
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        report got = {0};
        memset(&e, 0, sizeof e);
        mem_fail_at(n);
        bool ok = load_and_answer(path, &e, &got);
        bool fired = mem_fail_off();
        if (ok == fired || (fired && strcmp(e.code, "memory.exhausted") != 0))
            fail_msg("allocation %u: %s, code \"%s\": %s", (unsigned)n, ok ? "no error" : "failed", e.code, e.message);
        assert_int_equal(mem_live(), live);
        if (!fired) same_text(&got, &want);
        if (!fired) break;
    }
    unlink(path);
}

typedef struct {
    rf_model *m;
    rf_engine *g;
} both;

static char *say_inspect(both b, rf_error *e) {
    return rf_model_inspect(b.m, RF_INSPECT_TENSORS | RF_INSPECT_METADATA, e);
}
static char *say_graph(both b, rf_error *e) { return rf_model_graph(b.m, -1, e); }
static char *say_plan(both b, rf_error *e) {
    rf_engine_options opt = usual();
    char *text = rf_plan(b.m, &opt, e);
    char *now = text ? strstr(text, "\"available\"") : NULL; /* the machine's own affairs change */
    if (now) *now = 0;
    return text;
}
static char *say_devices(both b, rf_error *e) {
    (void)b;
    return rf_devices(e);
}
static char *say_info(both b, rf_error *e) {
    *e = (rf_error){.code = "memory.exhausted"};
    return rf_engine_info(b.g);
}
static char *say_errors(both b, rf_error *e) {
    (void)b;
    *e = (rf_error){.code = "memory.exhausted"};
    return rf_error_table();
}
static char *say_text(both b, rf_error *e) {
    int32_t ids[] = {TINY_BOS, 40, 50, 60, 4, 5};
    char *text;
    size_t n;
    return rf_detokenize(b.m, ids, 6, true, &text, &n, e) ? text : NULL;
}
static char *say_ids(both b, rf_error *e) {
    int32_t *ids;
    size_t n;
    if (!rf_tokenize(b.m, "The quick <s> brown </s>fox ab ab", 33, 0, &ids, &n, e)) return NULL;
    char *text = (char *)ids; /* any block of the seam does; ids are many, the comparison is of their low digits */
    for (size_t i = 0; i < n; i++) text[i] = (char)('!' + ids[i] % 90);
    text[n] = 0;
    return text;
}

/* An answer is whole or none: no call gives a shorter one because memory ran out in its middle. */
static void test_each_allocation_fails_in_every_call(void **state) {
    (void)state;
    static char *(*const says[])(both, rf_error *) = {say_inspect, say_graph,  say_plan, say_devices,
                                                      say_info,    say_errors, say_text, say_ids};
    rig r;
    rig_open(&r, usual());
    both b = {r.m, r.g};
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        rf_error e;
        char *want = says[i](b, &e);
        assert_non_null(want);
        uint64_t live = mem_live();
        for (uint64_t n = 1;; n++) {
            mem_fail_at(n);
            char *got = says[i](b, &e);
            bool fired = mem_fail_off();
            if (got && strcmp(got, want) != 0)
                fail_msg("call %u, allocation %u: another answer:\n%s\n%s", (unsigned)i, (unsigned)n, got, want);
            if (!got && (!fired || strcmp(e.code, "memory.exhausted") != 0))
                fail_msg("call %u, allocation %u: %s %s", (unsigned)i, (unsigned)n, e.code, e.message);
            rf_free(got);
            if (mem_live() != live) fail_msg("call %u, allocation %u: a leak", (unsigned)i, (unsigned)n);
            if (!fired) break;
        }
        rf_free(want);
    }
    rig_close(&r);
}

/* From the first step's end to the last's, whatever the request asks for: prompt in several chunks, alternatives, sampling
 * with penalties, stop strings, a full context. */
static void test_steps_allocate_nothing(void **state) {
    (void)state;
    rig r;
    report a;
    rf_engine_options opt = usual();
    opt.ubatch = 8;
    rig_open(&r, opt);
    int32_t tokens[40];
    for (int32_t i = 0; i < 40; i++) tokens[i] = 10 + i;
    const char *stops[] = {"no such text", "nor this"};
    rf_request_params p = usual_params();
    p.tokens = tokens, p.n_tokens = 40, p.max_tokens = -1;
    p.temperature = 0.9f, p.seed = 3, p.repeat_penalty = 1.1f, p.frequency_penalty = 0.1f;
    p.n_top = 20, p.stop = stops, p.n_stop = 2;
    for (int round = 0; round < 3; round++) {
        p.logits = round == 1;
        p.ignore_eos = round == 2;
        run(r.g, &p, &a);
        assert_true(a.n_events > 5);
        assert_int_equal(a.last_calls, a.first_calls);
    }
    rig_close(&r);
}

/* The process's first open installs the SIGBUS handler; cmocka hides it while a test runs. */
static void set_up(void) {
    rig r;
    for (int i = 0; i < N_BANNED; i++) no_specials[i] = (rf_logit_bias){.id = i, .bias = -INFINITY};
    tiny_shape shape = tiny_shape_of("llama", QUANT_F32);
    tiny_gguf_write(&shape, r.path);
    if (rf_model_open(&r.m, r.path, NULL)) rf_model_close(r.m);
    remember_sigbus();
    unlink(r.path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_full_context),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_end_of_generation),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_alternatives),
        cmocka_unit_test(test_a_crowd_reads_the_same_as_alone),
        cmocka_unit_test(test_clients_in_several_threads),
        cmocka_unit_test(test_cancel_from_the_callback),
        cmocka_unit_test(test_cancel_at_any_time),
        cmocka_unit_test(test_cancel_in_the_queue),
        cmocka_unit_test(test_an_idle_engine_uses_no_cpu),
        cmocka_unit_test(test_a_poisoned_token_is_one_requests_affair),
        cmocka_unit_test(test_file_cut_between_tokens),
        cmocka_unit_test(test_file_cut_at_any_time),
        cmocka_unit_test(test_views_of_a_changed_file),
        cmocka_unit_test(test_steps_allocate_nothing),
        cmocka_unit_test(test_each_allocation_fails),
        cmocka_unit_test(test_each_allocation_fails_in_every_call),
    };
    set_up();
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
