/* The queue: in order of submission, except that a request which waits for another to compute what both begin with lets
 * those behind it pass. */
#include "sched/sched_own.h"

#include "base/log.h"

/* --- waiting for one that computes the same --------------------------------------------------------------------------- */

static uint32_t n_common(const sched_request *a, const sched_request *b) {
    uint32_t n = a->n_log < b->n_log ? a->n_log : b->n_log, i = 0;
    while (i < n && a->log[i] == b->log[i]) i++;
    return i;
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Who is computing the most of r's prompt, if waiting for it saves at least a page over what is computed by now. Not one
 * that wants a row at each position: it may be slow. */
static void find_leader(sched *s, sched_request *r) {
    uint32_t known = 0, most = 0;
    for (sched_request *q = s->running.first; q; q = q->next) {
        uint32_t same = min_u32(n_common(q, r), r->n_log - 1), done = min_u32(same, q->n_done);
        if (done > known) known = done;
        if (q->state != REQUEST_PREFILL || !q->keeps || request_wants_rows(q) || same <= most) continue;
        most = same;
        r->leader = q;
        r->leader_until = same;
    }
    if (most < known + s->shape.page_tokens) r->leader = NULL;
}

static bool waits_for_leader(sched *s, sched_request *r) {
    if (!s->prefix || r->p.no_cache || request_wants_rows(r)) return false;
    if (r->leader && r->leader->n_done >= r->leader_until) r->leader = NULL;
    if (!r->leader) find_leader(s, r);
    return r->leader != NULL;
}

void forget_leader(sched *s, const sched_request *r) {
    for (sched_request *q = s->waiting.first; q; q = q->next)
        if (q->leader == r) q->leader = NULL;
}

/* --- in ----------------------------------------------------------------------------------------------------------------- */

/* Pages that those who run will soon want: one for each that is not at its end. */
static uint32_t soon_wanted(const sched *s) {
    uint32_t n = 0;
    for (const sched_request *r = s->running.first; r; r = r->next) n += r->n_pages < pages_for(s, r->max_log);
    return n;
}

static bool let_in(sched *s, sched_request *r) {
    if (!pages_admit(s, r, soon_wanted(s))) return false;
    list_remove(&s->waiting, r);
    list_insert(&s->running, r);
    request_to(r, REQUEST_PREFILL);
    if (r->started_us) return true; /* it ran before */
    r->started_us = s->now_us;
    r->n_cached = r->n_told = r->n_done;
    s->now.prompt_tokens += r->n_prompt;
    s->now.cached_tokens += r->n_cached;
    if (r->p.events.prompt) r->p.events.prompt(r->p.user, r->n_done, r->n_prompt);
    return true;
}

static void waits(sched *s, sched_request *r, unsigned why) {
    if (r->started_us || r->waited_for & why) return;
    r->waited_for |= why;
    s->now.waited_queue += why == SCHED_WAIT_QUEUE;
    s->now.waited_kv += why == SCHED_WAIT_KV;
    s->now.waited_batch += why == SCHED_WAIT_BATCH;
    s->now.waited_prefix += why == SCHED_WAIT_PREFIX;
}

void admit_waiting(sched *s) {
    unsigned blocked = 0; /* why nobody else gets in */
    for (sched_request *r = s->waiting.first, *next; r; r = next) {
        next = r->next;
        unsigned why = blocked ? SCHED_WAIT_QUEUE : 0;
        if (!blocked && s->running.n >= s->most_running)
            why = blocked = SCHED_WAIT_BATCH;
        else if (!blocked && waits_for_leader(s, r))
            why = SCHED_WAIT_PREFIX;
        else if (!blocked && !let_in(s, r))
            why = blocked = SCHED_WAIT_KV;
        if (why) waits(s, r, why);
    }
}

/* --- and out again ------------------------------------------------------------------------------------------------------ */

bool put_back_newest(sched *s, sched_request *needy) {
    sched_request *r = needy;
    while (r->next) r = r->next;
    forget_leader(s, r);
    pages_keep_open(s, r);
    pages_drop(s, r);
    list_remove(&s->running, r);
    list_insert(&s->waiting, r);
    request_to(r, REQUEST_WAITING);
    r->n_preempted++;
    s->now.preemptions++;
    log_event(LOG_DEBUG, "sched", "a request makes room and goes on later",
              (log_field[]){log_i("prompt_tokens", r->n_prompt), log_i("waiting", s->waiting.n), {0}});
    return r != needy;
}
