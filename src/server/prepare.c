#include "server/prepare.h"

#include "base/mem.h"

#include <uv.h>

enum { WORTH_A_THREAD = 64 * 1024 }; /* bytes of text: more may hold the loop up for many milliseconds */

typedef struct {
    uv_work_t work;
    exchange *x; /* NULL: its peer left */
    void (*run)(void *user);
    void (*done)(void *user, exchange *x);
    void *user;
} preparation;

static void on_closed(exchange *x) { ((preparation *)x->user)->x = NULL; }

static void on_run(uv_work_t *w) {
    preparation *p = w->data;
    p->run(p->user);
}

static void on_done(uv_work_t *w, int result) {
    (void)result; /* it is never cancelled */
    preparation *p = w->data;
    if (p->x) {
        p->x->user = NULL;
        p->x->closed = NULL;
    }
    p->done(p->user, p->x);
    mem_free(p);
}

static bool queue(exchange *x, void (*run)(void *), void (*done)(void *, exchange *), void *user) {
    preparation *p = mem_alloc(sizeof *p);
    if (!p) return false;
    *p = (preparation){.x = x, .run = run, .done = done, .user = user};
    p->work.data = p;
    if (uv_queue_work(x->app->loop, &p->work, on_run, on_done)) {
        mem_free(p);
        return false;
    }
    x->user = p;
    x->closed = on_closed;
    return true;
}

void prepare_run(exchange *x, size_t n_bytes, void (*run)(void *user), void (*done)(void *user, exchange *x),
                 void *user) {
    if (n_bytes > WORTH_A_THREAD && queue(x, run, done, user)) return;
    run(user);
    done(user, x);
}
