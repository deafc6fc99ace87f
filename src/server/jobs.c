/* The book of generations: those that run, in the order in which they came, and those that ended, for a while. */
#include "server/job_own.h"

#include "base/clock.h"
#include "base/mem.h"

#include <uv.h>

enum { KEPT_MOST = 1000, TICK_MS = 5000 };
#define KEPT_BYTES ((size_t)64 << 20)
#define KEPT_US    (INT64_C(600) * 1000000)

typedef struct {
    job_own *first, *last;
    uint32_t n;
} job_list;

struct jobs {
    app *app;
    uv_async_t wake;
    uv_timer_t tick;
    int n_handles; /* not yet closed */
    uint32_t last_id;
    job_list running, ended;
    size_t kept_bytes; /* of those that ended */
    rf_request **retired;
    size_t n_retired, cap_retired;
};

static void list_append(job_list *l, job_own *o) {
    o->prev = l->last;
    o->next = NULL;
    if (l->last)
        l->last->next = o;
    else
        l->first = o;
    l->last = o;
    l->n++;
}

static void list_remove(job_list *l, job_own *o) {
    if (o->prev)
        o->prev->next = o->next;
    else
        l->first = o->next;
    if (o->next)
        o->next->prev = o->prev;
    else
        l->last = o->prev;
    l->n--;
}

static void prune(jobs *all) {
    const int64_t old = clock_us() - KEPT_US;
    while (all->ended.first &&
           (all->ended.n > KEPT_MOST || all->kept_bytes > KEPT_BYTES || all->ended.first->ended_us < old)) {
        job_own *o = all->ended.first;
        list_remove(&all->ended, o);
        all->kept_bytes -= o->kept_bytes;
        job_free(o);
    }
}

static void free_retired(jobs *all, size_t n) {
    for (size_t i = 0; i < n; i++) rf_request_free(all->retired[i]);
    for (size_t i = n; i < all->n_retired; i++) all->retired[i - n] = all->retired[i];
    all->n_retired -= n;
}

/* A job's events may start or end others, never free a running one but itself. */
static void on_wake(uv_async_t *h) {
    jobs *all = h->data;
    free_retired(all, all->n_retired);
    job_own *last = all->running.last;
    for (job_own *o = all->running.first, *next; o; o = next) {
        const bool end = o == last; /* what comes behind it began during this turn */
        next = end ? NULL : o->next;
        job_deliver(o);
    }
    prune(all);
    if (all->n_retired) uv_async_send(&all->wake);
}

static void on_tick(uv_timer_t *h) {
    jobs *all = h->data;
    prune(all);
    for (job_own *o = all->running.first, *next; o; o = next) {
        next = o->next; /* a tick ends no job: at most its exchange */
        if (o->j.x && o->opt.tick && !o->j.first_us) o->opt.tick(&o->j);
    }
}

jobs *jobs_new(app *a, void *uv_loop) {
    jobs *all = mem_zalloc(sizeof *all);
    if (!all) return NULL;
    all->app = a;
    all->wake.data = all->tick.data = all;
    if (uv_async_init(uv_loop, &all->wake, on_wake)) {
        mem_free(all);
        return NULL;
    }
    uv_timer_init(uv_loop, &all->tick); /* this and the start cannot fail */
    uv_timer_start(&all->tick, on_tick, TICK_MS, TICK_MS);
    uv_unref((uv_handle_t *)&all->wake); /* held only while something runs */
    uv_unref((uv_handle_t *)&all->tick);
    all->n_handles = 2;
    return all;
}

static void on_closed(uv_handle_t *h) {
    jobs *all = h->data;
    if (--all->n_handles) return;
    mem_free(all->retired);
    mem_free(all);
}

static void free_list(job_list *l) {
    while (l->first) {
        job_own *o = l->first;
        list_remove(l, o);
        job_free(o);
    }
}

void jobs_free(jobs *all) {
    if (!all) return;
    free_list(&all->running); /* none, unless the server gave up on them: this waits for the engine */
    free_list(&all->ended);
    free_retired(all, all->n_retired);
    uv_close((uv_handle_t *)&all->wake, on_closed);
    uv_close((uv_handle_t *)&all->tick, on_closed);
}

app *jobs_app(jobs *all) { return all->app; }
void jobs_wake(jobs *all) { uv_async_send(&all->wake); }
uint32_t jobs_running(const jobs *all) { return all->running.n; }

void jobs_add(jobs *all, job_own *o) {
    if (++all->last_id == 0) all->last_id = 1;
    o->j.id = all->last_id;
    if (all->running.n == 0) uv_ref((uv_handle_t *)&all->wake);
    list_append(&all->running, o);
}

static void leave_running(jobs *all, job_own *o) {
    list_remove(&all->running, o);
    if (all->running.n == 0) uv_unref((uv_handle_t *)&all->wake);
}

void jobs_drop(jobs *all, job_own *o) {
    leave_running(all, o);
    job_free(o);
}

void jobs_ended(jobs *all, job_own *o) {
    leave_running(all, o);
    list_append(&all->ended, o);
    o->kept_bytes = 0;
    for (uint32_t i = 0; i < o->j.n; i++)
        o->kept_bytes += o->choice[i].text.n + o->choice[i].cap_tokens * sizeof *o->choice[i].tokens;
    all->kept_bytes += o->kept_bytes;
}

void jobs_retire_request(jobs *all, rf_request *r) {
    if (all->n_retired == all->cap_retired) {
        const size_t cap = all->cap_retired ? 2 * all->cap_retired : 16;
        rf_request **more = mem_resize(all->retired, cap * sizeof *more);
        if (!more) { /* its last event is out: at worst this waits for the engine to return from the callback */
            rf_request_free(r);
            return;
        }
        all->retired = more;
        all->cap_retired = cap;
    }
    all->retired[all->n_retired++] = r;
    uv_async_send(&all->wake);
}

void jobs_cancel_all(jobs *all) {
    for (job_own *o = all->running.first; o; o = o->next) {
        o->stopped |= !o->j.cancelled;
        job_cancel(&o->j);
    }
}

static bool read_number(str s, uint32_t *out) {
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || v > UINT32_MAX) return false;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    }
    *out = (uint32_t)v;
    return s.n > 0 && v > 0 && v <= UINT32_MAX;
}

static job *find_in(const job_list *l, uint32_t number, str id) {
    for (job_own *o = l->last; o; o = o->prev)
        if (!o->refused && (number ? o->j.id == number : str_is(id, o->request_id))) return &o->j;
    return NULL;
}

/* A number is looked up as one first: nobody can hide another's generation behind a request id of digits. */
job *jobs_find(jobs *all, str id) {
    prune(all);
    uint32_t number = 0;
    job *j = NULL;
    if (read_number(id, &number) && !(j = find_in(&all->running, number, id))) j = find_in(&all->ended, number, id);
    if (!j) j = find_in(&all->running, 0, id);
    return j ? j : find_in(&all->ended, 0, id);
}

void jobs_each(jobs *all,
               void (*each)(void *ctx, const job *j, uint32_t choice, uint32_t n_prompt, uint32_t n_done,
                            uint32_t n_predicted),
               void *ctx) {
    for (job_own *o = all->running.first; o; o = o->next)
        for (uint32_t i = 0; i < o->j.n; i++) {
            const job_choice *c = &o->choice[i];
            if (c->request && !c->ended && c->prompt_total)
                each(ctx, &o->j, i, c->prompt_total, c->prompt_done, c->n_predicted);
        }
}
