#include "backend/cpu/pool.h"

#include "base/mem.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() sched_yield()
#endif

/* About 30 us of pauses on current CPUs: longer than the gap between two jobs of a step, far shorter than a time slice. */
enum { SPIN_PAUSES = 1500, CACHE_LINE = 64 };

typedef struct {
    pool *p;
    uint32_t index;
    pthread_t thread;
} worker;

struct pool {
    /* The job. epoch in the high half, chunks not yet claimed in the low half: a claim can only succeed while its job is
     * open, and the job's fields are rewritten only after every chunk of it is done, so fields read between a load of
     * `claim` and a successful claim of the same epoch are that job's. */
    _Alignas(CACHE_LINE) _Atomic uint64_t claim;
    _Atomic(pool_fn) fn;
    _Atomic(void *) ctx;
    _Atomic uint32_t n_chunks;
    _Alignas(CACHE_LINE) _Atomic uint32_t n_done; /* futex: the caller sleeps on it */
    _Atomic uint32_t caller_sleeps;
    _Alignas(CACHE_LINE) _Atomic uint32_t epoch; /* futex: workers sleep on it */
    _Atomic uint32_t n_asleep;
    _Atomic bool stop;
    uint32_t n_threads, n_started, spin;
    worker *workers;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}
static void futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Claims and runs chunks of the job of `epoch` until none is left. */
static void work(pool *p, uint32_t epoch, uint32_t index) {
    for (;;) {
        uint64_t c = atomic_load_explicit(&p->claim, memory_order_acquire);
        if ((uint32_t)(c >> 32) != epoch || (uint32_t)c == 0) return;
        pool_fn fn = atomic_load_explicit(&p->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_relaxed);
        uint32_t n = atomic_load_explicit(&p->n_chunks, memory_order_relaxed);
        if (!atomic_compare_exchange_weak_explicit(&p->claim, &c, c - 1, memory_order_acq_rel, memory_order_relaxed))
            continue;
        fn(ctx, n - (uint32_t)c, index);
        if (atomic_fetch_add(&p->n_done, 1) + 1 == n && atomic_load(&p->caller_sleeps)) futex_wake(&p->n_done, 1);
    }
}

static void *worker_main(void *arg) {
    worker *w = arg;
    pool *p = w->p;
    uint32_t seen = 0;
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        uint32_t now = seen;
        for (uint32_t i = 0; i <= p->spin && now == seen; i++) {
            now = atomic_load_explicit(&p->epoch, memory_order_acquire);
            if (now == seen) PAUSE();
        }
        if (now == seen) {
            atomic_fetch_add(&p->n_asleep, 1);
            if (atomic_load(&p->epoch) == seen) futex_wait(&p->epoch, seen);
            atomic_fetch_sub(&p->n_asleep, 1);
            continue;
        }
        seen = now;
        work(p, now, w->index);
    }
    return NULL;
}

static uint32_t n_cpus_allowed(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : (uint32_t)CPU_COUNT(&set);
}

status pool_open(pool **out, uint32_t n_threads, err *e) {
    *out = NULL;
    if (n_threads < 1 || n_threads > POOL_MAX_THREADS)
        return fail(e, ERR_RANGE, "%u threads: give 1 to %d", n_threads, POOL_MAX_THREADS);
    pool *p = mem_aligned(sizeof *p, CACHE_LINE);
    if (!p) return fail(e, ERR_NOMEM, "thread pool");
    p->n_threads = n_threads;
    p->spin = n_threads > n_cpus_allowed() ? 0 : SPIN_PAUSES; /* more threads than cores: waiting must free the core */
    p->workers = mem_array(n_threads, sizeof *p->workers);
    status s = p->workers ? OK : fail(e, ERR_NOMEM, "thread pool");
    for (uint32_t i = 1; !s && i < n_threads; i++) {
        worker *w = &p->workers[i];
        *w = (worker){.p = p, .index = i};
        int rc = pthread_create(&w->thread, NULL, worker_main, w);
        if (rc)
            s = fail(e, ERR_NOMEM, "cannot start thread %u of %u: %s", i + 1, n_threads, strerror(rc));
        else
            p->n_started = i;
    }
    if (s)
        pool_close(p);
    else
        *out = p;
    return s;
}

void pool_close(pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->epoch, 1);
    futex_wake(&p->epoch, POOL_MAX_THREADS);
    for (uint32_t i = 1; i <= p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
    mem_free(p->workers);
    mem_free(p);
}

uint32_t pool_size(const pool *p) { return p->n_threads; }

static void wait_until_done(pool *p, uint32_t n_chunks) {
    for (uint32_t i = 0; i <= p->spin; i++) {
        if (atomic_load_explicit(&p->n_done, memory_order_acquire) == n_chunks) return;
        PAUSE();
    }
    atomic_store(&p->caller_sleeps, 1);
    for (;;) {
        uint32_t done = atomic_load(&p->n_done);
        if (done == n_chunks) break;
        futex_wait(&p->n_done, done);
    }
    atomic_store(&p->caller_sleeps, 0);
}

void pool_run(pool *p, pool_fn fn, void *ctx, uint32_t n_chunks) {
    if (p->n_threads == 1 || n_chunks <= 1) {
        for (uint32_t i = 0; i < n_chunks; i++) fn(ctx, i, 0);
        return;
    }
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&p->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&p->n_chunks, n_chunks, memory_order_relaxed);
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    uint32_t epoch = atomic_load_explicit(&p->epoch, memory_order_relaxed) + 1;
    atomic_store_explicit(&p->claim, (uint64_t)epoch << 32 | n_chunks, memory_order_release);
    atomic_store(&p->epoch, epoch);
    if (atomic_load(&p->n_asleep)) futex_wake(&p->epoch, (int)p->n_threads);
    work(p, epoch, 0);
    wait_until_done(p, n_chunks);
}
