/* What the next step computes: a token for every sequence that generates, then prompts up to the step's budget, in which
 * the oldest has its share and the shortest go first in the rest: a short prompt does not wait for a long one to be read,
 * and a long one is read on whatever comes after it. */
#include "sched/sched_own.h"

/* n tokens of r from n_done on. Rows of output: of the last of its log, or of each that is wanted and was not yet told. */
static void add_tokens(sched *s, sched_request *r, uint32_t n) {
    exec_batch *b = &s->batch;
    r->n_step = n;
    r->out = b->n_out;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = r->n_done + i;
        s->token[b->n_tok] = r->log[at];
        s->pos[b->n_tok] = (int32_t)at;
        s->seq[b->n_tok] = b->n_seq;
        if (request_wants_row(r, at)) s->out_row[b->n_out++] = (int32_t)b->n_tok;
        b->n_tok++;
    }
    r->n_out = b->n_out - r->out;
    bool sample = request_generates(r) && r->n_done + n == r->n_log;
    r->result.n_top = r->p.n_top;
    r->left_now = NULL;
    s->seqs[b->n_seq] = (exec_seq){.pages = r->pages,
                                   .sampling = sample ? &r->p.sampling : NULL,
                                   .history = r->log,
                                   .n_history = r->n_log,
                                   .sample_pos = r->n_log,
                                   .logits = r->p.events.logits != NULL,
                                   .result = sample ? &r->result : NULL,
                                   .left = &r->left_now,
                                   .failed = &r->failed};
    s->who[b->n_seq++] = r;
}

void add_decodes(sched *s) {
    for (sched_request *r = s->running.first, *next; r; r = next) {
        bool stays = true;
        while (r->state == REQUEST_DECODE && !pages_grow(s, r)) stays = put_back_newest(s, r);
        next = stays ? r->next : NULL; /* the newest was put back for want of its own page */
        if (r->state == REQUEST_DECODE) add_tokens(s, r, 1);
    }
}

/* --- prompts ------------------------------------------------------------------------------------------------------------ */

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t budget(const sched *s) {
    uint32_t n_decode = s->batch.n_seq, room = s->shape.max_tok - s->batch.n_tok;
    if (n_decode == 0) return room;
    switch (s->opt.chunking) {
    case CHUNK_ADAPTIVE: return step_cost_budget(&s->cost, n_decode, s->opt.step_us, room);
    case CHUNK_FIXED: return min_u32(s->opt.chunk, room);
    case CHUNK_NONE: break;
    }
    return room;
}

/* Rows of output that n of its tokens take beyond the one that everybody is sure of. */
static uint32_t extra_rows(const sched_request *r, uint32_t n) {
    uint32_t told = r->n_rows > r->n_done ? r->n_rows - r->n_done : 0;
    return request_wants_all(r) && n > told + 1 ? n - told - 1 : 0;
}

/* Most tokens that r can have in this step. */
static uint32_t most_tokens(const sched_request *r, uint32_t rows_left) {
    uint32_t n = r->n_log - r->n_done, over = extra_rows(r, n), rows = extra_rows(r, r->n_step) + rows_left;
    return over > rows ? n - (over - rows) : n;
}

static uint32_t give(sched_request *r, uint32_t most, uint32_t *rows_left) {
    uint32_t had = extra_rows(r, r->n_step), n = min_u32(most_tokens(r, *rows_left) - r->n_step, most);
    r->n_step += n;
    *rows_left -= extra_rows(r, r->n_step) - had;
    return n;
}

/* Who has the least left to read and can have more; NULL: nobody. */
static sched_request *shortest(const sched *s, uint32_t rows_left) {
    sched_request *best = NULL;
    for (sched_request *r = s->running.first; r; r = r->next) {
        if (r->state != REQUEST_PREFILL || most_tokens(r, rows_left) <= r->n_step) continue;
        if (!best || r->n_log - r->n_done < best->n_log - best->n_done) best = r;
    }
    return best;
}

/* As many whole prompts as fit, the oldest first; the first always does. */
static void add_whole(sched *s) {
    for (sched_request *r = s->running.first; r; r = r->next)
        if (r->state == REQUEST_PREFILL && r->n_log <= s->shape.max_tok - s->batch.n_tok) add_tokens(s, r, r->n_log);
}

void add_prefill(sched *s) {
    if (s->whole) return add_whole(s);
    uint32_t left = budget(s), rows_left = s->shape.max_out - s->batch.n_out, n_prefill = 0;
    sched_request *oldest = NULL, *r;
    for (r = s->running.first; r; r = r->next) {
        if (r->state != REQUEST_PREFILL) continue;
        if (!oldest) oldest = r;
        r->n_step = 0;
        n_prefill++;
    }
    if (!oldest) return;
    rows_left -= n_prefill; /* the rows that everybody is sure of */
    left -= give(oldest, (left + 1) / 2, &rows_left);
    while (left > 0 && (r = shortest(s, rows_left))) left -= give(r, left, &rows_left);
    for (r = s->running.first; r; r = r->next)
        if (r->state == REQUEST_PREFILL && r->n_step) add_tokens(s, r, r->n_step);
}
