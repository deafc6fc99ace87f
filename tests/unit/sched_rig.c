#include "check.h"

#include "sched_rig.h"

#include <math.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "heap_calls.h"

static char model_path[TINY_PATH];

void sched_rig_open(sched_rig *r, const rig_shape *shape) {
    err e = {0};
    *r = (sched_rig){.file = NULL};
    tiny_shape tiny = tiny_shape_of("llama", QUANT_Q8_0);
    if (!model_path[0]) tiny_gguf_write(&tiny, model_path);
    uint32_t parallel = shape->parallel ? shape->parallel : 4;
    r->shape = (exec_options){.max_tok = shape->ubatch ? shape->ubatch : 128,
                              .max_out = shape->rows ? shape->rows : parallel,
                              .n_pages = shape->pages ? shape->pages : parallel * (RIG_CONTEXT / RIG_PAGE),
                              .page_tokens = RIG_PAGE,
                              .type_k = QUANT_F16,
                              .type_v = QUANT_F16,
                              .hidden = true,
                              .passes = PASS_ALL};
    sched_options opt = shape->opt;
    opt.context = RIG_CONTEXT;
    opt.parallel = parallel;
    cpu_options co = {.n_threads = 1, .tier = -1};
    backend *b = NULL;
    status rc = gguf_open(&r->file, model_path, &e);
    if (!rc) rc = tokenizer_open(&r->text, r->file, &e);
    if (!rc) rc = cpu_backend_open(&b, &co, &e);
    if (!rc) rc = exec_open(&r->x, r->file, &r->shape, &b, 1, NULL, NULL, &e);
    if (!rc) rc = sched_open(&r->s, r->x, r->text, &r->shape, &opt, &e);
    if (rc) fail_msg("%s", e.text);
}

void sched_rig_close(sched_rig *r) {
    sched_close(r->s);
    exec_close(r->x);
    tokenizer_close(r->text);
    gguf_close(r->file);
}

void sched_rig_end(void) {
    if (model_path[0]) unlink(model_path);
}

/* --- what requests report ----------------------------------------------------------------------------------------------- */

static void on_token(void *user, int32_t id, float logprob, const sample_top *top, uint32_t n_top, const char *text,
                     size_t n) {
    told *t = user;
    (void)top, (void)n_top;
    assert_int_equal(t->n_ends, 0);
    assert_true(t->n_ids < TOLD_MOST && t->n_text + n < sizeof t->text);
    if (id != TOKEN_NONE) {
        t->logprob[t->n_ids] = logprob;
        t->id[t->n_ids++] = id;
    }
    memcpy(t->text + t->n_text, text, n);
    t->n_text += n;
    if (t->cancel_after && t->n_ids == t->cancel_after) sched_cancel(t->q);
}

static void on_logits(void *user, uint32_t pos, const float *row, uint32_t n_vocab) {
    told *t = user;
    assert_int_equal(pos, t->n_rows++); /* each once, in order */
    for (uint32_t i = 0; i < n_vocab; i++) t->sum += row[i];
}

static void on_embedding(void *user, const float *row, uint32_t n_embd) {
    told *t = user;
    assert_true(n_embd == sizeof t->mean / sizeof t->mean[0]);
    memcpy(t->mean, row, sizeof t->mean);
    t->n_rows++;
}

static void on_prompt(void *user, uint32_t done, uint32_t total) {
    told *t = user;
    assert_true(done <= total);
    if (t->prompt_calls++ == 0)
        t->first_done = done;
    else
        assert_true(done > t->last_done);
    t->last_done = done;
}

static void on_finished(void *user, finish_reason why, const sched_timings *timings) {
    told *t = user;
    t->finish = why;
    t->t = *timings;
    t->n_ends++;
    sched_request_free(t->q); /* as the header says: from now on it is the submitter's */
    t->q = NULL;
}

static void on_failed(void *user, const err *e) {
    told *t = user;
    t->failed = *e;
    t->n_ends++;
    sched_request_free(t->q);
    t->q = NULL;
}

/* --- requests ------------------------------------------------------------------------------------------------------------- */

sched_params rig_params(const int32_t *prompt, size_t n_prompt, int64_t max_tokens) {
    static sample_bias no_specials[TINY_FIRST_TEXT];
    for (int i = 0; i < TINY_FIRST_TEXT; i++) no_specials[i] = (sample_bias){.id = i, .bias = -INFINITY};
    sched_params p = {.prompt = prompt, .n_prompt = n_prompt, .max_tokens = max_tokens};
    p.sampling = sample_defaults();
    p.sampling.temperature = 0;
    p.sampling.bias = no_specials;
    p.sampling.n_bias = TINY_FIRST_TEXT;
    p.events = (sched_events){.token = on_token, .prompt = on_prompt, .finished = on_finished, .failed = on_failed};
    return p;
}

void rig_want_logits(sched_params *p) { p->events.logits = on_logits; }
void rig_want_embedding(sched_params *p) { p->events.embedding = on_embedding; }

void rig_submit(sched_rig *r, sched_params p, told *t) {
    err e;
    *t = (told){.cancel_after = t->cancel_after};
    p.user = t;
    if (sched_submit(r->s, &p, &t->q, &e)) fail_msg("%s", e.text);
}

/* No step allocates anything, whatever it does; the folder's own thread may. */
void rig_step(sched_rig *r) {
    err e;
    uint64_t before = mem_calls() + check_heap_calls();
    if (sched_step(r->s, &e)) fail_msg("%s", e.text);
    if (!r->s->opt.disk) assert_int_equal(mem_calls() + check_heap_calls(), before);
}

uint32_t rig_run(sched_rig *r) {
    uint32_t n = 0;
    for (; sched_has_work(r->s); n++) {
        rig_step(r);
        assert_true(n < 100000);
    }
    return n;
}

sched_stats rig_stats(sched_rig *r) {
    sched_stats st;
    sched_get_stats(r->s, &st);
    return st;
}

void assert_told_equal(const told *a, const told *b) {
    assert_int_equal(a->n_ends, 1);
    assert_int_equal(b->n_ends, 1);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->id, b->id, a->n_ids * sizeof a->id[0]);
    assert_memory_equal(a->logprob, b->logprob, a->n_ids * sizeof a->logprob[0]);
    assert_int_equal(a->n_text, b->n_text);
    assert_memory_equal(a->text, b->text, a->n_text);
    assert_int_equal(a->n_rows, b->n_rows);
    assert_memory_equal(&a->sum, &b->sum, sizeof a->sum);
    assert_memory_equal(a->mean, b->mean, sizeof a->mean);
    assert_int_equal(a->t.stop, b->t.stop);
    assert_int_equal(a->t.n_predicted, b->t.n_predicted);
}

void rig_tokens(int32_t *out, uint32_t n, uint64_t seed) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = TINY_FIRST_TEXT + (int32_t)(rng_u64(seed, i) % (TINY_VOCAB - TINY_FIRST_TEXT));
}
