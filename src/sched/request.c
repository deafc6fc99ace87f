#include "sched/sched_own.h"

#include "base/clock.h"
#include "base/mem.h"

#include <assert.h>
#include <string.h>

/* --- lists and states ------------------------------------------------------------------------------------------------- */

void list_insert(request_list *l, sched_request *r) {
    sched_request **at = &l->first;
    while (*at && (*at)->order < r->order) at = &(*at)->next;
    r->next = *at;
    *at = r;
    l->n++;
}

void list_remove(request_list *l, sched_request *r) {
    sched_request **at = &l->first;
    while (*at != r) at = &(*at)->next;
    *at = r->next;
    r->next = NULL;
    l->n--;
}

status request_move(sched_request *r, request_state to, err *e) {
    static const char *const name[] = {"waiting", "prefill", "decode", "done"};
    static const bool legal[4][4] = {
        [REQUEST_WAITING] = {[REQUEST_PREFILL] = true, [REQUEST_DONE] = true},
        [REQUEST_PREFILL] = {[REQUEST_WAITING] = true, [REQUEST_DECODE] = true, [REQUEST_DONE] = true},
        [REQUEST_DECODE] = {[REQUEST_WAITING] = true, [REQUEST_DONE] = true},
    };
    if (!legal[r->state][to])
        return fail(e, ERR_INTERNAL, "a request cannot go from %s to %s", name[r->state], name[to]);
    r->state = to;
    return OK;
}

void request_to(sched_request *r, request_state to) {
    err e;
    status rc = request_move(r, to, &e);
    assert(rc == OK);
    (void)rc;
}

bool request_wants_all(const sched_request *r) {
    return r->p.events.logits || (r->p.events.embedding && r->p.pooling == POOL_MEAN);
}

bool request_wants_rows(const sched_request *r) {
    return request_wants_all(r) || (r->p.events.embedding && r->p.pooling == POOL_CLS);
}

bool request_wants_row(const sched_request *r, uint32_t at) {
    if (request_wants_all(r)) return at >= r->n_rows;
    if (request_wants_rows(r)) return at == 0 && r->n_rows == 0;
    return at + 1 == r->n_log && (request_generates(r) || r->p.events.embedding);
}

uint32_t width_of_rows(const sched *s, const sched_request *r) { return r->p.scores ? s->n_scores : s->d_model; }
bool request_generates(const sched_request *r) { return r->max_log > r->n_prompt; }

/* --- submission: any thread ------------------------------------------------------------------------------------------- */

static status check(const sched *s, const sched_params *p, err *e) {
    if (p->n_prompt == 0)
        return fail(e, ERR_EMPTY, "the prompt holds no token: give some text, or a model that adds BOS");
    for (size_t i = 0; i < p->n_prompt; i++)
        if (p->prompt[i] < 0 || (uint32_t)p->prompt[i] >= s->n_vocab)
            return fail(e, ERR_TOKEN, "token %d at %zu: this vocabulary has ids 0 to %u", p->prompt[i], i,
                        s->n_vocab - 1);
    if (p->n_prompt > s->opt.context)
        return fail(e, ERR_CONTEXT_LENGTH, "the prompt has %zu tokens, the context holds %u: raise -c or shorten it",
                    p->n_prompt, s->opt.context);
    if (p->max_tokens < -1) return fail(e, ERR_RANGE, "max_tokens %lld: give -1 or more", (long long)p->max_tokens);
    if (p->timeout_us < 0) return fail(e, ERR_RANGE, "a timeout of %lld us: give 0 or more", (long long)p->timeout_us);
    if (s->whole && !p->events.embedding)
        return fail(e, ERR_EMBEDS_ONLY, "%s is an encoder: it gives embeddings and generates no text",
                    exec_model(s->x)->arch_name);
    if (p->events.embedding && !s->shape.hidden)
        return fail(e, ERR_UNSUPPORTED, "this engine keeps no hidden states: embeddings need them");
    if (p->events.embedding && p->scores && (!s->n_scores || p->pooling == POOL_MEAN))
        return fail(e, ERR_UNSUPPORTED, "this model has no rank head: it gives no scores");
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

static bool take_memory(const sched *s, sched_request *r) {
    const sched_params *p = &r->p;
    r->log = mem_array((size_t)r->max_log + 1, sizeof *r->log);
    r->pages = mem_array((size_t)pages_for(s, r->max_log) + 1, sizeof *r->pages);
    r->bias = mem_array(p->sampling.n_bias + 1, sizeof *r->bias);
    if (p->n_top) r->result.top = mem_array(p->n_top, sizeof *r->result.top);
    if (p->events.embedding) {
        r->sum = mem_array(width_of_rows(s, r), sizeof *r->sum);
        r->mean = mem_array(width_of_rows(s, r), sizeof *r->mean);
        if (!r->sum || !r->mean) return false;
    }
    bool text = reserve_text(&r->piece) && reserve_text(&r->whole) && reserve_text(&r->show);
    return text && r->log && r->pages && r->bias && (!p->n_top || r->result.top);
}

/* All memory of a request is taken here: none while it runs. */
static status fill_request(sched *s, sched_request *r, const sched_params *p, err *e) {
    r->p = *p;
    r->n_prompt = r->n_log = (uint32_t)p->n_prompt;
    uint64_t room = request_wants_rows(r) ? 0 : s->opt.context - p->n_prompt;
    if (p->max_tokens >= 0 && (uint64_t)p->max_tokens < room) room = (uint64_t)p->max_tokens;
    r->max_log = (uint32_t)(p->n_prompt + room);
    if (!take_memory(s, r)) return fail(e, ERR_NOMEM, "request");
    memcpy(r->log, p->prompt, p->n_prompt * sizeof *r->log);
    if (p->sampling.n_bias) memcpy(r->bias, p->sampling.bias, p->sampling.n_bias * sizeof *r->bias);
    r->p.sampling.bias = r->bias;
    if (p->ignore_eos) r->p.sampling.n_banned = tokenizer_eog_ids(s->t, &r->p.sampling.banned);
    r->p.prompt = NULL;
    r->p.stop = NULL;
    r->submitted_us = clock_us();
    if (p->timeout_us) r->deadline_us = r->submitted_us + p->timeout_us;
    return stop_matcher_new(&r->stops, p->stop, p->n_stop, e);
}

static status enqueue(sched *s, sched_request *r, err *e) {
    uint64_t most = s->opt.queue ? (uint64_t)s->opt.queue + s->most_running : UINT64_MAX;
    pthread_mutex_lock(&s->lock);
    uint32_t n_live = s->n_live;
    if (n_live < most) {
        r->order = s->n_submitted++;
        s->n_live++;
        *s->inbox_end = r;
        s->inbox_end = &r->next;
    }
    pthread_mutex_unlock(&s->lock);
    if (n_live < most) return OK;
    return fail(e, ERR_QUEUE_FULL, "%u requests run or wait, no more are taken: try again later", n_live);
}

status sched_submit(sched *s, const sched_params *p, sched_request **out, err *e) {
    *out = NULL;
    status rc = check(s, p, e);
    if (rc) return rc;
    sched_request *r = mem_zalloc(sizeof *r);
    rc = r ? fill_request(s, r, p, e) : fail(e, ERR_NOMEM, "request");
    if (!rc) {
        *out = r; /* before the first event can come */
        rc = enqueue(s, r, e);
    }
    if (rc) {
        *out = NULL;
        sched_request_free(r);
    }
    return rc;
}

void sched_cancel(sched_request *r) { atomic_store(&r->cancelled, true); }

void sched_request_free(sched_request *r) {
    if (!r) return;
    stop_matcher_free(r->stops);
    strbuf_free(&r->piece);
    strbuf_free(&r->whole);
    strbuf_free(&r->show);
    mem_free(r->log);
    mem_free(r->pages);
    mem_free(r->bias);
    mem_free(r->sum);
    mem_free(r->mean);
    mem_free(r->result.top);
    mem_free(r);
}
