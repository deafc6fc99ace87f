#include "backend/cpu/warm.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { UNIT = 2 << 20, NICE = 10, REST = 3 }; /* rests so many times as long as a unit took */

struct warm {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t thread;
    char *block;
    size_t n_bytes;
    size_t reached; /* only the caller's; what follows is under the lock */
    size_t n_units, used, wanted, n_done;
    bool stop, *done; /* [n_units] */
};

static int64_t clock_ns(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Most of the time away, so that no step meets two units. Under the lock. */
static void rest(warm *w, int64_t worked_ns) {
    int64_t until = clock_ns(CLOCK_REALTIME) + REST * worked_ns;
    struct timespec t = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = until % 1000000000};
    while (!w->stop && pthread_cond_timedwait(&w->more, &w->lock, &t) == 0) {}
}

/* What comes next, then what somebody has taken and may not have touched yet; n_units: nothing. */
static size_t next_unit(const warm *w) {
    for (size_t i = w->used; i < w->wanted; i++)
        if (!w->done[i]) return i;
    for (size_t i = 0; i < w->used; i++)
        if (!w->done[i]) return i;
    return w->n_units;
}

static bool bring_in(const warm *w, size_t unit) {
    size_t at = unit * UNIT, n = w->n_bytes - at < UNIT ? w->n_bytes - at : UNIT;
    return madvise(w->block + at, n, MADV_POPULATE_WRITE) == 0;
}

static void *warm_main(void *arg) {
    warm *w = arg;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* of this thread only */
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        size_t unit = next_unit(w);
        if (unit == w->n_units) {
            pthread_cond_wait(&w->more, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        int64_t began = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        bool ok = bring_in(w, unit);
        pthread_mutex_lock(&w->lock);
        if (!ok) break; /* an old kernel, or no memory: the step that needs the page will say so */
        w->done[unit] = true;
        w->n_done++;
        rest(w, clock_ns(CLOCK_THREAD_CPUTIME_ID) - began);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

warm *warm_open(void *block, size_t n_bytes) {
    warm *w = n_bytes > 2 * (size_t)UNIT ? mem_zalloc(sizeof *w) : NULL;
    if (!w) return NULL;
    w->block = block, w->n_bytes = n_bytes, w->n_units = (n_bytes + UNIT - 1) / UNIT;
    w->done = mem_array(w->n_units, sizeof *w->done);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    if (w->done && pthread_create(&w->thread, NULL, warm_main, w) == 0) return w;
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    mem_free(w->done);
    mem_free(w);
    return NULL;
}

void warm_reach(warm *w, size_t n_bytes) {
    if (!w || n_bytes <= w->reached) return;
    w->reached = n_bytes;
    size_t used = (n_bytes + UNIT - 1) / UNIT;
    pthread_mutex_lock(&w->lock);
    w->used = used < w->n_units ? used : w->n_units;
    w->wanted = w->used < w->n_units / 2 ? 2 * w->used : w->n_units;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

size_t warm_done(warm *w) {
    pthread_mutex_lock(&w->lock);
    size_t n = w->n_done * UNIT;
    pthread_mutex_unlock(&w->lock);
    return n < w->n_bytes ? n : w->n_bytes;
}

void warm_close(warm *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    mem_free(w->done);
    mem_free(w);
}
