/* What came of a step: rows and tokens to those who asked, text as far as it may be shown, and the ends of requests. */
#include "sched/sched_own.h"

/* --- ends --------------------------------------------------------------------------------------------------------------- */

/* The scheduler's last touch but for the event itself: once that returns, the request is not ours any more. */
static void let_go(sched *s, sched_request *r, bool sound) {
    if (sound) pages_keep_open(s, r);
    forget_leader(s, r);
    pages_drop(s, r);
    list_remove(r->state == REQUEST_WAITING ? &s->waiting : &s->running, r);
    request_to(r, REQUEST_DONE);
    publish(s, 1);
}

/* At the end, what was held back was neither a stop string nor half a character. */
static void show_held(sched_request *r) {
    strbuf_clear(&r->whole);
    strbuf_clear(&r->show);
    utf8_hold_flush(&r->hold, &r->whole);
    stop_matcher_push(r->stops, r->whole.p ? r->whole.p : "", r->whole.n, &r->show);
    stop_matcher_flush(r->stops, &r->show);
    if (r->show.n && r->p.events.token) r->p.events.token(r->p.user, TOKEN_NONE, 0.0f, NULL, 0, r->show.p, r->show.n);
}

void finish_request(sched *s, sched_request *r, finish_reason why, int32_t stop) {
    show_held(r);
    let_go(s, r, true);
    int64_t let_in = r->started_us ? r->started_us : s->now_us;
    int64_t first = r->first_us ? r->first_us : s->now_us;
    sched_timings t = {.queue_us = let_in - r->submitted_us,
                       .prompt_us = first - let_in,
                       .predicted_us = r->first_us ? r->last_us - first : 0,
                       .n_prompt = r->n_prompt,
                       .n_predicted = r->n_log - r->n_prompt,
                       .n_cached = r->n_cached,
                       .n_preempted = r->n_preempted,
                       .waited_for = r->waited_for,
                       .stop = stop,
                       .n_left = r->n_left,
                       .left = r->left};
    r->p.events.finished(r->p.user, why, &t);
}

void fail_request(sched *s, sched_request *r, const err *e) {
    err why = *e; /* it may be r's own */
    let_go(s, r, why.code == ERR_TIMEOUT);
    r->p.events.failed(r->p.user, &why);
}

/* --- tokens ------------------------------------------------------------------------------------------------------------- */

/* The token's bytes, from the model's file; end: it is shown only where control tokens are. */
static status read_piece(sched *s, sched_request *r, int32_t id, bool end, err *e) {
    strbuf_clear(&r->piece);
    if (end && !r->p.special_text) return OK;
    status rc = tokenizer_piece(s->t, id, r->p.special_text, &r->piece, e);
    return rc ? rc : exec_check_file(s->x, e);
}

/* A drawn token: into the log, its text to the client, and the rules of stopping. */
static void take_token(sched *s, sched_request *r) {
    int32_t id = r->result.id;
    bool end = tokenizer_is_eog(s->t, id) && !r->p.ignore_eos;
    r->log[r->n_log++] = id;
    s->now.generated_tokens++;
    strbuf_clear(&r->whole);
    strbuf_clear(&r->show);
    err e;
    if (read_piece(s, r, id, end, &e)) return fail_request(s, r, &e);
    utf8_hold_push(&r->hold, r->piece.p ? r->piece.p : "", r->piece.n, &r->whole);
    int hit = stop_matcher_push(r->stops, r->whole.p ? r->whole.p : "", r->whole.n, &r->show);
    if (r->piece.failed || r->whole.failed || r->show.failed) {
        fail(&e, ERR_NOMEM, "the text of a token");
        return fail_request(s, r, &e);
    }
    if (r->p.events.token)
        r->p.events.token(r->p.user, id, r->result.logprob, r->result.top, r->result.n_top, r->show.p ? r->show.p : "",
                          r->show.n);
    if (hit >= 0) r->hold = (utf8_hold){.n_held = 0};
    if (end || hit >= 0)
        finish_request(s, r, FINISH_STOP, hit);
    else if (r->n_log >= r->max_log)
        finish_request(s, r, FINISH_LENGTH, -1);
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */

/* Rows come in ascending position, in whatever chunks the prompt was read: the sum's bits are the same. */
static void add_hidden(sched *s, sched_request *r, uint32_t row) {
    const float *h = r->p.scores ? exec_scores(s->x, row) : exec_hidden(s->x, row);
    for (uint32_t k = 0; k < width_of_rows(s, r); k++) r->sum[k] += (double)h[k];
}

static void give_rows(sched *s, sched_request *r) {
    for (uint32_t i = r->out; i < r->out + r->n_out; i++) {
        if (r->p.events.logits)
            r->p.events.logits(r->p.user, (uint32_t)s->pos[s->out_row[i]], exec_logits(s->x, i), s->n_vocab);
        if (r->p.events.embedding) add_hidden(s, r, i);
        r->n_rows++;
    }
}

static void give_mean(const sched *s, sched_request *r) {
    uint32_t n = width_of_rows(s, r);
    for (uint32_t k = 0; k < n; k++) r->mean[k] = (float)(r->sum[k] / r->n_rows);
    r->p.events.embedding(r->p.user, r->mean, n);
}

/* --- a step's end --------------------------------------------------------------------------------------------------------- */

static void tell_progress(sched_request *r) {
    uint32_t done = r->n_done < r->n_prompt ? r->n_done : r->n_prompt;
    if (done <= r->n_told) return; /* read once more, for who was put back */
    r->n_told = done;
    if (r->p.events.prompt) r->p.events.prompt(r->p.user, done, r->n_prompt);
}

static void note_left(sched *s, sched_request *r) {
    if (!r->left_now) return;
    r->n_left++;
    s->now.draws_left++;
    r->left = s->now.left = r->left_now;
}

static void deliver_to(sched *s, sched_request *r, bool sampled) {
    note_left(s, r);
    if (r->failed.code) return fail_request(s, r, &r->failed);
    r->last_us = s->now_us;
    pages_keep(s, r);
    give_rows(s, r);
    tell_progress(r);
    if (r->n_done < r->n_log) return; /* more of the prompt to come */
    if (r->state == REQUEST_PREFILL) {
        pages_keep_open(s, r);
        forget_leader(s, r);
        request_to(r, REQUEST_DECODE);
    }
    if (!r->first_us) r->first_us = s->now_us;
    if (r->p.events.embedding) give_mean(s, r);
    if (sampled)
        take_token(s, r);
    else
        finish_request(s, r, FINISH_LENGTH, -1);
}

void deliver(sched *s) {
    for (uint32_t i = 0; i < s->batch.n_seq; i++) s->who[i]->n_done += s->who[i]->n_step;
    for (uint32_t i = 0; i < s->batch.n_seq; i++) deliver_to(s, s->who[i], s->seqs[i].result != NULL);
}
