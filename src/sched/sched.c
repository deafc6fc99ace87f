#include "sched/sched_own.h"

#include "base/clock.h"
#include "base/mem.h"

enum { DEFAULT_CHUNK = 128, DEFAULT_STEP_US = 100000 };

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void set_shape(sched *s, const exec_options *shape, const sched_options *opt) {
    s->shape = *shape;
    s->opt = *opt;
    if (!s->opt.parallel) s->opt.parallel = 1;
    if (!s->opt.chunk) s->opt.chunk = DEFAULT_CHUNK;
    if (s->opt.step_us <= 0) s->opt.step_us = DEFAULT_STEP_US;
    s->whole = exec_model(s->x)->encoder;
    if (s->whole) s->opt.no_prefix = true;
    if (s->opt.no_prefix) s->opt.disk = NULL;
    s->most_running = min_u32(s->opt.parallel, min_u32(shape->max_out, shape->max_tok));
    s->n_vocab = exec_model(s->x)->n_vocab;
    s->d_model = exec_model(s->x)->d_model;
    s->n_scores = exec_model(s->x)->n_scores;
}

static bool take_memory(sched *s) {
    const exec_options *x = &s->shape;
    s->pool = kv_pool_new(x->n_pages);
    if (s->pool && !s->opt.no_prefix) s->prefix = kv_prefix_new(s->pool, x->n_pages, x->page_tokens);
    if (s->opt.disk) s->page = mem_aligned(exec_page_bytes(s->x), 64);
    s->token = mem_array(x->max_tok, sizeof *s->token);
    s->pos = mem_array(x->max_tok, sizeof *s->pos);
    s->seq = mem_array(x->max_tok, sizeof *s->seq);
    s->seqs = mem_array(x->max_tok, sizeof *s->seqs);
    s->who = mem_array(x->max_tok, sizeof *s->who);
    s->out_row = mem_array(x->max_out, sizeof *s->out_row);
    bool cache = s->pool && (s->prefix || s->opt.no_prefix) && (s->page || !s->opt.disk);
    return cache && s->token && s->pos && s->seq && s->seqs && s->who && s->out_row;
}

status sched_open(sched **out, exec *x, const tokenizer *t, const exec_options *shape, const sched_options *opt,
                  err *e) {
    *out = NULL;
    if ((uint64_t)shape->n_pages * shape->page_tokens < opt->context)
        return fail(e, ERR_RANGE, "a KV cache of %llu tokens holds no context of %u",
                    (unsigned long long)shape->n_pages * shape->page_tokens, opt->context);
    const model_info *m = exec_model(x);
    if (m->encoder && (shape->max_tok < opt->context || shape->max_out < shape->max_tok))
        return fail(e, ERR_RANGE, "an encoder's context of %u in steps of %u tokens and %u rows", opt->context,
                    shape->max_tok, shape->max_out);
    if (m->max_positions && opt->context > m->max_positions)
        return fail(e, ERR_RANGE, "a context of %u, the model has %u positions", opt->context, m->max_positions);
    sched *s = mem_zalloc(sizeof *s);
    if (!s) return fail(e, ERR_NOMEM, "scheduler");
    s->x = x;
    s->t = t;
    pthread_mutex_init(&s->lock, NULL);
    s->inbox_end = &s->inbox;
    set_shape(s, shape, opt);
    bool ok = take_memory(s);
    if (ok) publish(s, 0);
    if (!ok)
        sched_close(s);
    else
        *out = s;
    return ok ? OK : fail(e, ERR_NOMEM, "scheduler");
}

static void take_inbox(sched *s) {
    pthread_mutex_lock(&s->lock);
    sched_request *in = s->inbox;
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    pthread_mutex_unlock(&s->lock);
    sched_request **at = &s->waiting.first;
    while (*at) at = &(*at)->next;
    *at = in;
    for (; in; in = in->next) s->waiting.n++;
}

static void free_all(sched *s, request_list *l) {
    for (sched_request *r; (r = l->first);) {
        l->first = r->next;
        pages_drop(s, r);
        sched_request_free(r);
    }
}

void sched_close(sched *s) {
    if (!s) return;
    take_inbox(s);
    free_all(s, &s->running);
    free_all(s, &s->waiting);
    pthread_mutex_destroy(&s->lock);
    kv_prefix_free(s->prefix);
    kv_pool_free(s->pool);
    mem_free(s->page);
    mem_free(s->token);
    mem_free(s->pos);
    mem_free(s->seq);
    mem_free(s->seqs);
    mem_free(s->who);
    mem_free(s->out_row);
    mem_free(s);
}

bool sched_has_work(sched *s) {
    pthread_mutex_lock(&s->lock);
    bool work = s->n_live > 0;
    pthread_mutex_unlock(&s->lock);
    return work;
}

/* --- the step --------------------------------------------------------------------------------------------------------- */

static void fail_late(sched *s, sched_request *r) {
    static const char *const doing[] = {"waiting", "reading its prompt", "generating"};
    err e;
    fail(&e, ERR_TIMEOUT, "the request was still %s after %lld ms", doing[r->state], (long long)r->p.timeout_us / 1000);
    fail_request(s, r, &e);
}

static void see_ends(sched *s, request_list *l) {
    for (sched_request *r = l->first, *next; r; r = next) {
        next = r->next;
        if (atomic_load(&r->cancelled))
            finish_request(s, r, FINISH_CANCELLED, -1);
        else if (r->deadline_us && s->now_us >= r->deadline_us)
            fail_late(s, r);
    }
}

/* A device that drew what is no token is no affair of one sequence: nothing that it said in this step counts. */
static status wrong_device(const sched *s, err *e) {
    for (uint32_t i = 0; i < s->batch.n_seq; i++) {
        if (s->who[i]->failed.code != ERR_GPU_WRONG) continue;
        *e = s->who[i]->failed;
        return e->code;
    }
    return OK;
}

/* The batch is computed. Generations are those with one token that were not in PREFILL; the rest is prompts. */
static status compute(sched *s, err *e) {
    const exec_batch *b = &s->batch;
    uint32_t n_decode = 0;
    for (uint32_t i = 0; i < b->n_seq; i++) n_decode += s->who[i]->state == REQUEST_DECODE;
    int64_t t0 = clock_us();
    status rc = exec_step(s->x, b, e);
    s->now_us = clock_us();
    if (!rc) rc = wrong_device(s, e);
    if (rc) return rc;
    step_cost_learn(&s->cost, n_decode, b->n_tok - n_decode, s->now_us - t0);
    s->now.steps++;
    s->now.step_us += (uint64_t)(s->now_us - t0);
    s->now.tokens_computed += b->n_tok;
    s->now.seqs_computed += b->n_seq;
    s->now.last_batch_seqs = b->n_seq;
    s->now.last_batch_tokens = b->n_tok;
    return OK;
}

status sched_step(sched *s, err *e) {
    s->batch = (exec_batch){.token = s->token, .pos = s->pos, .seq = s->seq, .out_row = s->out_row, .seqs = s->seqs};
    s->now_us = clock_us();
    take_inbox(s);
    see_ends(s, &s->running);
    see_ends(s, &s->waiting);
    add_decodes(s);
    admit_waiting(s);
    add_prefill(s);
    publish(s, 0);
    if (s->batch.n_tok == 0) return OK;
    status rc = compute(s, e);
    if (rc == OK) deliver(s);
    for (uint32_t i = 0; rc && i < s->batch.n_seq; i++) fail_request(s, s->who[i], e); /* every request of the step */
    publish(s, 0);
    return rc == ERR_FILE_CHANGED ? OK : rc;
}

/* --- figures ------------------------------------------------------------------------------------------------------------ */

void publish(sched *s, uint32_t n_ended) {
    sched_stats *n = &s->now;
    uint64_t queries = n->prefix.queries, hits = n->prefix.hits; /* of requests let in; the index counts each try */
    if (s->prefix) kv_prefix_get_stats(s->prefix, &n->prefix);
    n->prefix.queries = queries;
    n->prefix.hits = hits;
    if (s->opt.disk) kv_disk_get_stats(s->opt.disk, &n->disk);
    n->running = s->running.n;
    n->pages_total = s->shape.n_pages;
    n->pages_cached = n->prefix.n_evictable;
    n->pages_used = n->pages_total - kv_pool_n_free(s->pool) - n->pages_cached;
    n->tokens_held = n->prefix.n_tokens;
    for (const sched_request *r = s->running.first; r; r = r->next)
        n->tokens_held += r->n_done - (uint64_t)r->n_nodes * s->shape.page_tokens - r->n_open;
    pthread_mutex_lock(&s->lock);
    s->n_live -= n_ended;
    s->shown = *n;
    pthread_mutex_unlock(&s->lock);
}

void sched_get_stats(sched *s, sched_stats *out) {
    pthread_mutex_lock(&s->lock);
    *out = s->shown;
    uint32_t n_live = s->n_live;
    pthread_mutex_unlock(&s->lock);
    out->waiting = n_live > out->running ? n_live - out->running : 0;
}
