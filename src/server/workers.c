#include "server/workers.h"

#include "base/mem.h"

#include <pthread.h>
#include <uv.h>

enum { THREADS_MOST = 16 };

typedef struct item item;
struct item {
    worker_task t;
    exchange *x; /* loop thread only */
    bool gone;   /* under the lock: its peer left */
    workers *w;
    item *next;
};

typedef struct {
    item *first, **last;
    uint32_t n;
} item_list;

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t work;
    item_list waiting, finished; /* under the lock */
    bool ending;                 /* likewise */
    uint32_t most, n_threads;
    uint32_t n_open; /* loop thread: tasks between workers_run and done */
    pthread_t thread[THREADS_MOST];
    uv_async_t wake;
};

static void append(item_list *l, item *i) {
    i->next = NULL;
    *l->last = i;
    l->last = &i->next;
    l->n++;
}

static item *take(item_list *l) {
    item *i = l->first;
    if (!i) return NULL;
    l->first = i->next;
    if (!l->first) l->last = &l->first;
    l->n--;
    return i;
}

static void *work(void *user) {
    workers *w = user;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        item *i = take(&w->waiting);
        if (!i && w->ending) break;
        if (!i) {
            pthread_cond_wait(&w->work, &w->lock);
            continue;
        }
        const bool skip = i->gone && !i->t.always;
        pthread_mutex_unlock(&w->lock);
        if (!skip) i->t.run(i->t.user);
        pthread_mutex_lock(&w->lock);
        append(&w->finished, i);
        uv_async_send(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static void end_item(workers *w, item *i) {
    exchange *x = i->x;
    if (x) {
        x->user = NULL;
        x->closed = NULL;
    }
    if (--w->n_open == 0) uv_unref((uv_handle_t *)&w->wake);
    i->t.done(i->t.user, x);
    mem_free(i);
}

/* `done` may begin another task: so each is taken by itself. */
static void on_wake(uv_async_t *h) {
    workers *w = h->data;
    for (;;) {
        pthread_mutex_lock(&w->lock);
        item *i = take(&w->finished);
        pthread_mutex_unlock(&w->lock);
        if (!i) return;
        end_item(w, i);
    }
}

static void on_exchange_closed(exchange *x) {
    item *i = x->user;
    i->x = NULL;
    pthread_mutex_lock(&i->w->lock);
    i->gone = true;
    pthread_mutex_unlock(&i->w->lock);
}

static void end_threads(workers *w) {
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < w->n_threads; i++) pthread_join(w->thread[i], NULL);
    w->n_threads = 0;
}

static void on_closed(uv_handle_t *h) {
    workers *w = h->data;
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

workers *workers_new(void *uv_loop, uint32_t n_threads, uint32_t most_waiting) {
    workers *w = mem_zalloc(sizeof *w);
    if (!w) return NULL;
    w->waiting.last = &w->waiting.first;
    w->finished.last = &w->finished.first;
    w->most = most_waiting;
    w->wake.data = w;
    if (uv_async_init(uv_loop, &w->wake, on_wake)) {
        mem_free(w);
        return NULL;
    }
    uv_unref((uv_handle_t *)&w->wake); /* held only while something is under way */
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    while (w->n_threads < n_threads && w->n_threads < THREADS_MOST &&
           !pthread_create(&w->thread[w->n_threads], NULL, work, w))
        w->n_threads++;
    if (w->n_threads) return w;
    workers_free(w);
    return NULL;
}

bool workers_run(workers *w, exchange *x, const worker_task *t) {
    item *i = mem_alloc(sizeof *i);
    if (!i) return false;
    *i = (item){.t = *t, .x = x, .w = w};
    pthread_mutex_lock(&w->lock);
    const bool room = w->waiting.n < w->most;
    if (room) append(&w->waiting, i);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    if (!room) {
        mem_free(i);
        return false;
    }
    if (w->n_open++ == 0) uv_ref((uv_handle_t *)&w->wake);
    if (x) {
        x->user = i;
        x->closed = on_exchange_closed;
    }
    return true;
}

void workers_free(workers *w) {
    if (!w) return;
    end_threads(w);
    on_wake(&w->wake);
    uv_close((uv_handle_t *)&w->wake, on_closed);
}
