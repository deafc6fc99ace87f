#include "sched/sched.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <string.h>

typedef enum { WAITING, PREFILL, DECODE, DONE } request_state;

struct sched_request {
    sched_request *next; /* in the scheduler's list, oldest first */
    request_state state;
    sched_params p;
    _Atomic bool cancelled;
    int32_t *log; /* prompt, then what was generated; room for the whole sequence */
    uint32_t n_log, max_log, n_prompt;
    uint32_t n_done; /* tokens whose keys and values are in the cache */
    uint32_t *pages;
    uint32_t n_pages;
    sample_bias *bias;
    const token_id *banned;
    stop_matcher *stops;
    utf8_hold hold;
    strbuf piece, whole, show; /* a token's bytes; whole characters; what may be shown */
    sample_result result;
    err failed; /* by the running step; code OK: no */
    int64_t started_us, first_us, last_us;
};

struct sched {
    exec *x;
    const tokenizer *t;
    exec_options shape;
    uint32_t context, n_vocab;
    kv_pool *pages;
    sched_request *first; /* running and waiting, oldest first; the stepping thread's */
    pthread_mutex_t lock; /* guards inbox */
    sched_request *inbox, **inbox_end;
    /* the batch of the running step, sized once */
    int32_t *token, *pos, *out_row;
    uint32_t *seq;
    exec_seq *seqs;
    sched_request **who; /* [n_seq] */
    uint32_t *out_seq;   /* [n_out] index into who */
    exec_batch batch;
};

status sched_open(sched **out, exec *x, const tokenizer *t, const exec_options *shape, const sched_options *opt,
                  err *e) {
    *out = NULL;
    sched *s = mem_zalloc(sizeof *s);
    if (!s) return fail(e, ERR_NOMEM, "scheduler");
    s->x = x;
    s->t = t;
    s->shape = *shape;
    s->context = opt->context;
    pthread_mutex_init(&s->lock, NULL);
    s->inbox_end = &s->inbox;
    s->n_vocab = exec_model(x)->n_vocab;
    s->pages = kv_pool_new(shape->n_pages);
    s->token = mem_array(shape->max_tok, sizeof *s->token);
    s->pos = mem_array(shape->max_tok, sizeof *s->pos);
    s->seq = mem_array(shape->max_tok, sizeof *s->seq);
    s->seqs = mem_array(shape->max_tok, sizeof *s->seqs);
    s->who = mem_array(shape->max_tok, sizeof *s->who);
    s->out_row = mem_array(shape->max_out, sizeof *s->out_row);
    s->out_seq = mem_array(shape->max_out, sizeof *s->out_seq);
    bool ok = s->pages && s->token && s->pos && s->seq && s->seqs && s->who && s->out_row && s->out_seq;
    if (!ok)
        sched_close(s);
    else
        *out = s;
    return ok ? OK : fail(e, ERR_NOMEM, "scheduler");
}

static void take_inbox(sched *s);

static void drop_pages(sched *s, sched_request *r) {
    for (uint32_t i = 0; i < r->n_pages; i++) kv_pool_drop(s->pages, r->pages[i]);
    r->n_pages = 0;
}

void sched_request_free(sched_request *r) {
    if (!r) return;
    stop_matcher_free(r->stops);
    strbuf_free(&r->piece);
    strbuf_free(&r->whole);
    strbuf_free(&r->show);
    mem_free(r->log);
    mem_free(r->pages);
    mem_free(r->bias);
    mem_free(r->result.top);
    mem_free(r);
}

void sched_close(sched *s) {
    if (!s) return;
    take_inbox(s);
    pthread_mutex_destroy(&s->lock);
    while (s->first) {
        sched_request *r = s->first;
        s->first = r->next;
        drop_pages(s, r);
        sched_request_free(r);
    }
    kv_pool_free(s->pages);
    mem_free(s->token);
    mem_free(s->pos);
    mem_free(s->seq);
    mem_free(s->seqs);
    mem_free(s->who);
    mem_free(s->out_row);
    mem_free(s->out_seq);
    mem_free(s);
}

static status check(const sched *s, const sched_params *p, err *e) {
    if (p->n_prompt == 0)
        return fail(e, ERR_EMPTY, "the prompt holds no token: give some text, or a model that adds BOS");
    for (size_t i = 0; i < p->n_prompt; i++)
        if (p->prompt[i] < 0 || (uint32_t)p->prompt[i] >= s->n_vocab)
            return fail(e, ERR_TOKEN, "token %d at %zu: this vocabulary has ids 0 to %u", p->prompt[i], i,
                        s->n_vocab - 1);
    if (p->n_prompt > s->context)
        return fail(e, ERR_CONTEXT_LENGTH, "the prompt has %zu tokens, the context holds %u: raise -c or shorten it",
                    p->n_prompt, s->context);
    if (p->max_tokens < -1) return fail(e, ERR_RANGE, "max_tokens %lld: give -1 or more", (long long)p->max_tokens);
    return sample_check(&p->sampling, s->n_vocab, e);
}

/* Room for a token's text, taken ahead: longer pieces than this are rare, and grow the buffer once. */
static bool reserve_text(strbuf *b) {
    static const char blank[1024];
    strbuf_add(b, blank, sizeof blank);
    bool ok = !b->failed;
    strbuf_clear(b);
    return ok;
}

/* All memory of a request is taken here: none while it runs. */
static status fill_request(sched *s, sched_request *r, const sched_params *p, err *e) {
    r->p = *p;
    r->n_prompt = r->n_log = (uint32_t)p->n_prompt;
    uint64_t room = s->context - p->n_prompt;
    if (p->max_tokens >= 0 && (uint64_t)p->max_tokens < room) room = (uint64_t)p->max_tokens;
    r->max_log = (uint32_t)(p->n_prompt + room);
    r->log = mem_array((size_t)r->max_log + 1, sizeof *r->log);
    uint32_t max_pages = r->max_log / s->shape.page_tokens + 1;
    r->pages = mem_array(max_pages, sizeof *r->pages);
    r->bias = mem_array(p->sampling.n_bias + 1, sizeof *r->bias);
    r->result.n_top = p->n_top;
    if (p->n_top) r->result.top = mem_array(p->n_top, sizeof *r->result.top);
    bool text = reserve_text(&r->piece) && reserve_text(&r->whole) && reserve_text(&r->show);
    if (!text || !r->log || !r->pages || !r->bias || (p->n_top && !r->result.top)) return fail(e, ERR_NOMEM, "request");
    memcpy(r->log, p->prompt, p->n_prompt * sizeof *r->log);
    if (p->sampling.n_bias) memcpy(r->bias, p->sampling.bias, p->sampling.n_bias * sizeof *r->bias);
    r->p.sampling.bias = r->bias;
    if (p->ignore_eos) r->p.sampling.n_banned = tokenizer_eog_ids(s->t, &r->p.sampling.banned);
    r->p.prompt = NULL;
    r->p.stop = NULL;
    return stop_matcher_new(&r->stops, p->stop, p->n_stop, e);
}

status sched_submit(sched *s, const sched_params *p, sched_request **out, err *e) {
    *out = NULL;
    status rc = check(s, p, e);
    if (rc) return rc;
    sched_request *r = mem_zalloc(sizeof *r);
    rc = r ? fill_request(s, r, p, e) : fail(e, ERR_NOMEM, "request");
    if (rc) {
        sched_request_free(r);
        return rc;
    }
    *out = r;
    pthread_mutex_lock(&s->lock);
    *s->inbox_end = r;
    s->inbox_end = &r->next;
    pthread_mutex_unlock(&s->lock);
    return OK;
}

void sched_cancel(sched_request *r) { atomic_store(&r->cancelled, true); }

bool sched_has_work(sched *s) {
    pthread_mutex_lock(&s->lock);
    bool work = s->inbox || s->first;
    pthread_mutex_unlock(&s->lock);
    return work;
}

static void take_inbox(sched *s) {
    pthread_mutex_lock(&s->lock);
    sched_request *in = s->inbox;
    s->inbox = NULL;
    s->inbox_end = &s->inbox;
    pthread_mutex_unlock(&s->lock);
    sched_request **at = &s->first;
    while (*at) at = &(*at)->next;
    *at = in;
}

/* --- building the batch ----------------------------------------------------------------------------------------------- */

/* Pages for tokens up to n_tokens; false when none is free (those taken stay with the request). */
static bool cover(sched *s, sched_request *r, uint32_t n_tokens) {
    uint32_t need = (n_tokens + s->shape.page_tokens - 1) / s->shape.page_tokens;
    while (r->n_pages < need) {
        if (!kv_pool_take(s->pages, &r->pages[r->n_pages])) return false;
        r->n_pages++;
    }
    return true;
}

static bool wants_all_logits(const sched_request *r) { return r->p.events.logits != NULL; }

/* n tokens of r from n_done on into the batch; the last of its log gets an output row, or every one if logits are wanted. */
static void add_tokens(sched *s, sched_request *r, uint32_t n) {
    exec_batch *b = &s->batch;
    bool generates = r->max_log > r->n_prompt;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = r->n_done + i;
        s->token[b->n_tok] = r->log[at];
        s->pos[b->n_tok] = (int32_t)at;
        s->seq[b->n_tok] = b->n_seq;
        if (wants_all_logits(r) || (at + 1 == r->n_log && generates)) {
            s->out_seq[b->n_out] = b->n_seq;
            s->out_row[b->n_out++] = (int32_t)b->n_tok;
        }
        b->n_tok++;
    }
    bool sample = generates && r->n_done + n == r->n_log && !wants_all_logits(r);
    r->result.n_top = r->p.n_top;
    s->seqs[b->n_seq] = (exec_seq){.pages = r->pages,
                                   .sampling = sample ? &r->p.sampling : NULL,
                                   .history = r->log,
                                   .n_history = r->n_log,
                                   .sample_pos = r->n_log,
                                   .result = sample ? &r->result : NULL,
                                   .failed = &r->failed};
    s->who[b->n_seq++] = r;
}

static void add_decodes(sched *s) {
    for (sched_request *r = s->first; r; r = r->next) {
        if (r->state != DECODE || s->batch.n_tok >= s->shape.max_tok || s->batch.n_out >= s->shape.max_out) continue;
        if (cover(s, r, r->n_done + 1)) add_tokens(s, r, 1);
    }
}

static void add_prefill(sched *s) {
    for (sched_request *r = s->first; r; r = r->next) {
        if (r->state == DECODE) continue;
        uint32_t room = s->shape.max_tok - s->batch.n_tok, n = r->n_log - r->n_done;
        if (wants_all_logits(r) && room > s->shape.max_out - s->batch.n_out) room = s->shape.max_out - s->batch.n_out;
        if (n > room) n = room;
        if (n == 0 || s->batch.n_out >= s->shape.max_out) return;
        /* A request is let in when its whole sequence fits, so that nobody has to be put out again. */
        if (r->state == WAITING && !cover(s, r, r->max_log)) return drop_pages(s, r);
        if (r->state == WAITING) r->started_us = clock_us();
        r->state = PREFILL;
        add_tokens(s, r, n);
    }
}

/* --- after the step --------------------------------------------------------------------------------------------------- */

/* The scheduler's last touch but for the event itself. */
static void let_go(sched *s, sched_request *r) {
    drop_pages(s, r);
    r->state = DONE;
    for (sched_request **at = &s->first; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            return;
        }
}

static void finish(sched *s, sched_request *r, finish_reason why) {
    if (why != FINISH_NONE) {
        strbuf_clear(&r->whole);
        strbuf_clear(&r->show);
        utf8_hold_flush(&r->hold, &r->whole);
        stop_matcher_push(r->stops, r->whole.p ? r->whole.p : "", r->whole.n, &r->show);
        stop_matcher_flush(r->stops, &r->show);
        if (r->show.n && r->p.events.token)
            r->p.events.token(r->p.user, TOKEN_NONE, 0.0f, NULL, 0, r->show.p, r->show.n);
    }
    let_go(s, r);
    int64_t first = r->first_us ? r->first_us : r->last_us;
    sched_timings t = {.prompt_us = first - r->started_us,
                       .predicted_us = r->last_us - first,
                       .n_prompt = r->n_prompt,
                       .n_predicted = r->n_log - r->n_prompt,
                       .stop = -1};
    r->p.events.finished(r->p.user, why, &t);
}

static void fail_request(sched *s, sched_request *r, const err *e) {
    err why = *e; /* it may be r's own, and r is not ours any more when the event returns */
    let_go(s, r);
    r->p.events.failed(r->p.user, &why);
}

/* A drawn token: into the log, its text to the client, and the rules of stopping. */
static void take_token(sched *s, sched_request *r) {
    int32_t id = r->result.id;
    bool end = tokenizer_is_eog(s->t, id) && !r->p.ignore_eos;
    r->log[r->n_log++] = id;
    strbuf_clear(&r->piece);
    strbuf_clear(&r->whole);
    strbuf_clear(&r->show);
    err e;
    if (!end || r->p.special_text) {
        status rc = tokenizer_piece(s->t, id, r->p.special_text, &r->piece, &e);
        if (!rc) rc = exec_check_file(s->x, &e); /* the piece was read from it just now */
        if (rc) return fail_request(s, r, &e);
    }
    utf8_hold_push(&r->hold, r->piece.p ? r->piece.p : "", r->piece.n, &r->whole);
    int hit = stop_matcher_push(r->stops, r->whole.p ? r->whole.p : "", r->whole.n, &r->show);
    if (r->piece.failed || r->whole.failed || r->show.failed) {
        fail(&e, ERR_NOMEM, "the text of a token");
        return fail_request(s, r, &e);
    }
    if (r->p.events.token)
        r->p.events.token(r->p.user, id, r->result.logprob, r->result.top, r->result.n_top, r->show.p ? r->show.p : "",
                          r->show.n);
    if (hit >= 0) {
        utf8_hold none = {0};
        r->hold = none;
    }
    if (end || hit >= 0)
        finish(s, r, FINISH_STOP);
    else if (r->n_log >= r->max_log)
        finish(s, r, FINISH_LENGTH);
}

static void deliver_logits(sched *s, uint32_t seq) {
    sched_request *r = s->who[seq];
    for (uint32_t i = 0; i < s->batch.n_out; i++)
        if (s->out_seq[i] == seq)
            r->p.events.logits(r->p.user, (uint32_t)s->pos[s->out_row[i]], exec_logits(s->x, i), s->n_vocab);
}

static void deliver(sched *s) {
    for (uint32_t t = 0; t < s->batch.n_tok; t++) s->who[s->seq[t]]->n_done++;
    for (uint32_t i = 0; i < s->batch.n_seq; i++) {
        sched_request *r = s->who[i];
        r->last_us = clock_us();
        if (r->failed.code) {
            fail_request(s, r, &r->failed);
            continue;
        }
        if (wants_all_logits(r)) deliver_logits(s, i);
        if (r->state == PREFILL && r->p.events.prompt) r->p.events.prompt(r->p.user, r->n_done, r->n_prompt);
        if (r->n_done < r->n_log) continue; /* more of the prompt to come */
        if (r->state == PREFILL) r->first_us = r->last_us;
        r->state = DECODE;
        if (s->seqs[i].result)
            take_token(s, r);
        else
            finish(s, r, FINISH_LENGTH);
    }
}

static void see_cancels(sched *s) {
    for (sched_request *r = s->first, *next; r; r = next) {
        next = r->next;
        if (!atomic_load(&r->cancelled)) continue;
        if (!r->started_us) r->started_us = r->last_us = clock_us();
        finish(s, r, FINISH_CANCELLED);
    }
}

status sched_step(sched *s, err *e) {
    s->batch = (exec_batch){.token = s->token, .pos = s->pos, .seq = s->seq, .out_row = s->out_row, .seqs = s->seqs};
    take_inbox(s);
    see_cancels(s);
    add_decodes(s);
    add_prefill(s);
    if (s->batch.n_tok == 0) return OK;
    status rc = exec_step(s->x, &s->batch, e);
    if (rc == OK) deliver(s);
    for (uint32_t i = 0; rc && i < s->batch.n_seq; i++) fail_request(s, s->who[i], e); /* every request of the step */
    return rc == ERR_FILE_CHANGED ? OK : rc;
}

void sched_get_stats(sched *s, sched_stats *out) { *out = (sched_stats){.pages_total = s->shape.n_pages}; }
