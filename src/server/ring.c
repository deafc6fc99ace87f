#include "server/ring.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { HEAD_BYTES = 8 };
#define SKIP UINT32_MAX

typedef struct spill spill;
struct spill {
    spill *next;
    size_t n;
    _Alignas(8) unsigned char data[];
};

struct ring {
    unsigned char *data;
    size_t size;
    _Atomic size_t head, tail; /* bytes ever put and taken; head is the putter's, tail the taker's */
    atomic_bool spilling;      /* the list holds records newer than the ring's: what comes goes there too */
    pthread_mutex_t lock;      /* guards first, last, and the clearing of spilling */
    spill *first, *last;
    spill *reserve;    /* putter's */
    spill *list, *now; /* taker's: taken from first; the one handed out */
    size_t before;     /* taker's: records of the ring up to here are older than `list` */
    size_t held;       /* taker's: bytes of the record handed out of the ring */
};

static size_t padded(size_t n) { return HEAD_BYTES + ((n + 7) & ~(size_t)7); }

static bool fill_reserve(ring *r, uint32_t n, size_t bytes) {
    for (uint32_t i = 0; i < n; i++) {
        spill *s = mem_alloc(sizeof *s + bytes);
        if (!s) return false;
        s->next = r->reserve;
        r->reserve = s;
    }
    return true;
}

ring *ring_new(size_t bytes, uint32_t n_last, size_t last_bytes) {
    assert((bytes & (bytes - 1)) == 0 && bytes >= 64);
    ring *r = mem_zalloc(sizeof *r);
    if (!r) return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->size = bytes;
    r->data = mem_alloc(bytes);
    if (r->data && fill_reserve(r, n_last, last_bytes)) return r;
    ring_free(r);
    return NULL;
}

static void free_list(spill *s) {
    while (s) {
        spill *next = s->next;
        mem_free(s);
        s = next;
    }
}

void ring_free(ring *r) {
    if (!r) return;
    free_list(r->first);
    free_list(r->reserve);
    free_list(r->list);
    mem_free(r->now);
    mem_free(r->data);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

static size_t total(const ring_part *part, uint32_t n_parts) {
    size_t n = 0;
    for (uint32_t i = 0; i < n_parts; i++) n += part[i].n;
    return n;
}

static void copy(unsigned char *to, const ring_part *part, uint32_t n_parts) {
    for (uint32_t i = 0; i < n_parts; i++) {
        if (part[i].n) memcpy(to, part[i].p, part[i].n);
        to += part[i].n;
    }
}

static void write_head(ring *r, size_t at, uint32_t n) {
    const uint32_t word[2] = {n, 0};
    memcpy(r->data + (at & (r->size - 1)), word, sizeof word);
}

static bool put_in_ring(ring *r, const ring_part *part, uint32_t n_parts, size_t n) {
    size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    const size_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    const size_t to_end = r->size - (head & (r->size - 1));
    const size_t want = padded(n), skip = to_end < want ? to_end : 0;
    if (n >= SKIP || want > r->size || skip + want > r->size - (head - tail)) return false;
    if (skip) write_head(r, head, SKIP);
    head += skip;
    write_head(r, head, (uint32_t)n);
    copy(r->data + (head & (r->size - 1)) + HEAD_BYTES, part, n_parts);
    atomic_store_explicit(&r->head, head + want, memory_order_release);
    return true;
}

static void put_in_list(ring *r, spill *s, const ring_part *part, uint32_t n_parts, size_t n) {
    s->n = n;
    s->next = NULL;
    copy(s->data, part, n_parts);
    pthread_mutex_lock(&r->lock);
    if (r->last)
        r->last->next = s;
    else
        r->first = s;
    r->last = s;
    atomic_store(&r->spilling, true);
    pthread_mutex_unlock(&r->lock);
}

bool ring_put(ring *r, const ring_part *part, uint32_t n_parts) {
    const size_t n = total(part, n_parts);
    if (!atomic_load(&r->spilling) && put_in_ring(r, part, n_parts, n)) return true;
    spill *s = mem_alloc(sizeof *s + n);
    if (s) put_in_list(r, s, part, n_parts, n);
    return s != NULL;
}

void ring_put_last(ring *r, const ring_part *part, uint32_t n_parts) {
    const size_t n = total(part, n_parts);
    if (!atomic_load(&r->spilling) && put_in_ring(r, part, n_parts, n)) return;
    spill *s = r->reserve;
    assert(s);
    r->reserve = s->next;
    put_in_list(r, s, part, n_parts, n);
}

/* The record at the tail; a skip before it is passed. There is one. */
static const void *take_from_ring(ring *r, size_t *n) {
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint32_t len;
    memcpy(&len, r->data + (tail & (r->size - 1)), sizeof len);
    if (len == SKIP) {
        tail += r->size - (tail & (r->size - 1));
        atomic_store_explicit(&r->tail, tail, memory_order_release);
        memcpy(&len, r->data, sizeof len);
    }
    *n = len;
    r->held = padded(len);
    return r->data + (tail & (r->size - 1)) + HEAD_BYTES;
}

static void release(ring *r) {
    const size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (r->held) atomic_store_explicit(&r->tail, tail + r->held, memory_order_release);
    r->held = 0;
    mem_free(r->now);
    r->now = NULL;
}

/* While spilling is set the ring's head stands still, so what it holds is older than the list. */
static void take_list(ring *r) {
    pthread_mutex_lock(&r->lock);
    r->list = r->first;
    r->first = r->last = NULL;
    r->before = atomic_load(&r->head);
    atomic_store(&r->spilling, false);
    pthread_mutex_unlock(&r->lock);
}

const void *ring_next(ring *r, size_t *n) {
    release(r);
    const size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (!r->list) {
        if (tail != atomic_load_explicit(&r->head, memory_order_acquire)) return take_from_ring(r, n);
        if (!atomic_load(&r->spilling)) return NULL;
        take_list(r);
    }
    if (tail != r->before) return take_from_ring(r, n);
    r->now = r->list;
    r->list = r->now->next;
    *n = r->now->n;
    return r->now->data;
}
